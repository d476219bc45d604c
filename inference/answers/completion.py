"""Draw what a density leaves out: sites on which nothing seen depends, and what is computed from them.

In the density such a site has a stand-in, whose value means nothing. After the fit it is drawn from its
conditional given each draw of the unknowns, one value per draw, and deterministic sites are computed from
what was drawn. Nothing that was seen depends on a dropped site, so that running the story forward is exact;
sites that were summed out are first drawn from their conditional given the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.answers.question import draw_discrete
from inference.answers.questions import about_fitted_rows
from inference.answers.result import Fit, Particles, run_forward
from inference.story.plan import Plan

KEPT_NUMBERS = 2**24  # numbers that draws of dropped sites may hold: 128 MB
_WORK = 2**27  # numbers that drawing summed-out sites may compute; some five seconds
_HIDDEN = "the discrete sites that they depend on are summed out, and too many to draw"
_CHUNK = 2**20  # numbers of the largest site that are drawn at once


def unfinished(fit: Fit) -> list[str]:
    """Sites that are not among the draws, though they have a value at every draw.

    These are what is dropped, half-seen sites whose missing elements are dropped, and deterministic sites
    that depend on these or on what is summed out; summed-out sites themselves have probabilities instead.
    """
    chosen, structure = fit.plan, fit.structure
    loose = chosen.loose
    if not loose:
        return []
    own = {*chosen.dropped, *chosen.imputed}
    return [
        n
        for n, s in structure.sites.items()
        if n in own or (s.kind == "deterministic" and loose & structure.ancestors([n]))
    ]


def completed(fit: Fit, seed: int, largest: int = KEPT_NUMBERS) -> tuple[Fit, list[str]]:
    """Add to a fit's draws those of the sites that its density leaves out.

    Args:
        fit: with draws of the unknowns, (restart, draw, *site shape).
        seed: of what is drawn; torch's own generator is left as it was.
        largest: numbers that the draws of dropped sites may hold. Deterministic sites are always computed.

    Returns:
        The fit with its further draws, and a sentence for what could not be drawn.
    """
    names = unfinished(fit)
    if not names:
        return fit, []
    if not fit.values:
        why = "the story has no continuous unknowns, of which a fit keeps draws"
        note = _note([n for n in names if fit.structure.sites[n].kind == "deterministic"], why)
        return fit, [note] if note else []
    names, large = _affordable(fit, names, largest)
    notes = [_note(large, f"their draws would hold more than {largest} numbers")]
    drawn: Particles = {}
    if names:
        particles, lost = _with_hidden(fit, names, seed)
        notes.append(_note(lost, _HIDDEN))
        names = [n for n in names if n not in lost]
        try:
            drawn = _forward(fit, fit.plan, particles, names, seed) if names else {}
        except (NotImplementedError, RuntimeError, ValueError) as error:  # an improper prior, say
            notes.append(_note(names, f"the story could not be run forward ({type(error).__name__})"))
    leading = next(iter(fit.values.values())).shape[:2]
    shaped = {n: v.reshape(*leading, *v.shape[1:]) for n, v in drawn.items()}
    return replace(fit, given_values={**fit.values, **shaped}), [note for note in notes if note]


def _note(names: Sequence[str], why: str) -> str:
    """A sentence about sites without draws; empty where there are none."""
    if not names:
        return ""
    shown = ", ".join(names)
    return f"{shown}: not among the draws, since {why}. Ask `posterior.sample` for them."


def _affordable(fit: Fit, names: Sequence[str], largest: int) -> tuple[list[str], list[str]]:
    """Split what is to be drawn into what fits into memory and what does not, in the story's order."""
    sites, left = fit.structure.sites, largest
    count = math.prod(next(iter(fit.values.values())).shape[:2])
    kept, large = [], []
    for name in names:
        size = count * sites[name].value.numel()
        if sites[name].kind != "deterministic" and size > left:
            large.append(name)
        else:
            kept.append(name)
            left -= size if sites[name].kind != "deterministic" else 0
    return kept, large


def _with_hidden(fit: Fit, names: Sequence[str], seed: int) -> tuple[Particles, list[str]]:
    """Draws of the unknowns and of the summed-out sites that matter; names that these are too many for."""
    particles = {n: v for n, v in fit.particles().items() if n in fit.structure.sites}
    hidden = set(fit.plan.summed)
    needing = [n for n in names if hidden & fit.structure.ancestors([n])]
    if not needing:
        return particles, []
    sites = fit.structure.sites
    tables = [sites[n].value.numel() * len(sites[n].fn.enumerate_support(expand=False)) for n in hidden]
    count = len(next(iter(particles.values())))
    if count * len(hidden) * max(fit.log_density.run_cost, *tables) > _WORK:
        return particles, needing
    try:
        return draw_discrete(about_fitted_rows(fit), particles, seed), []
    except (NotImplementedError, RuntimeError, ValueError):  # what cannot be told apart in the contraction
        return particles, needing


def _forward(
    fit: Fit, chosen: Plan, particles: Particles, names: Sequence[str], seed: int
) -> dict[str, Tensor]:
    """Run the story at every draw, what is known held; site -> (draws, *site shape)."""
    structure = fit.structure
    known = {n: e.value for n, e in fit.observations.items() if n not in particles}
    seen = {n: m for n, m in chosen.seen.items() if n in known}

    def one(point: Mapping[str, Tensor]) -> dict[str, Tensor]:
        run = run_forward(structure, {**known, **point}, seen, set())
        return {n: _value(run.nodes[n]["value"], structure.sites[n].kind) for n in names}

    cost = max(s.value.numel() for s in structure.sites.values())
    with structure.call.room(seed), torch.no_grad():
        return _at_every(one, particles, max(1, min(512, _CHUNK // max(1, cost))))


def _value(value: Any, kind: str) -> Tensor:
    value = torch.as_tensor(value).detach()
    return value.double() if kind == "deterministic" else value


def _at_every(
    one: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], particles: Particles, chunk: int
) -> dict[str, Tensor]:
    """All draws at once, each with random numbers of its own; one by one where torch cannot batch that."""
    try:
        drawn = torch.vmap(one, chunk_size=chunk, randomness="different")(particles)
    except (RuntimeError, NotImplementedError, ValueError):
        count = len(next(iter(particles.values())))
        each = [one({n: v[i] for n, v in particles.items()}) for i in range(count)]
        drawn = {n: torch.stack([values[n] for values in each]) for n in each[0]}
    return {n: v.cpu() for n, v in drawn.items()}
