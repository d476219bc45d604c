"""Planted faults: what goes wrong inside a fit on purpose, to see whether its certificate notices.

Each is a context manager; fits inside the block have the fault. They reach into ``inference`` by name, and
fail loudly when what they replace is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from inference import ladder
from inference.checks.importance import weigh
from inference.guides import full_rank
from inference.guides.gaussian import Gaussian
from inference.guides.mixture import Mixture
from inference.guides.natural_gradient import Fitted
from inference.story import bijections as jacobians
from inference.story import handlers
from inference.story.bijections import bijection

NARROW = 0.8  # of every standard deviation


class _Forgetful:
    """A bijection without its Jacobian."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, x: Tensor) -> Tensor:
        """The map as it is."""
        value: Tensor = self.transform(x)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transform, name)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Nothing, of the right shape."""
        return 0 * self.transform.log_abs_det_jacobian(x, y)


@contextmanager
def missing_jacobian() -> Iterator[None]:
    """The map onto a constrained support forgets its Jacobian, in the graph and in plain Pyro alike."""

    def faulty(support: Any) -> Any:
        return _Forgetful(bijection(support))

    with patch.object(handlers, "bijection", faulty), patch.object(jacobians, "bijection", faulty):
        yield


@contextmanager
def narrow_guide() -> Iterator[None]:
    """The fitted guide's standard deviations are .8 of what they were; its density says so."""

    def faulty(*args: Any, **kwargs: Any) -> Fitted:
        fitted = _FIT(*args, **kwargs)
        narrow = Gaussian(fitted.guide.loc, NARROW * fitted.guide.scale)
        return replace(fitted, guide=narrow, exact=torch.zeros_like(fitted.exact))

    with patch.object(full_rank, "fit", faulty):
        yield


@contextmanager
def narrow_sampler() -> Iterator[None]:
    """Guides draw .8 as wide as the density that they report: the weights look perfect."""

    def faulty(self: Mixture, count: int, generators: list[torch.Generator]) -> Tensor:
        z = _SAMPLE(self, count, generators)
        middle = z.mean(1, keepdim=True)
        return middle + NARROW * (z - middle)

    with patch.object(Mixture, "sample", faulty):
        yield


@contextmanager
def narrowed_after_weighing() -> Iterator[None]:
    """Draws are pulled together after they were weighed, as by a wrong scale on the way out."""

    def faulty(*args: Any, **kwargs: Any) -> Any:
        weighed = _WEIGH(*args, **kwargs)
        moved = [
            replace(r, z=r.z.mean(0) + NARROW * (r.z - r.z.mean(0)), resampled=r.resampled)
            for r in weighed.replicates
        ]
        return replace(weighed, replicates=moved)

    with patch.object(ladder, "weigh", faulty):
        yield


@contextmanager
def dropped_modes() -> Iterator[None]:
    """Every restart keeps the one mode that the best of them found, and drops all others."""

    def faulty(*args: Any, **kwargs: Any) -> Fitted:
        fitted = _FIT(*args, **kwargs)
        best = int(fitted.elbo.argmax())
        same = torch.full((len(fitted.elbo),), best)
        return Fitted(
            Gaussian(fitted.guide.loc[same], fitted.guide.scale[same]), fitted.elbo[same],
            fitted.converged[same], fitted.exact[same],
        )  # fmt: skip

    with patch.object(full_rank, "fit", faulty), patch.object(ladder, "mixed", _single):
        yield


def stuck_restart(loc: Tensor, factor: Tensor, elbo: float) -> Callable[[], Any]:
    """The first restart sits in a local optimum, a Gaussian there; the others keep one mode each.

    Parameters
    ----------
    loc, factor, elbo
        Of the local optimum: (size,), (size, size) and nats.
    """

    @contextmanager
    def fault() -> Iterator[None]:
        def faulty(*args: Any, **kwargs: Any) -> Fitted:
            fitted = _FIT(*args, **kwargs)
            others = int(fitted.elbo.argmax())
            guides = [Gaussian(loc, factor)] + [fitted.guide[others]] * (len(fitted.elbo) - 1)
            values = fitted.elbo[others].repeat(len(fitted.elbo))
            values[0] = elbo
            return replace(fitted, guide=Gaussian.stack(guides), elbo=values)

        with patch.object(full_rank, "fit", faulty), patch.object(ladder, "mixed", _single):
            yield

    return fault


@contextmanager
def unchecked(*names: str) -> Iterator[None]:
    """Switch checks off by name in the ladder: "departures_from", "missed_mass" or "uncovered_masses"."""
    nothing: dict[str, Callable[..., Any]] = {
        "departures_from": lambda *args: [],
        "missed_mass": lambda *args: 0.0,
        "uncovered_masses": lambda *args: torch.zeros(1),
    }
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(ladder, name, nothing[name]))
        yield


def _single(problems: Any, fitted: Fitted, *rest: Any, **options: Any) -> Mixture:
    return Mixture.single(fitted.guide, fitted.exact)


_FIT, _SAMPLE, _WEIGH = full_rank.fit, Mixture.sample, weigh
