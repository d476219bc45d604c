"""What ``fit`` is called with, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from inference.posterior.guide_program import GuideProgram
from inference.runtime.isolation import isolated
from inference.story.programs import Baked
from inference.story.structure import Structure
from inference.svi.loaders import collected, is_loader
from inference.svi.request import SVI


def require_cpu(chosen: torch.device | None) -> None:
    """Refuse another device where the ladder serves."""
    if chosen is not None and chosen.type != "cpu":
        raise ValueError(
            f"device: expected None or 'cpu', got {str(chosen)!r}: the ladder of guides for stories without "
            f"networks runs on the CPU. A guide program, optim or batch_size is fitted by SVI, anywhere."
        )


def require_untrained(guide: Any) -> None:
    """Refuse a guide that a fit returned: its parameters are held, and nothing would be trained."""
    if isinstance(guide, Baked | GuideProgram):
        raise ValueError(
            "guide: expected one to be trained, got the guide of a posterior, whose parameters are fixed: "
            "nothing would change. To train on, use continue_fit(posterior, steps=...); to judge it on these "
            "data, certify(story, data, guide=...)."
        )


def rows_of(data: Any, svi: SVI) -> tuple[Any, Any]:
    """The loader, where data come from one, and all of its rows; else ``None`` and the data."""
    if not is_loader(data):
        return None, data
    if svi.batch_size is not None:
        raise ValueError("batch_size: the loader makes the batches, expected None, got a number.")
    if svi.held_out is not None and not isinstance(svi.held_out, Mapping):
        raise ValueError(
            "held_out: a loader hands out all of its rows, expected a mapping of other rows, got a share."
        )
    with isolated(0, torch.get_default_dtype()):
        return data, collected(data)


def require_data(structure: Structure, data: Mapping[str, Any]) -> None:
    """Require that something is observed."""
    if not data and not any(site.observed for site in structure.sites.values()):
        raise ValueError(
            "data: expected at least one observed site, got none, and the story observes nothing "
            "itself: there is nothing to learn from. For the story as it stands, use inference.prior."
        )
