"""The tests of :func:`experiments.compare.two_sample`, one per file, found by file name.

Each file defines ``compare(x, y, permutations, generator) -> Comparison`` for rows (n, d) and
(m, d) in float64.
"""
