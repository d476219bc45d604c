"""ARMA(1, 1) given that nothing happened before, as one vectorized site."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class Arma11(TorchDistribution):
    """Series of ``length`` values with ``y_t = mu + phi y_{t-1} + theta e_{t-1} + e_t``, e normal.

    Before the first value stand ``mu`` itself and an error of 0, as in the Stan program.

    Given the series, its errors obey the recursion ``e_t = (y_t - mu - phi y_{t-1}) - theta e_{t-1}``, whose
    solution is ``prod_k (1 + (-theta)^(2^k) B^(2^k))`` applied to what stands in brackets, with B the shift
    by one: log2(length) steps, exact for every theta, also where the errors grow.

    Parameters
    ----------
    mu, phi, theta, noise
        Constant, autoregression, moving average, standard deviation of the errors; scalars.
    length
        Of the series.

    Source: Hamilton (1994), Time Series Analysis, section 5.6 (the conditional likelihood).

    Examples
    --------
    >>> import torch
    >>> law = Arma11(*torch.tensor([1.0, 0.5, 3.0, 2.0]), length=3)
    >>> law.errors(torch.tensor([2.5, 5.25, 3.125]))
    tensor([ 1.0000,  0.0000, -0.5000])
    """

    arg_constraints = {
        "mu": constraints.real,
        "phi": constraints.real,
        "theta": constraints.real,
        "noise": constraints.positive,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, mu: Tensor, phi: Tensor, theta: Tensor, noise: Tensor, length: int, validate_args: Any = None
    ) -> None:
        self.mu, self.phi, self.theta, self.noise, self.length = mu, phi, theta, noise, length
        super().__init__(torch.Size(), torch.Size((length,)), validate_args=validate_args)

    def errors(self, value: Tensor) -> Tensor:
        """Error of each value given those before it, in the shape of ``value``."""
        before = torch.cat([self.mu.expand(value[..., :1].shape), value[..., :-1]], -1)
        error = value - self.mu - self.phi * before
        factor, shift = -self.theta, 1
        while shift < self.length:
            late = error[..., shift:] + factor * error[..., :-shift]
            error = torch.cat([error[..., :shift], late], -1)
            factor, shift = factor.square(), 2 * shift
        return error

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of whole series, (*sample_shape,), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        squares = (
            self.errors(value).square().sum(-1)
        )  # summed first: one number per series, not one per value
        constant = self.length * (self.noise.log() + 0.5 * math.log(2 * math.pi))
        return -0.5 * squares / self.noise**2 - constant

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw whole series, (*sample_shape, length), differentiable in the parameters."""
        shape = self._extended_shape(torch.Size(sample_shape))
        error = self.noise * torch.randn(shape, dtype=self.noise.dtype, device=self.noise.device)
        last, before, values = self.mu.expand(shape[:-1]), torch.zeros_like(error[..., 0]), []
        for now in error.unbind(-1):
            last = self.mu + self.phi * last + self.theta * before + now
            values.append(last)
            before = now
        return torch.stack(values, -1)
