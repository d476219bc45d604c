"""An autoregression AR(p) given its first p values, as one vectorized site."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Normal, constraints


def lags(first: Tensor, value: Tensor) -> Tensor:
    """Return the ``order`` values before each value, the nearest first: (..., length, order).

    Args:
        first: the values before the series, in the order of time, (..., order).
        value: the series, (..., length).

    Example:
        >>> import torch
        >>> lags(torch.tensor([5.0, 6.0]), torch.tensor([7.0, 8.0, 9.0]))
        tensor([[6., 5.],
                [7., 6.],
                [8., 7.]])
    """
    order, length = first.shape[-1], value.shape[-1]
    shape = torch.broadcast_shapes(first.shape[:-1], value.shape[:-1])
    whole = torch.cat([first.expand(*shape, order), value.expand(*shape, length)], -1)
    return torch.stack([whole[..., order - k : order - k + length] for k in range(1, order + 1)], -1)


class Autoregressive(TorchDistribution):
    """The ``length`` values after ``first``, each ``constant + sum_k phi_k x_{t-k}`` plus normal noise.

    It is conditional on the first values: it says nothing of their law, and needs no stationarity.

    Args:
        first: the values before the series, in the order of time, (..., order).
        constant: (...).
        phi: coefficients, that of the nearest value first, (..., order).
        noise: standard deviation of the noise, (...).
        length: number of values after the first ones.

    Raises:
        ValueError: if ``first`` and ``phi`` are not of the same order.

    Source: Hamilton (1994), Time Series Analysis, section 5.3 (the conditional likelihood).

    Example:
        >>> import torch
        >>> one = torch.tensor(1.0)
        >>> series = Autoregressive(torch.tensor([3.0]), one, torch.tensor([0.5]), one, length=2)
        >>> series.log_prob(torch.tensor([2.5, 2.25]))
        tensor(-1.8379)
    """

    arg_constraints = {
        "first": constraints.real_vector,
        "constant": constraints.real,
        "phi": constraints.real_vector,
        "noise": constraints.positive,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        first: Tensor,
        constant: Tensor,
        phi: Tensor,
        noise: Tensor,
        length: int,
        validate_args: bool | None = None,
    ) -> None:
        if first.shape[-1] != phi.shape[-1]:
            raise ValueError(
                f"first: expected as many values as phi has coefficients, {phi.shape[-1]}, got "
                f"{first.shape[-1]} (shapes {tuple(first.shape)} and {tuple(phi.shape)})."
            )
        self.first, self.constant, self.phi, self.noise = first, constant, phi, noise
        self.length = length
        batch = torch.broadcast_shapes(first.shape[:-1], constant.shape, phi.shape[:-1], noise.shape)
        super().__init__(batch, torch.Size((length,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Autoregressive:
        """Return the same law with a larger batch shape; parameters stay as they are and broadcast."""
        new = self._get_checked_instance(Autoregressive, _instance)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name))
        new.length = self.length
        super(Autoregressive, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of whole series, (*sample_shape, *batch_shape), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        past = lags(self.first, value)
        mean = self.constant.unsqueeze(-1) + (past @ self.phi.unsqueeze(-1)).squeeze(-1)
        log_p = Normal(mean, self.noise.unsqueeze(-1), validate_args=False).log_prob(value).sum(-1)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw whole series, (*sample_shape, *batch_shape, length), differentiable in the parameters.

        The recursion is a triangular system of equations in the series, solved at once.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        order = self.first.shape[-1]
        normal = torch.randn(shape, dtype=self.phi.dtype, device=self.phi.device)
        right = self.constant.unsqueeze(-1) + self.noise.unsqueeze(-1) * normal
        before = lags(self.first, torch.zeros_like(right))  # the first values' own contribution
        right = right + (before @ self.phi.unsqueeze(-1)).squeeze(-1)
        left = torch.eye(self.length, dtype=normal.dtype, device=normal.device)
        for k in range(1, min(order, self.length - 1) + 1):
            band = self.phi[..., k - 1, None].expand(*self.phi.shape[:-1], self.length - k)
            left = left - torch.diag_embed(band, offset=-k)
        solved = torch.linalg.solve_triangular(left, right.unsqueeze(-1), upper=False, unitriangular=True)
        return solved.squeeze(-1)
