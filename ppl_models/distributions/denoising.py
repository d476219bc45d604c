"""Noise that turns into a row, step by step: the chain of diffusion that is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl

from ppl_models.distributions.noising import Noising


class Denoising(TorchDistribution):
    """p(z_T) p(z_(T-1) | z_T) .. p(z_1 | z_2): noise, made less noisy step by step.

    z_T ~ Normal(0, I); z_(t-1) ~ Normal(mean(z_t, t), stddev_t^2 I) for t = T .. 2. A path is (T, features),
    its first row z_1. A draw takes T - 1 calls of ``mean``, one after the other; a density one call.

    Parameters
    ----------
    mean
        Function of z (*batch, times, features) and t (*batch, times) or (times,), integers 1 .. T: the
        mean of z_(t-1).
    stddev
        Of every step's noise, (T,); that of the first step, from z_1 to x, is not used here.
    features
        Length of a row.
    batch_shape
        Of the rows.
    looks
        How many times t a divergence from a :class:`~ppl_models.distributions.noising.Noising` looks at in
        every row; None looks at all.

    Source: Ho, Jain and Abbeel (2020), "Denoising diffusion probabilistic models", equation 1.

    Examples
    --------
    >>> import torch
    >>> halve = lambda z, t: z / 2
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     path = Denoising(halve, torch.full((5,), 0.3), features=2).sample((7,))
    >>> path.shape, Denoising(halve, torch.full((5,), 0.3), features=2).log_prob(path).shape
    (torch.Size([7, 5, 2]), torch.Size([7]))
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        mean: Callable[[Tensor, Tensor], Tensor],
        stddev: Tensor,
        features: int,
        batch_shape: Any = (),
        looks: int | None = None,
    ) -> None:
        self.mean_of, self.step_stddev, self.features, self.looks = mean, stddev, features, looks
        super().__init__(torch.Size(batch_shape), torch.Size([len(stddev), features]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Denoising:
        """Return the same law for more rows."""
        return Denoising(self.mean_of, self.step_stddev, self.features, batch_shape, self.looks)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw paths, (*sample_shape, *batch, T, features)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        e = torch.randn(shape, dtype=self.step_stddev.dtype, device=self.step_stddev.device)
        steps = torch.arange(1, len(self.step_stddev) + 1, device=e.device)
        path = [e[..., -1:, :]]
        for t in range(len(steps), 1, -1):
            mean = self.mean_of(path[-1], steps[t - 1 : t])
            path.append(mean + self.step_stddev[t - 1] * e[..., t - 2 : t - 1, :])
        return torch.cat(path[::-1], -2)

    def log_prob(self, path: Tensor) -> Tensor:
        """Log density of whole paths, all steps in one call of ``mean``, in nats: (*batch)."""
        steps = torch.arange(2, len(self.step_stddev) + 1, device=path.device)
        last = dist.Normal(torch.zeros_like(path[..., -1, :]), 1.0).log_prob(path[..., -1, :]).sum(-1)
        stddev = self.step_stddev[1:, None]
        each = dist.Normal(self.mean_of(path[..., 1:, :], steps), stddev).log_prob(path[..., :-1, :])
        return last + each.sum((-2, -1))


@register_kl(Noising, Denoising)
def divergence(q: Noising, p: Denoising) -> Tensor:
    """Estimate KL(q || p) of every row without bias, in nats: (*batch).

    Written backwards, q is q(z_T | x) prod_t q(z_(t-1) | z_t, x), all Gaussian, so that each step's
    divergence given z_t is known. What is drawn is z_t, at ``p.looks`` times t of every row, one from each
    of as many equal stretches of the way. Much less noisy than log q - log p of a drawn path, whose own
    steps' noise it holds no more.

    Source: Ho, Jain and Abbeel (2020), equations 5 to 8.
    """
    kept = (1 - q.step_variance).cumprod(0)
    t, weight = _times(len(kept), p.looks, q.batch_shape, q.x.device)
    now, before = kept[t - 1, None], kept[t - 2, None]
    variance = q.step_variance[t - 1, None]
    start = q.x[..., None, :]
    z = now.sqrt() * start + (1 - now).sqrt() * torch.randn(
        *q.batch_shape, t.shape[-1], q.x.shape[-1], dtype=q.x.dtype, device=q.x.device
    )
    mean = (before.sqrt() * variance * start + (1 - variance).sqrt() * (1 - before) * z) / (1 - now)
    stddev = (variance * (1 - before) / (1 - now)).sqrt()
    step = _gaussians(mean, stddev, p.mean_of(z, t), p.step_stddev[t - 1, None])
    end = _gaussians(kept[-1].sqrt() * q.x, (1 - kept[-1]).sqrt(), torch.zeros_like(q.x), kept.new_ones(()))
    return end.sum(-1) + weight * step.sum((-2, -1))


def _times(steps: int, looks: int | None, batch: torch.Size, device: torch.device) -> tuple[Tensor, float]:
    """Times 2 .. steps, all or ``looks`` of them per row, and what each of them stands for."""
    count = steps - 1
    if looks is None or looks >= count:
        return torch.arange(2, steps + 1, device=device), 1.0
    where = torch.arange(looks, device=device) + torch.rand(*batch, looks, device=device)
    return 2 + (where / looks * count).long().clamp(max=count - 1), count / looks


def _gaussians(mean: Tensor, stddev: Tensor, other_mean: Tensor, other_stddev: Tensor) -> Tensor:
    """KL between Gaussians, elementwise."""
    ratio = (stddev / other_stddev) ** 2
    return ((mean - other_mean) / other_stddev) ** 2 / 2 + (ratio - 1 - ratio.log()) / 2
