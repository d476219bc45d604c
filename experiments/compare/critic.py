"""How far apart two laws are, to a critic: the lower bound of the Jensen-Shannon divergence by training.

A critic D says of a row with what probability it comes from the first law. Its value, E_p[log D] +
E_q[log(1 - D)], is at most -log 4 + 2 JS(p, q), which the best critic p / (p + q) reaches. So a trained one
bounds JS from below, from draws alone; what it lacks is what its network and its training lack.

Source: Goodfellow et al. (2014), Generative adversarial nets, theorem 1; Nowozin, Cseke and Tomioka (2016),
f-GAN, for the bound.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

__all__ = ["train", "value_terms"]


def train(
    critic: nn.Module,
    p: Distribution,
    q: Distribution,
    steps: int = 1000,
    batch_size: int = 1000,
    rate: float = 0.003,
    seed: int = 0,
) -> Tensor:
    """Train a critic in place by Adam on fresh draws of both laws, its rate falling to zero.

    Parameters
    ----------
    critic
        Rows (n, d), float32 -> log odds (n, 1) that a row is p's.
    p, q
        Laws over rows (d,), or over numbers where d is 1.
    steps, batch_size, rate
        Of the training; fresh draws in every step, so that nothing is learned by heart.
    seed
        Of the draws; the global random state is left as it was.

    Returns
    -------
    Tensor
        (steps,): the value of every batch before its step, in nats.

    Raises
    ------
    ValueError
        If ``steps`` or ``batch_size`` is below 1.

    Examples
    --------
    >>> from torch.distributions import Normal
    >>> line = nn.Linear(1, 1)
    >>> _ = nn.init.zeros_(line.weight)
    >>> _ = train(line, Normal(2.0, 1.0), Normal(-2.0, 1.0), steps=300, rate=0.05)
    >>> bool(line.weight > 2)        # the best critic's log odds are 4 x
    True
    """
    for name, number in (("steps", steps), ("batch_size", batch_size)):
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    adam = torch.optim.Adam(critic.parameters(), lr=rate, betas=(0.9, 0.99))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    history = torch.empty(steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            first, second = (_rows(law, batch_size) for law in (p, q))
            at_first, at_second = value_terms(critic, first, second)
            value = at_first.mean() + at_second.mean()
            adam.zero_grad()
            (-value).backward()
            adam.step()
            falling.step()
            history[step] = value.detach()
    return history


def value_terms(critic: nn.Module, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return log D at rows of the first law and log(1 - D) at rows of the second, in nats: (n,), (m,).

    Examples
    --------
    >>> know_nothing = nn.Linear(1, 1)
    >>> _ = nn.init.zeros_(know_nothing.weight), nn.init.zeros_(know_nothing.bias)
    >>> a, b = value_terms(know_nothing, torch.ones(2, 1), torch.zeros(3, 1))
    >>> round((a.mean() + b.mean()).item(), 4)         # -log 4
    -1.3863
    """
    return -softplus(-critic(first))[:, 0], -softplus(critic(second))[:, 0]


def _rows(law: Distribution, rows: int) -> Tensor:
    return law.sample((rows,)).reshape(rows, -1).float()
