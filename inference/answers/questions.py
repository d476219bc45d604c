"""Turn what a user gives and asks into a question to a fit.

A question about new rows holds the global draws fixed, sums local discrete sites out exactly and draws
local continuous sites from their prior, one for every global draw (importance sampling with the prior as
proposal). A question about the fitted rows keeps their latents and conditions on their data.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.answers.question import Question, draw_discrete
from inference.answers.result import Fit, Particles, run_forward
from inference.story.inspection import inspect_rows
from inference.story.joint import UnaffordableError, joint_of
from inference.story.observations import Observation, as_observations, factorized, require_maskable
from inference.story.structure import Plate, Structure

_DISCRETE = 4000  # draws of global discrete sites where nothing continuous was unknown
_SIMULATED = 1000  # global draws that are kept when local continuous sites must be simulated


def ask(
    fit: Fit,
    given: Mapping[str, Any] | None,
    args: tuple[Any, ...] | None,
    targets: Collection[str],
    argument: str = "given",
    seed: int = 0,
    *,
    enumerate_targets: bool = False,
) -> Question:
    """Turn what a user gives and asks into a :class:`Question`.

    Args:
        fit: what is known.
        given: site name -> value (masked arrays may be half-seen).
        args: what the story is called with for the new rows; ``None`` as it was fitted.
        targets: the sites that are asked for.
        argument: what the caller calls ``given``, for error messages.
        seed: of simulated sites.
        enumerate_targets: treat discrete targets as summed out, for a table of their probabilities.

    Raises:
        ValueError: for unknown sites, values that do not fit, and questions that draws cannot answer.
    """
    observations = as_observations(given or {}, argument)
    require_sites(fit, observations, argument)
    require_sites(fit, targets, "sites")
    new = args is not None or any(n not in fit.global_sites for n in observations) or fit.prior_draws > 0
    if not new and not observations:
        return about_fitted_rows(fit, targets if enumerate_targets else ())
    structure, checked = about(fit, observations, args, argument)
    rows = next(
        (p for s in structure.sites.values() for p in s.plates if fit.rows and p.name == fit.rows.name), None
    )
    particles = _global_particles(fit, structure, checked, argument)
    question = _assign(structure, particles, checked, targets, rows, enumerate_targets)
    _require_all_globals(fit, question, targets, argument)
    question = replace(question, draws=_count(fit, question.particles))
    return _simulate(question, seed) if question.simulated else question


def about(
    fit: Fit, observations: Mapping[str, Observation], args: tuple[Any, ...] | None, argument: str
) -> tuple[Structure, dict[str, Observation]]:
    """The story on the rows of a question, and the checked data; arguments as in :func:`ask`."""
    local = {n: e for n, e in observations.items() if n not in fit.global_sites}
    call = fit.structure.call if args is None else fit.structure.call.with_args(args)
    if args is None:  # the rows that are given are counted; without any, as many as it was called with
        call = replace(call, counts_rows=bool(local) and call.takes_rows)
    return inspect_rows(call, observations, argument, counting=local, override=True)


def _count(fit: Fit, particles: Particles) -> int:
    return len(next(iter(particles.values()))) if particles else max(1, fit.prior_draws)


def require_sites(fit: Fit, names: Collection[str], argument: str) -> None:
    """Raise a ``ValueError`` for a name that is no site of the story."""
    for name in names:
        if name not in fit.structure.sites:
            raise ValueError(
                f"{argument}: {name!r} is not a site of the story. Its sites are "
                f"{', '.join(fit.structure.sites)}."
            )


def about_fitted_rows(fit: Fit, targets: Collection[str] = ()) -> Question:
    """The fitted rows with their data; their discrete latents are summed out.

    ``targets`` are discrete sites to be summed out too, where they were dropped.
    """
    particles = fit.particles()
    sites = fit.structure.sample_sites
    relevant = fit.structure.ancestors(targets)
    asked = [n for n in (*fit.plan.dropped, *fit.plan.imputed) if n in relevant]
    summed = [*fit.plan.summed, *(n for n in asked if sites[n].enumerable)]
    joint = fit.plan.joint
    for name in asked:
        if name not in summed and name in fit.plan.dropped:
            particles[name] = _drawn_before(fit, name)
    known = {*particles, *fit.observations, *summed}
    dropped = tuple(n for n in sites if n not in known and not sites[n].observed)
    particles = {n: v for n, v in particles.items() if n in sites}
    count = len(next(iter(particles.values()))) if particles else 1
    return Question(
        fit.structure, particles, fit.observations, tuple(summed), (), dropped, fit.rows, False, count,
        joint, frozenset() if joint is None else joint.plates,
    )  # fmt: skip


def _drawn_before(fit: Fit, name: str) -> Tensor:
    """The draws of a dropped site, restarts joined."""
    if name not in fit.values:
        raise ValueError(
            f"sites: what is asked for depends on {name!r}, a {type(fit.structure.sites[name].fn).__name__} "
            f"that nothing seen depends on and of which no draws were kept. Ask `sample` instead."
        )
    return fit.values[name].flatten(0, 1)


def _global_particles(
    fit: Fit, structure: Structure, observations: Mapping[str, Observation], argument: str
) -> Particles:
    """Draws of the global sites that the question does not give."""
    wanted = [n for n in fit.global_sites if n not in observations and n in structure.sites]
    if not wanted:
        return {}
    if fit.prior_draws:
        redrawn = {n for n in wanted if structure.ancestors([n]) & set(observations)}
        return {n: v for n, v in fit.particles().items() if n in wanted and n not in redrawn}
    found = {n: v for n, v in fit.particles().items() if n in wanted}
    missing = [n for n in wanted if n not in found]
    if missing:
        known = fit.particles() or {"": torch.zeros(_DISCRETE)}
        drawn = draw_discrete(about_fitted_rows(fit), known, fit.seed)
        found.update({n: v for n, v in drawn.items() if n in missing})
    return found


def _require_all_globals(fit: Fit, question: Question, targets: Collection[str], argument: str) -> None:
    """Given one global site, the draws of the others would have to be conditioned on it."""
    fixed = [n for n in question.observations if n in fit.global_sites]
    if not fixed or fit.prior_draws:  # draws of a prior are weighed by what is given
        return
    asked = question.structure.ancestors({*question.observations, *targets})
    conflict = sorted(n for n in asked if n in question.particles)
    if conflict:
        raise ValueError(
            f"{argument}: {fixed[0]!r} is given, but {conflict[0]!r} is not, and its draws were made "
            f"without knowing {fixed[0]!r}. Give {', '.join(conflict)} too, or fit the story with "
            f"{fixed[0]!r} in data."
        )


def _assign(
    structure: Structure,
    particles: Particles,
    observations: dict[str, Observation],
    targets: Collection[str],
    rows: Plate | None,
    enumerate_targets: bool,
) -> Question:
    sites = structure.sample_sites
    asked = set(targets) if enumerate_targets else set()
    relevant = structure.ancestors([*observations, *asked])
    unknown = [n for n in sites if n in relevant and n not in observations and n not in particles]
    unknown = [n for n in unknown if not sites[n].observed or n in asked]
    half = []
    for name, one in observations.items():
        if one.seen is not None and structure.children(name) & relevant:
            half.append(name)
        elif one.seen is not None:
            require_maskable(name, sites[name].fn, one.seen, "given")
    for name in half:
        seen = observations[name].seen
        if seen is not None and not sites[name].enumerable and not factorized(sites[name].fn):
            require_maskable(name, sites[name].fn, seen, "given")
    dropped = tuple(n for n in sites if n not in relevant and n not in observations and n not in particles)
    open_sites, joint, tied = [*unknown, *half], None, frozenset[str]()
    simulated = {n for n in open_sites if not sites[n].enumerable}
    while True:
        upstream = structure.ancestors(simulated)
        simulated |= {n for n in open_sites if n in upstream}
        summed = tuple(n for n in open_sites if n not in simulated)
        try:
            joint = joint_of(structure, observations, summed, dropped)
            break
        except UnaffordableError as error:  # too many to be summed out jointly: drawn from their prior
            simulated |= error.names
            tied |= error.plates
    tied |= joint.plates if joint is not None else frozenset()
    order = tuple(n for n in sites if n in simulated)
    return Question(structure, particles, observations, summed, order, dropped, rows, True, 1, joint, tied)


def _simulate(question: Question, seed: int) -> Question:
    """Extend every draw by values of the simulated sites from their prior."""
    count = min(question.draws, _SIMULATED) if question.particles else _SIMULATED
    keep = torch.linspace(0, question.draws - 1, count).round().long()
    particles = {n: v[keep] for n, v in question.particles.items()}
    columns: dict[str, list[Tensor]] = {n: [] for n in question.simulated}
    with question.structure.call.room(seed):
        for i in range(count):
            known = question.known({n: v[i] for n, v in particles.items()})
            trace = run_forward(question.structure, known, question.seen, set())
            for name in columns:
                columns[name].append(trace.nodes[name]["value"])
    particles.update({n: torch.stack(parts) for n, parts in columns.items()})
    return replace(question, particles=particles, draws=count)
