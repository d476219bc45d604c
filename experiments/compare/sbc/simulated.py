"""Truths and their data, simulated from a story: what calibration starts from.

Of the prior: every unknown is drawn, and data from it. Of a posterior: unknowns are drawn given observed
data, other data are replicated from them, and the story is told of both.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference import fit
from inference.answers.question import Question
from inference.compiler.vmapped import Vmapped
from inference.density.enumeration import log_sum, total_log_prob
from inference.story.call import Call, story_name
from inference.story.inspection import inspect_rows
from inference.story.joint import UnaffordableError, joint_of
from inference.story.plan import enumerating
from inference.story.structure import Structure

REPLICATED = "{}_replicated"  # the site of the data that are replicated beside the observed ones
_FEWEST = 250  # posterior draws of a restart: what its certificate wants to see
_ELEMENTS = 2**24  # of the largest intermediate of a chunk of draws: 128 MiB


@dataclass(frozen=True)
class Simulated:
    """Truths and their data.

    Attributes
    ----------
    story
        What is to be fitted: the story itself, or one that also tells of replicated data.
    structure
        Of that story.
    observed
        Its data sites.
    truth
        Latent and deterministic site -> (fits, *site shape).
    data
        One mapping (data site -> tensor) for every fit.
    note
        What stands in the way of believing the truths, if anything.
    """

    story: Callable[..., Any]
    structure: Structure
    observed: tuple[str, ...]
    truth: Mapping[str, Tensor]
    data: Sequence[Mapping[str, Tensor]]
    note: str = ""

    @property
    def rows(self) -> Any:
        """The plate of the data's rows, if there is one."""
        return self.structure.row_plate(self.observed)

    @property
    def unknowns(self) -> list[str]:
        """Continuous latent sites that all rows share: what is judged unless sites are named."""
        sites = self.structure.sample_sites
        latent = [n for n, s in sites.items() if n not in self.observed and not s.discrete]
        return [n for n in latent if not sites[n].within(self.rows)]

    def stacked_data(self) -> dict[str, Tensor]:
        """Data site -> (fits, *site shape)."""
        return {name: torch.stack([one[name] for one in self.data]) for name in self.observed}


def from_prior(
    story: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    observed: Collection[str] | None,
    fits: int,
    seed: int,
) -> Simulated:
    """Draw every unknown from the prior, and data from it, ``fits`` times.

    Raises
    ------
    ValueError
        If the story cannot be called so, a prior is improper, or the data sites are not known.
    """
    structure = _structure(story, args, kwargs)
    names = data_sites(story, structure, observed)
    columns: dict[str, list[Tensor]] = {n: [] for n, s in structure.sites.items() if s.kind != "factor"}
    with structure.call.room(seed):
        for _ in range(fits):
            run = _run(structure)
            for name, column in columns.items():
                column.append(torch.as_tensor(run.nodes[name]["value"]).detach().cpu())
    values = {name: torch.stack(column) for name, column in columns.items()}
    return _split(story, structure, names, values)


