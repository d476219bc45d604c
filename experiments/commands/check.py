"""Is a story well formed, and what does it imply? Structure, density and gradients, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from experiments.commands.hints import fitting_hints, improper, story_hints
from experiments.commands.sites import site_rows
from experiments.commands.story_file import StoryFile, first_line
from experiments.report.errors import InputError
from inference.runtime.isolation import isolated
from inference.story.bijections import bijection
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import Observation, as_observations
from inference.story.structure import Structure

__all__ = ["Checked", "check", "prior_traces"]

# Rows to try a story with when it asks for ``n`` and nobody says how many.
ROWS = 10
# Draws of the prior at which density and gradients are looked at.
POINTS = 5


@dataclass
class Checked:
    """What a check found.

    Attributes
    ----------
    call
        The story as it was called.
    sites
        One row per site, in the order of the story.
    problems
        Sentences; the story is well formed when there are none.
    warnings
        Sentences about what may not be meant.
    data
        Site name to value: the example's data, or, where there are none, a draw.
    given
        Whether the data came with the story.
    finite
        At how many of ``POINTS`` draws of the prior density and gradients were finite.
    """

    call: Call
    sites: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    data: dict[str, Tensor] = field(default_factory=dict)
    given: bool = False
    finite: int = 0

    @property
    def well_formed(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def check(
    file: StoryFile,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Checked:
    """Run a story a few times and look at what it is made of.

    Parameters
    ----------
    file
        The story; its example's args and data serve where no arguments are given.
    args, kwargs
        What the story is called with. An omitted ``n`` is the example's row count, else 10.
    seed
        Of the draws of the prior.

    Raises
    ------
    InputError
        If it cannot be called with these arguments, or samples nothing: then it is no story.
    """
    own = not args and not kwargs
    data = dict(file.data) if own else {}
    call = bind(file, file.args if own else args, kwargs or {}, data)
    checked = Checked(call, given=bool(data))
    try:
        trace = next(prior_traces(call, 1, seed, validate=True))
    except Exception as error:
        checked.problems.append(f"The story fails when it is run: {first_line(error)}")
        return checked
    if not any(node["type"] == "sample" for node in trace.nodes.values()):
        raise InputError(f"{file.name} is not a story: it ran without any pyro.sample")
    try:
        structure, observations = inspect_story(call, as_observations(data, "EXAMPLE"), "EXAMPLE", seed)
    except ValueError as error:
        checked.problems.append(str(error))
        return checked
    _look(checked, structure, observations or _simulated(structure), trace, seed)
    return checked


def bind(file: StoryFile, args: tuple[Any, ...], kwargs: Mapping[str, Any], data: Mapping[str, Any]) -> Call:
    """The story with its arguments, ``n`` filled in from the data's rows where it is omitted."""
    try:
        call = Call.bind(file.story, args, kwargs)
    except ValueError as error:
        raise InputError(f"{error} Say --args '[...]', or put EXAMPLE beside the story.") from error
    sizes = [len(value) for value in data.values() if getattr(value, "ndim", 0)]
    return call.with_rows(sizes[0] if sizes else ROWS)


def prior_traces(call: Call, count: int, seed: int, validate: bool = False) -> Iterator[Any]:
    """Pyro traces of the story, drawn from its prior; an improper site stays at its start."""
    for number in range(count):
        with isolated(seed + number), pyro.validation_enabled(validate), torch.no_grad(), _Fill():
            trace = poutine.trace(call).get_trace()
        yield trace


def _look(
    checked: Checked, structure: Structure, observations: dict[str, Observation], trace: Any, seed: int
) -> None:
    checked.data = {name: one.value for name, one in observations.items()}
    checked.sites = site_rows(structure, trace, checked.data)
    checked.warnings = story_hints(structure, trace, checked.data, checked.call.story)
    blames = [_blame(checked, structure, t) for t in prior_traces(checked.call, POINTS, seed)]
    faults = [blame for blame in blames if blame]
    checked.finite = POINTS - len(faults)
    if faults and not checked.finite:
        checked.problems.append(f"At every draw of the prior {faults[0]}.")
    elif faults:
        checked.warnings.append(f"At {len(faults)} of {POINTS} draws of the prior {faults[0]}.")
    if checked.finite:
        checked.warnings.extend(fitting_hints(structure, observations))


def _simulated(structure: Structure) -> dict[str, Observation]:
    """Without data: a draw of the sites on which nothing depends, in plates if any are."""
    if any(site.observed for site in structure.sample_sites.values()):
        return {}
    told = {n for n, site in structure.sites.items() if site.kind != "deterministic"}
    sites = structure.sample_sites.values()
    leaves = [site for site in sites if not structure.children(site.name) & told]
    kept = [site for site in leaves if site.plates] or leaves
    return {site.name: Observation(site.value) for site in kept}


def _blame(checked: Checked, structure: Structure, trace: Any) -> str | None:
    """At one draw of the prior: the first thing that is not finite, in words; None if all is."""
    fixed = checked.data if checked.given else {}
    nodes = {name: trace.nodes[name] for name in structure.sample_sites}
    values = {name: node["value"] for name, node in nodes.items()} | fixed
    latent = [n for n, s in structure.sample_sites.items() if not (s.observed or s.discrete)]
    free = {
        name: bijection(nodes[name]["fn"].support).inv(values[name]).detach().requires_grad_()
        for name in latent
        if name not in checked.data
    }
    with isolated(0), torch.enable_grad(), _At(free, values) as at:
        conditioned = poutine.trace(checked.call).get_trace()
        conditioned.compute_log_prob()
        terms = {n: conditioned.nodes[n]["log_prob_sum"] for n in structure.sites}
        for name, term in terms.items():
            if not bool(torch.isfinite(torch.as_tensor(term))):
                return f"the log density of {name} is {float(torch.as_tensor(term).detach()):g}"
        total = sum(terms.values()) + sum(at.jacobian.values(), torch.zeros(()))
        if not free or not total.requires_grad:
            return None
        gradients = torch.autograd.grad(total, list(free.values()), allow_unused=True)
    for name, gradient in zip(free, gradients, strict=True):
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            return f"the gradient of the log density by {name} is not finite"
    return None


class _Fill(Messenger):
    """Give a site that cannot be sampled (an improper prior) a value inside its support."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["value"] is None and improper(msg["fn"]):
            transform = bijection(msg["fn"].support)
            msg["value"] = transform(torch.zeros(transform.inverse_shape(msg["fn"].shape())))


class _At(Messenger):
    """Put a story at unconstrained values of some sites, and at given values of the others."""

    def __init__(self, free: Mapping[str, Tensor], fixed: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.free, self.fixed = free, fixed
        self.jacobian: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.free:
            # A support may depend on other sites: the bijection is built inside the run.
            transform = bijection(msg["fn"].support)
            msg["value"] = transform(self.free[name])
            volume = transform.log_abs_det_jacobian(self.free[name], msg["value"])
            self.jacobian[name] = volume.sum()
        elif name in self.fixed and not msg["is_observed"]:
            msg["value"] = self.fixed[name]
