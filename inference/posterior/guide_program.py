"""A fitted guide as a Pyro program, for Pyro's own tools (``Predictive``, ``Trace_ELBO``)."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from inference.answers.result import Fit
from inference.density.inverse import placed_at
from inference.guides.flow import Flow
from inference.guides.mixture import Mixture
from inference.guides.serialization import Family
from inference.story.call import Call
from inference.story.inspection import inspect_story


class GuideProgram:
    """Samples the story's unknowns from the fitted family, under their own site names.

    Called like the story. The family is drawn in unconstrained space, and each site's point mass carries the
    Jacobian of its map, as in Pyro's autoguides, so that Pyro's ELBOs are right. Sites whose shape depends on
    the rows are left out when the story is called with other rows than it was fitted to: they are drawn from
    the story itself then.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> from pyro.infer import Predictive
        >>> from inference import fit
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> posterior = fit(story, {"x": torch.tensor([3.0, 5.0, 4.0, 8.0])})
        >>> with torch.random.fork_rng():
        ...     Predictive(story, guide=posterior.guide, num_samples=7)(9)["x"].shape
        torch.Size([7, 9])
    """

    def __init__(self, family: Family, fit: Fit) -> None:
        self.family, self.fit = family, fit

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Sample every unknown site; returns them by name."""
        density = self.fit.log_density
        dtype = torch.get_default_dtype()
        z = pyro.sample("_unconstrained", _distribution(self.family), infer={"is_auxiliary": True})
        values = density.constrain(z[None].double())
        sites = density.structure.sample_sites
        shapes = self._shapes(args, kwargs)
        with density.structure.call.room(), torch.no_grad():
            jacobian = placed_at(density, {n: v[0] for n, v in values.items()}).log_det
        out = {}
        for name in density.names:
            if name in sites and shapes.get(name) == sites[name].shape:
                value = values[name][0].to(dtype)
                log_density = -jacobian[name].to(dtype) if name in jacobian else 0.0
                point = dist.Delta(value, log_density, event_dim=value.dim())
                out[name] = pyro.sample(name, point)
        return out

    def _shapes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, torch.Size]:
        structure, _ = inspect_story(Call.bind(self.fit.structure.call.story, args, kwargs))
        return {name: site.shape for name, site in structure.sites.items()}


def _distribution(family: Family) -> Any:
    """The family as a Pyro distribution; of a mixture, its Gaussian components."""
    if isinstance(family, Mixture):
        chosen = dist.Categorical(logits=family.log_weight)
        return dist.MixtureSameFamily(chosen, _distribution(family.parts))
    if isinstance(family, Flow):
        zero = torch.zeros(family.size, dtype=torch.float64)
        return dist.TransformedDistribution(dist.Normal(zero, 1.0).to_event(1), [_Map(family)])
    if family.diagonal:
        return dist.Normal(family.loc, family.scale).to_event(1)
    return dist.MultivariateNormal(family.loc, scale_tril=family.scale)


class _Map(Transform):
    """A flow of one problem, from its base space to unconstrained space."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Map) and other.flow is self.flow

    def _call(self, e: torch.Tensor) -> torch.Tensor:
        return self.flow.scaled(e.reshape(-1, self.flow.size)).reshape(e.shape)

    def _inverse(self, z: torch.Tensor) -> torch.Tensor:
        return self.flow.standardized(z.reshape(-1, self.flow.size)).reshape(z.shape)

    def log_abs_det_jacobian(self, e: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Log of the volume that a base row's surroundings grow to (...), in nats."""
        return self.flow.forward(e.reshape(-1, self.flow.size))[1].reshape(e.shape[:-1])
