"""Classes that occur more or less often than in training: correct p(y | x), and find the new p(y).

If p(x | y) is what it was and only p(y) has changed to p'(y), then p'(y | x) is p(y | x) p'(y) / p(y),
normalized: any classifier can be corrected. ``probabilities`` is (rows, classes) and sums to one in every
row, shares are (classes,).

Source: Saerens, Latinne and Decaestecker (2002), Adjusting the outputs of a classifier to new a priori
probabilities: a simple procedure, Neural Computation 14.
"""

from __future__ import annotations

from torch import Tensor

# EM moves by its own error times a rate below 1; where classes overlap little it is far below.
LARGEST_CHANGE, STEPS = 1e-10, 20_000


def reweighted(probabilities: Tensor, trained: Tensor, now: Tensor) -> Tensor:
    """Return p'(y | x), (rows, classes), where p(y) has changed from ``trained`` to ``now``.

    Raises
    ------
    ValueError
        If the shapes do not belong together, or ``trained`` has a class that never occurred.

    Examples
    --------
    >>> import torch
    >>> even, rare = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])
    >>> reweighted(torch.tensor([[0.5, 0.5], [0.25, 0.75]]), even, rare).tolist()
    [[0.75, 0.25], [0.5, 0.5]]
    """
    p, trained, now = _checked(probabilities, trained, now)
    joint = p * (now / trained)
    return joint / joint.sum(-1, keepdim=True)


def shares(probabilities: Tensor, trained: Tensor) -> Tensor:
    """Return the p'(y), (classes,), under which unlabelled rows are most likely, by EM.

    ``probabilities`` are those of a classifier for these rows, learned where p(y) was ``trained``; no label
    of the new rows is needed. Every step averages the corrected probabilities.

    Raises
    ------
    ValueError
        As :func:`reweighted`; and if EM has not settled after 20,000 steps.

    Examples
    --------
    >>> import torch
    >>> even = torch.tensor([0.5, 0.5])
    >>> shares(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), even).tolist()
    [0.75, 0.25]
    """
    now = trained.double()
    for _ in range(STEPS):
        before, now = now, reweighted(probabilities, trained, now).mean(0)
        if float((now - before).abs().max()) < LARGEST_CHANGE:
            return now
    raise ValueError(
        f"probabilities: EM has not settled after {STEPS:,} steps; do the classes overlap wholly?"
    )


def _checked(p: Tensor, trained: Tensor, now: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if p.ndim != 2 or trained.shape != p.shape[1:] or now.shape != p.shape[1:]:
        raise ValueError(
            "probabilities, trained, now: expected (rows, classes) and twice (classes,), "
            f"got {tuple(p.shape)}, {tuple(trained.shape)} and {tuple(now.shape)}"
        )
    if not (trained > 0).all():
        raise ValueError(f"trained: expected every class to have occurred, got {trained.tolist()}")
    return p.double(), trained.double(), now.double()