def from_posterior(
    story: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    around: Mapping[str, Any],
    fits: int,
    seed: int,
) -> Simulated:
    """Draw unknowns given observed data, and replicate the data from them, ``fits`` times.

    The posterior is :func:`inference.fit`'s. The data sets returned hold the observed data under their
    own names and the replicated ones as ``x_replicated``; the story returned tells of both, which share
    every unknown.

    Raises
    ------
    ValueError
        As :func:`inference.fit`; if the story has discrete unknowns, or one data site depends on another,
        so that the two data sets have no simple joint story.
    """
    plain = _structure(story, args, kwargs)
    names = data_sites(story, plain, tuple(around))
    latent = [n for n, s in plain.sample_sites.items() if n not in names]
    discrete = [n for n in latent if plain.sites[n].discrete]
    chained = [n for n in names if plain.ancestors([n]) & (set(names) - {n})]
    if discrete or chained:
        raise ValueError(
            f"around: expected a story whose unknowns are continuous and whose data sites do not depend on "
            f"each other, got {', '.join(map(repr, [*discrete, *chained]))}. Leave around= out."
        )
    posterior = fit(story, around, args, kwargs, draws=max(_FEWEST, -(-fits // 4)), seed=seed, progress=False)
    asked = [n for n, s in plain.sites.items() if s.kind != "factor"]
    drawn = posterior.sample(asked, num_samples=fits, seed=seed)
    both = replicating(story, names)
    structure = _structure(both, args, kwargs)
    values = {n: drawn[n] for n in asked if n not in names}
    for name in names:
        seen = torch.as_tensor(around[name]).to(drawn[name])
        values[name], values[REPLICATED.format(name)] = seen.expand_as(drawn[name]), drawn[name]
    note = "" if posterior.certificate.trusted else "The truths come from a posterior that is not trusted."
    return _split(both, structure, (*names, *map(REPLICATED.format, names)), values, note)


def _structure(
    story: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None
) -> Structure:
    call = Call.bind(story, args, kwargs)
    if call.counts_rows:
        raise ValueError(
            f"args: expected the number of rows n of every simulated data set among the arguments of "
            f"{story_name(story)}, got none. Write args=(n,)."
        )
    return inspect_rows(call, {})[0]


def _run(structure: Structure) -> Any:
    try:
        return poutine.trace(structure.call).get_trace()
    except NotImplementedError as error:
        raise ValueError(
            "story: expected proper priors, got one that cannot be sampled. Calibration simulates from the "
            "prior: give every unknown a proper one, or pass around= data to calibrate near a posterior."
        ) from error


def _split(
    story: Callable[..., Any],
    structure: Structure,
    observed: tuple[str, ...],
    values: Mapping[str, Tensor],
    note: str = "",
) -> Simulated:
    truth = {n: v for n, v in values.items() if n not in observed}
    fits = len(next(iter(values.values())))
    data = [{n: values[n][i] for n in observed} for i in range(fits)]
    return Simulated(story, structure, observed, truth, data, note)


def data_sites(
    story: Callable[..., Any], structure: Structure, observed: Collection[str] | None
) -> tuple[str, ...]:
    """Return the names of the data sites: as given, or those of the data in the story's ``EXAMPLE``.

    Raises
    ------
    ValueError
        If neither says them, a name is no sample site, or the story observes inside.
    """
    sites = structure.sample_sites
    inside = [n for n, s in sites.items() if s.observed]
    if inside:
        raise ValueError(
            f"story: expected one that observes nothing, got one that observes {inside[0]!r} (obs=), so that "
            f"no data can be simulated. Leave obs= out; calibration gives the data by name."
        )
    if observed is None:
        module = sys.modules.get(getattr(story, "__module__", ""))
        own = getattr(module, getattr(story, "__name__", ""), None) is story
        example = getattr(module, "EXAMPLE", None) if own else None
        observed = () if example is None else tuple(example[1])
    names = (observed,) if isinstance(observed, str) else tuple(observed)
    unknown = [n for n in names if n not in sites]
    if not names or unknown:
        raise ValueError(
            f"observed: expected the names of the data among the story's sites {', '.join(sites)}, got "
            f"{', '.join(unknown) if unknown else 'none'}. Say observed=['x'], for example."
        )
    return names


def replicating(story: Callable[..., Any], names: Collection[str]) -> Callable[..., Any]:
    """Return the story with every named site drawn twice, as ``x`` and ``x_replicated``, from one law.

    Examples
    --------
    >>> import pyro.distributions as dist
    >>> twice = replicating(lambda: pyro.sample("x", dist.Normal(0.0, 2.0)), ["x"])
    >>> sorted(poutine.trace(twice).get_trace().stochastic_nodes)
    ['x', 'x_replicated']
    """

    @functools.wraps(story)
    def both(*args: Any, **kwargs: Any) -> Any:
        with _Again(names):
            return story(*args, **kwargs)

    return both


class _Again(Messenger):
    """Draw some sites a second time, under another name, from the same distribution."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            pyro.sample(REPLICATED.format(msg["name"]), msg["fn"])


def log_joint(
    structure: Structure, values: Mapping[str, Tensor], data: Mapping[str, Tensor]
) -> Tensor | None:
    """Log p(theta, x) in constrained space, discrete unknowns summed out, in nats.

    Parameters
    ----------
    structure
        Of the story.
    values
        Latent site -> (fits, draws, *site shape).
    data
        Data site -> (fits, *site shape).

    Returns
    -------
    Tensor or None
        (fits, draws); None where the values lack an unknown on which others depend, or discrete ones would
        have to be summed out jointly over too many values.
    """
    sites = structure.sample_sites
    known = {n: v for n, v in values.items() if n in sites}
    latent = [n for n in sites if n not in known and n not in data]
    summed = tuple(n for n in latent if sites[n].enumerable and structure.children(n))
    dropped = tuple(n for n in latent if n not in summed)
    if any(structure.children(n) - set(dropped) for n in dropped):
        return None
    fits, draws = next(iter(known.values())).shape[:2]
    first = {n: v[0, 0] for n, v in known.items()} | {n: v[0] for n, v in data.items()}
    try:
        joint = joint_of(structure, {}, summed, dropped)
    except UnaffordableError:
        return None
    question = Question(structure, first, {}, summed, (), dropped, None, True, 1, joint)

    def at(point: Mapping[str, Tensor]) -> Tensor:
        if joint is None:
            return total_log_prob(question.run(point))
        return log_sum(joint.each(lambda assigned: total_log_prob(question.run(point, assigned))))

    with structure.call.room(0):
        with enumerating(summed):
            trace = question.run(first)
            total_log_prob(trace)
        sizes = [n["unscaled_log_prob"].numel() for n in trace.nodes.values() if "unscaled_log_prob" in n]
        cost = max(*sizes, *(v.numel() for v in first.values())) * (1 if joint is None else joint.count)
        density = Vmapped(at, cost)
        size = max(1, _ELEMENTS // (cost * draws))
        parts = []
        for start in range(0, fits, size):
            chunk = slice(start, start + size)
            flat = {n: v[chunk].flatten(0, 1) for n, v in known.items()}
            flat |= {n: v[chunk].repeat_interleave(draws, 0) for n, v in data.items()}
            parts.append(density(flat).reshape(-1, draws))
    return torch.cat(parts)
