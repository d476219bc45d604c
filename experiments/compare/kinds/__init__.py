"""The divergences of :func:`experiments.compare.divergence`, one per file, found by file name.

Each file writes its divergence as a sum of two expectations of r = log p(x) - log q(x),

    D(p, q) = E_p[from_p(r)] + E_q[from_q(r)],

and defines one of the two functions or both, (num_samples,) -> (num_samples,); the one that is
left out counts as zero.
"""
