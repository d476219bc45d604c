"""Trained programs as tensors, and back: what a saved posterior holds of its story and guide.

Only numbers are written: the state of modules, and the values of parameters. The programs themselves are
given by whoever loads, who may hand over any class; its tensors must have the names and shapes that were
saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.answers.result import Fit
from inference.answers.row_programs import Local, Programs, training_proposal
from inference.density.enumeration import row_log_prob
from inference.story.call import story_name
from inference.story.construct import beside, guide_of, instance
from inference.story.programs import Baked

Tensors = dict[str, Tensor]

_COMPARED = 4  # rows at which a loaded story is compared with the one that was saved
_DIFFERENCE = 1e-3  # nats, and relative, by which they may differ: single precision on another machine

WITHOUT_GUIDE = (
    "Loaded without its guide: latent sites of new rows are proposed from their prior. Pass guide= to load."
)


def pack(fit: Fit) -> tuple[dict[str, Any] | None, Tensors]:
    """What to write of the trained programs: facts for JSON, and tensors by name.

    ``None`` for a story without trained parameters.
    """
    local, story = fit.local, fit.structure.call.story
    if local is None and not isinstance(story, Baked):
        return None, {}
    pairs = local.restarts if local is not None else (Programs(_baked(story), None),)
    tensors: Tensors = {}
    for number, pair in enumerate(pairs):
        tensors.update(_tensors(f"restart/{number}/story", pair.story))
        if pair.guide is not None:
            tensors.update(_tensors(f"restart/{number}/guide", pair.guide))
    guide = pairs[0].guide
    facts: dict[str, Any] = {"restarts": len(pairs), "guide": None if guide is None else guide.__name__}
    if local is not None:
        facts["local"] = {n: v for n, v in vars(local).items() if n != "restarts"}
        facts["log_joint"] = log_joint(fit)
    return facts, tensors


def _baked(story: Any) -> Baked:
    return story if isinstance(story, Baked) else Baked(story, {})


def _tensors(prefix: str, program: Baked) -> Tensors:
    out = {f"{prefix}/param/{n}": v.detach().cpu() for n, v in program.params.items()}
    if isinstance(program.program, torch.nn.Module):
        state = program.program.state_dict()
        out.update({f"{prefix}/state/{n}": v.detach().cpu() for n, v in state.items()})
    return out


def unpack(
    facts: Mapping[str, Any], tensors: Mapping[str, Tensor], story: Any, guide: Any
) -> tuple[list[Programs], Local | None]:
    """Bring saved tensors into a story and a guide; one pair of programs per restart.

    Args:
        facts, tensors: as :func:`pack` made them.
        story: a function, a module, a class of one or a ``functools.partial`` of it.
        guide: the same; ``None`` takes the one that stands beside the story, if there is one.

    Raises:
        ValueError: naming the first tensor whose name or shape is another than was saved.
    """
    guide = beside(story) if guide is None else guide
    guide = None if facts["guide"] is None or isinstance(guide, str) else guide
    pairs = []
    for number in range(facts["restarts"]):
        prefix = f"restart/{number}"
        told = _bring("story", instance(story), f"{prefix}/story", tensors)
        made = None if guide is None else guide_of(guide, told.program, 0)
        drawn = None if made is None else _bring("guide", made, f"{prefix}/guide", tensors)
        pairs.append(Programs(told, drawn))
    if "local" not in facts:
        return pairs, None
    known: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in facts["local"].items()}
    return pairs, Local(tuple(pairs), **known)


def _bring(role: str, program: Callable[..., Any], prefix: str, tensors: Mapping[str, Tensor]) -> Baked:
    """A copy of a program with the saved values."""
    params = _under(f"{prefix}/param/", tensors)
    if not isinstance(program, torch.nn.Module):
        if _under(f"{prefix}/state/", tensors):
            raise ValueError(
                f"{role}: expected the module whose networks were saved, got {story_name(program)}."
            )
        return Baked(program, params)
    copy, saved = deepcopy(program), _under(f"{prefix}/state/", tensors)
    own = copy.state_dict()
    for name in [*saved, *own]:
        expected = tuple(saved[name].shape) if name in saved else "none"
        got = tuple(own[name].shape) if name in own else "none"
        if expected != got:
            raise ValueError(
                f"{role}: parameter {name!r}: expected shape {expected}, as it was saved, got {got} in "
                f"{story_name(program)}. Load with the sizes that were fitted, "
                f"functools.partial({story_name(program)}, ...)."
            )
    floats = [v.dtype for v in saved.values() if v.is_floating_point()]
    copy = copy.to(floats[0]) if floats else copy
    copy.load_state_dict(saved)
    return Baked(copy.eval().requires_grad_(False), params)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def log_joint(fit: Fit) -> list[float]:
    """Log density of the first fitted rows at their first draw, in nats; empty where there is none.

    It tells a story from another one of the same sizes: an option that is no tensor leaves no other trace.
    """
    local = fit.local
    if local is None or local.refusal:
        return []
    proposal = training_proposal(local, fit.structure, dict(fit.observations), local.best)
    proposal = replace(proposal, assumed=(), summed=(*proposal.assumed, *proposal.summed))
    row_story, index = proposal.row_story, torch.arange(min(_COMPARED, proposal.row_story.rows))
    counted = {*fit.observations, *proposal.summed, *proposal.proposed}
    with row_story.structure.call.room(0), torch.no_grad():
        drawn = {n: row_story.place(n, fit.values[n][local.best, 0]) for n in proposal.proposed}
        run, _ = proposal.run_story(index, {}, row_story.take(drawn, index))
        return row_log_prob(run, counted, proposal.sized(len(index))).tolist()


def require_same(fit: Fit, saved: list[float]) -> None:
    """Check that a loaded story gives the fitted rows the density that they had when it was saved.

    Raises:
        ValueError: if it does not.
    """
    for before, now in zip(saved, log_joint(fit), strict=False):
        if math.isfinite(before) and not abs(now - before) <= _DIFFERENCE * (1 + abs(before)):
            raise ValueError(
                f"story: expected the one that was fitted, which gave a row and its draw a log density "
                f"of {before:.6g} nats, got {now:.6g} from {story_name(fit.structure.call.story)}. Its sizes "
                f"fit, so another option differs, or the program itself: load with "
                f"functools.partial({story_name(fit.structure.call.story)}, ...) as it was fitted."
            )
