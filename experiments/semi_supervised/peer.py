"""The peer of ``semi_supervised``: the guide's classifier network, trained on labelled images alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.truth.images.digits import PIXELS, Images
from ppl_models.networks.mlp import mlp

DIGITS = 10
DECAYS = (0.1, 0.3, 1.0, 3.0, 10.0)  # weight decay of AdamW: a share of the rate, per step
FOLDS = 5
RATE = 3e-3


def trained(images: Images, hidden: int, decay: float, steps: int, seed: int) -> nn.Module:
    """Train ``mlp(64, hidden, 10)`` by log loss on all images at once, with AdamW.

    Parameters
    ----------
    images
        x (rows, 64), ink between 0 and 1, and y (rows,).
    hidden, decay, steps
        Units of each hidden layer; weight decay; steps of the optimizer.
    seed
        Of the starting weights; the global random state is not touched.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = mlp(PIXELS, hidden, DIGITS)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(images.x.float()), images.y).backward()
        optimizer.step()
    return network.eval()


def tuned(images: Images, hidden: int, steps: int, seed: int, decays: Sequence[float] = DECAYS) -> float:
    """The weight decay with the smallest 5-fold cross-validated log loss."""
    from sklearn.model_selection import StratifiedKFold

    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(images.x, images.y))

    def loss(decay: float) -> float:
        total = 0.0
        for kept, left in folds:
            network = trained(Images(images.x[kept], images.y[kept]), hidden, decay, steps, seed)
            with torch.no_grad():
                missed = cross_entropy(network(images.x[left].float()), images.y[left], reduction="sum")
            total += missed.item()
        return total

    return min(decays, key=loss)


def probabilities(network: nn.Module, x: Tensor) -> Tensor:
    """p(y | x) of the network, (rows, 10), float64."""
    with torch.no_grad():
        return network(x.float()).double().softmax(-1)
