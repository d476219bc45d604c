"""Draw sites of a story from their conditional, given data and what else is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from inference.answers.question import Question, draw_discrete
from inference.answers.result import Fit, Particles, run_forward
from inference.story.structure import Plate


def generate(
    fit: Fit,
    question: Question,
    sites: Sequence[str],
    count: int,
    seed: int,
    *,
    in_order: bool = False,
) -> dict[str, Tensor]:
    """Draw ``count`` values of every site; each (count, *site shape).

    ``in_order`` uses the posterior draws one after another, so that value i belongs to draw i.

    Without informative data one draw of the unknowns serves a whole sample. With them, rows are
    separate questions: every row takes a draw of the unknowns with chance proportional to the density of
    what is given in that row.
    """
    generator = torch.Generator().manual_seed(seed)
    if _informative(question):
        return _row_by_row(fit, question, sites, count, generator)
    index = torch.arange(count) if in_order else _choose(question.draws, count, generator)
    particles = {n: v[index] for n, v in question.particles.items()}
    return _forward(fit, question, particles, sites, count, int(_seed(generator)))


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def _choose(pool: int, count: int, generator: torch.Generator) -> Tensor:
    """Draws without replacement while they last."""
    if count <= pool:
        return torch.randperm(pool, generator=generator)[:count]
    return torch.randint(pool, (count,), generator=generator)


def _informative(question: Question) -> bool:
    """Whether what is given changes the weights of the draws."""
    if not question.new:
        return False
    given = [n for n in question.observations if n not in question.particles]
    given += [n for n in question.simulated if n in question.observations]
    return bool(question.structure.ancestors(given) & set(question.particles))


def _forward(
    fit: Fit, question: Question, particles: Particles, sites: Sequence[str], count: int, seed: int
) -> dict[str, Tensor]:
    """One run of the story per particle; summed-out sites are drawn first."""
    if question.summed:
        question_count = {**particles} or {"": torch.zeros(count)}
        particles = draw_discrete(question, question_count, seed)
        particles.pop("", None)
    known_names = set(question.observations) if question.new else set(question.observations) - set(sites)
    seen = {n: m for n, m in question.seen.items() if n in known_names and n not in particles}
    free = {n for n in sites if question.structure.sites[n].observed and n not in question.observations}
    columns: dict[str, list[Tensor]] = {name: [] for name in sites}
    with question.structure.call.room(seed + 1):
        for i in range(count):
            values = {n: v[i] for n, v in particles.items() if n in question.structure.sites}
            known = {n: question.observations[n].value for n in known_names}
            trace = run_forward(question.structure, {**known, **values}, seen, free)
            for name in sites:
                columns[name].append(trace.nodes[name]["value"].detach().cpu())
    return {name: torch.stack(parts) for name, parts in columns.items()}


def _row_by_row(
    fit: Fit, question: Question, sites: Sequence[str], count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    rows = question.rows
    for name in sites:
        site = question.structure.sites[name]
        if rows is not None and not site.within(rows) and name not in question.observations:
            if site.kind == "sample":
                raise ValueError(
                    f"sites: {name!r} is shared by all rows, while given values are answered row by "
                    f"row. Ask for it without `given`, or fit the story with those rows in data."
                )
    plates = [rows] if rows is not None and rows.name not in question.tied else []
    log_w = question.log_rows(plates).reshape(question.draws, -1)
    index = torch.multinomial(
        log_w.T.softmax(-1), count, replacement=True, generator=generator
    ).T.contiguous()  # (count, rows)
    if not plates:  # all rows together are one question
        particles = {n: v[index[:, 0]] for n, v in question.particles.items()}
        return _forward(fit, question, particles, sites, count, _seed(generator))
    runs, place = _layers(index)
    particles = {n: v[runs] for n, v in question.particles.items()}
    drawn = _forward(fit, question, particles, sites, len(runs), _seed(generator))
    return {n: _gather_rows(v, place, _row_axis(question, n, rows)) for n, v in drawn.items()}


def _layers(index: Tensor) -> tuple[Tensor, Tensor]:
    """Share runs between rows: the r-th use of a draw by a row belongs to that draw's r-th run.

    Args:
        index: (count, rows) which draw serves which row of which sample.

    Returns:
        runs (number of runs,), the draw of each run; place (count, rows), the run that serves.
    """
    used: dict[tuple[int, int], int] = defaultdict(int)
    number: dict[tuple[int, int], int] = {}
    place = torch.empty_like(index)
    for sample, draws in enumerate(index.tolist()):
        for row, draw in enumerate(draws):
            layer = used[draw, row]
            used[draw, row] += 1
            place[sample, row] = number.setdefault((draw, layer), len(number))
    return torch.tensor([draw for draw, _ in number]), place


def _row_axis(question: Question, name: str, rows: Plate | None) -> int | None:
    site = question.structure.sites[name]
    own = next((p for p in site.plates if rows is not None and p.name == rows.name), None)
    if own is None:
        return None
    event = site.fn.event_dim if site.kind == "sample" else 0
    return len(site.shape) - event + own.dim


def _gather_rows(values: Tensor, place: Tensor, axis: int | None) -> Tensor:
    """Pick, for every sample and row, the value of the run that serves it."""
    if axis is None:
        return values[place[:, 0]]
    moved = values.movedim(axis + 1, 1)
    picked = moved[place, torch.arange(place.shape[1])]
    return picked.movedim(1, axis + 1)
