"""Finite mixtures of round Gaussians, one or several to a class: exact wherever they are used."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from experiments.truth.law import Law


class GaussianMixture(Law):
    """x | y ~ an equal mixture of Normal(mean, stddev^2 I) over the components of class y.

    Parameters
    ----------
    means
        (classes, components, dimensions).
    stddev
        Of every coordinate of every component.
    weights
        p(y), (classes,); equal by default.
    bounds
        As for :class:`experiments.truth.law.Law`.

    Attributes
    ----------
    noise_stddev
        ``stddev`` as it was given; of a distribution that name is taken.
    modes
        The means, (classes, dimensions), where every class has one component, otherwise None:
        ``experiments.compare.modes(x, law.modes, law.noise_stddev)`` counts the rows near them.

    Raises
    ------
    ValueError
        If ``means`` has other than three dimensions or ``stddev`` is not above 0.

    Examples
    --------
    >>> law = GaussianMixture(torch.tensor([[[-2.0, 0.0]], [[2.0, 0.0]]]), stddev=1.5)
    >>> law.probabilities(torch.zeros(2)).tolist()
    [0.5, 0.5]
    """

    def __init__(
        self,
        means: Tensor,
        stddev: float,
        weights: Tensor | None = None,
        bounds: tuple[float, float] = (-4.0, 4.0),
    ):
        if means.ndim != 3:
            raise ValueError(f"means: expected (classes, components, dimensions), got {tuple(means.shape)}")
        if not stddev > 0:
            raise ValueError(f"stddev: expected a number above 0, got {stddev}")
        self.means, self.noise_stddev = means.double(), stddev
        if weights is None:
            weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
        super().__init__(weights, means.shape[2], bounds)
        if means.shape[1] == 1:
            self.modes = self.means[:, 0]

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | y): (..., dimensions) -> (..., classes)."""
        classes, components, dimensions = self.means.shape
        centres = self.means.reshape(-1, dimensions)
        # Through a matrix product the distance of near points would lose half its digits.
        apart = torch.cdist(
            x.reshape(-1, dimensions), centres, compute_mode="donot_use_mm_for_euclid_dist"
        ).reshape(*x.shape[:-1], classes, components)
        log_kernel = torch.logsumexp(-0.5 * (apart / self.noise_stddev) ** 2, -1)
        return (
            log_kernel
            - math.log(components)
            - dimensions * math.log(self.noise_stddev * math.sqrt(2 * math.pi))
        )

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every label: (rows,) -> (rows, dimensions)."""
        component = torch.randint(self.means.shape[1], y.shape)
        means = self.means[y, component]
        return means + self.noise_stddev * torch.randn(means.shape, dtype=torch.float64)
