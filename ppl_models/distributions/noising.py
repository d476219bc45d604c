"""A row that turns into noise, step by step: the chain of diffusion that nobody trains."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class Noising(TorchDistribution):
    """q(z_1 .. z_T | x): every step shrinks the one before and adds noise, z_0 = x.

    z_t ~ Normal(sqrt(1 - variance_t) z_(t-1), variance_t I). One draw is the whole path, (T, features).

    Parameters
    ----------
    x
        Where the path starts, (*batch, features).
    variance
        Of the noise of every step, (T,), between 0 and 1.

    Source: Ho, Jain and Abbeel (2020), "Denoising diffusion probabilistic models", equation 2.

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     Noising(torch.ones(3, 2), torch.full((5,), 0.3)).sample().shape
    torch.Size([3, 5, 2])
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(self, x: Tensor, variance: Tensor) -> None:
        self.x, self.step_variance = x, variance
        super().__init__(x.shape[:-1], torch.Size([len(variance), x.shape[-1]]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Noising:
        """Return the same law for more rows."""
        return Noising(self.x.expand(*batch_shape, self.x.shape[-1]), self.step_variance)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw paths, (*sample_shape, *batch, T, features)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        e = torch.randn(shape, dtype=self.x.dtype, device=self.x.device)
        kept = (1 - self.step_variance).cumprod(0).sqrt()[:, None]  # share of x that is left at every step
        # A recursion z_t = a_t z_(t-1) + b_t e_t, solved: z_t = kept_t (x + sum_s b_s e_s / kept_s).
        noise = (e * self.step_variance.sqrt()[:, None] / kept).cumsum(-2)
        return kept * (self.x[..., None, :] + noise)

    def log_prob(self, path: Tensor) -> Tensor:
        """Log density of whole paths, all steps at once, in nats: (*batch)."""
        start = self.x[..., None, :].expand(*path.shape[:-2], 1, path.shape[-1])
        before = torch.cat([start, path[..., :-1, :]], -2)
        keep, stddev = (1 - self.step_variance).sqrt()[:, None], self.step_variance.sqrt()[:, None]
        return dist.Normal(keep * before, stddev).log_prob(path).sum((-2, -1))
