"""What the caller asked of SVI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from inference import losses
from inference.construct import Maker
from inference.structure import Structure


@dataclass(frozen=True)
class Asked:
    """What the caller asked of SVI; arguments as in ``inference.fit``.

    ``make`` constructs the story for a restart where a class was given; ``origin`` is the story as the
    caller holds it, with which a guide may share networks.
    """

    guide: Any
    loss: Any = None
    optim: Any = None
    batch_size: int | None = None
    steps: int | None = None
    make: Maker | None = None
    origin: Any = None
    warm_up: int = 0
    held_out: Any = None
    device: torch.device | None = None
    loader: Any = None

    def needed(self, structure: Structure) -> bool:
        """Whether the ladder does not serve: a guide program, parameters, or options of SVI."""
        options = (self.loss, self.optim, self.batch_size, self.held_out, self.loader)
        given = any(o is not None for o in options) or bool(self.warm_up)
        return callable(self.guide) or bool(structure.params) or given

    @property
    def guide_given(self) -> bool:
        """Whether the caller asked for a guide by name or program."""
        return not (isinstance(self.guide, str) and self.guide == "auto")

    @property
    def by_samples(self) -> bool:
        """Whether the loss is one on samples, so that no guide takes part."""
        return losses.on_samples(self.loss)
