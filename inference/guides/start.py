"""Where a fit begins: the mode by L-BFGS, and the best of a few Gaussians around it.

Never the bare mode: in a hierarchical story it is degenerate, and the Gaussian with the best ELBO may be
much wider or narrower than the curvature there says (Zhang, Carpenter, Gelman and Vehtari 2022,
"Pathfinder", JMLR 23, chooses along the whole path for this reason).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from inference.density import LogDensity
from inference.guides.gaussian import Gaussian

_STEPS = 60
_REACH = 2.0  # starts are uniform in (-2, 2), as in Stan


def overdispersed(density: LogDensity, generator: torch.Generator, tries: int = 100) -> Tensor:
    """Draw a starting point with a finite density and gradient, uniform in (-2, 2).

    Raises:
        ValueError: if none is found; it names what was tried.
    """
    for attempt in range(tries):
        reach = _REACH / 2 ** (attempt // 20)
        point = (2 * torch.rand(density.size, generator=generator, dtype=torch.float64) - 1) * reach
        value, grad = density.value_and_grad(point[None])
        if bool(torch.isfinite(value).all() and torch.isfinite(grad).all()):
            return point
    raise ValueError(
        f"story: no start with a finite log density and gradient was found in {tries} tries (uniform in "
        f"(-{_REACH:g}, {_REACH:g}) in unconstrained space, then closer to 0). Look for a prior or a "
        f"likelihood that is -inf or NaN at ordinary values: `ppl check` names the site."
    )


def mode(density: LogDensity, point: Tensor) -> Tensor:
    """Climb towards a mode by L-BFGS, a bounded number of steps (SciPy's implementation)."""
    from scipy.optimize import minimize

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = density.value_and_grad(torch.from_numpy(x)[None])
        if not bool(torch.isfinite(value).all() and torch.isfinite(grad).all()):
            return 1e300, np.zeros_like(x)
        return -float(value), -grad[0].numpy()

    options = {"maxiter": _STEPS, "maxcor": 10}
    result = minimize(objective, point.numpy(), jac=True, method="L-BFGS-B", options=options)
    found = torch.from_numpy(np.asarray(result.x, dtype=np.float64))
    return found if bool(torch.isfinite(found).all()) else point


def curvature(density: LogDensity, point: Tensor, step: float = 1e-4) -> Tensor:
    """Negative Hessian of the log density (size, size), from one batch of gradient differences."""
    shift = step * torch.eye(density.size, dtype=torch.float64)
    _, grad = density.value_and_grad(torch.cat([point + shift, point - shift]))
    up, down = grad.chunk(2)
    hessian = (up - down) / (2 * step)
    return -(hessian + hessian.T) / 2


def laplace(density: LogDensity, point: Tensor) -> Gaussian:
    """The Laplace approximation at a point; directions without curvature get unit scale."""
    values, vectors = torch.linalg.eigh(torch.nan_to_num(curvature(density, point)))
    largest = max(float(values.max()), 1e-8)
    variance = torch.where(values > 1e-10 * largest, 1 / values.clamp(min=1e-300), 1.0)
    covariance = vectors @ torch.diag(variance) @ vectors.T
    return Gaussian(point, torch.linalg.cholesky((covariance + covariance.T) / 2))


def best_start(density: LogDensity, candidates: list[Gaussian], e: Tensor) -> Gaussian:
    """The candidate with the best ELBO on the given standardized draws."""
    elbos = []
    for guide in candidates:
        elbo = float(density.log_prob(guide.scaled(e)).mean()) + guide.entropy()
        elbos.append(elbo if math.isfinite(elbo) else -math.inf)
    return candidates[int(np.argmax(elbos))]
