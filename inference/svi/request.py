"""What the caller asks of SVI: its options, and what they are to be applied to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from inference.runtime.arguments import check_counts
from inference.story.construct import Maker
from inference.story.structure import Structure
from inference.svi import losses


@dataclass(frozen=True, eq=False, kw_only=True)  # a loss may be a module, held-out data tensors
class SVI:
    """How Pyro's stochastic variational inference is to train: ``fit(story, data, svi=SVI(...))``.

    It serves what the ladder of guides does not: hand-written guides, networks and parameters, minibatches,
    any loss. Any option that is set asks for it.

    Args:
        loss: a Pyro ELBO instance; by default ``TraceEnum_ELBO`` where discrete sites are summed out,
            ``TraceMeanField_ELBO`` for networks whose guide admits it. Or a function ``(samples, data)`` ->
            number, for stories without a likelihood: the story is run forward, with the sites that others of
            the data depend on held. A module with parameters is an adversary: they climb.
        optim: a Pyro optimizer or scheduler, a torch optimizer class, a ``functools.partial`` of one, or a
            function of the parameters that returns an optimizer, or one with its scheduler; by default Adam:
            at 0.05, halved whenever the ELBO stands still; with networks at 0.003, or with `steps`, falling
            to zero at the end (see :mod:`inference.svi.schedule`). Steps that are not finite are skipped and
            counted; clipped gradients are too.
        batch_size: rows of the data plate per step: the story is called with the batch's arguments (``n`` is
            the batch's row count, arguments that belong to single rows are sliced: which do is found out by
            what the story does with them, and one that it reads across rows is refused by name), and the
            sites in the plate are scaled by rows / batch rows. With loss, optim or batch_size and a guide by
            name, Pyro's AutoNormal or AutoMultivariateNormal is fitted.
        held_out: share of the rows, or data of other rows, on which the ELBO is watched while the rest is
            fitted: training ends when it no longer rises, and the best parameters are kept.
        warm_up: steps over which the latent sites' part of the ELBO, which draws guide and prior together,
            rises from zero.

    Raises:
        ValueError: for a ``batch_size`` or ``warm_up`` that is no count.

    Example:
        >>> SVI(batch_size=64).asked, SVI().asked
        (True, False)
    """

    loss: Any = None
    optim: Any = None
    batch_size: int | None = None
    held_out: float | Mapping[str, Any] | None = None
    warm_up: int = 0

    def __post_init__(self) -> None:
        check_counts(batch_size=self.batch_size)
        if not isinstance(self.warm_up, int) or isinstance(self.warm_up, bool) or self.warm_up < 0:
            raise ValueError(f"warm_up: expected a number of steps, 0 for none, got {self.warm_up!r}.")

    @property
    def asked(self) -> bool:
        """Whether any option was set."""
        options = (self.loss, self.optim, self.batch_size, self.held_out)
        return any(o is not None for o in options) or bool(self.warm_up)

    @classmethod
    def merged(cls, svi: SVI | None, **alone: Any) -> SVI:
        """The options of ``fit(svi=...)``, or those that were given to ``fit`` one by one.

        Raises:
            ValueError: where both were given, or ``svi`` is something else.
        """
        single = cls(**alone)
        if svi is None:
            return single
        if not isinstance(svi, SVI):
            got = svi if isinstance(svi, type) else type(svi)
            kind = "the class" if isinstance(svi, type) else "an instance of"
            raise ValueError(
                f"svi: expected the options inference.SVI(loss=..., batch_size=...), got {kind} "
                f"{got.__module__}.{got.__qualname__}. Pyro's own SVI is made for you: give its loss and "
                f"optim."
            )
        if single.asked:
            name = next(f.name for f in fields(cls) if getattr(single, f.name) != f.default)
            raise ValueError(f"{name}: given beside svi=SVI(...), expected one of the two. Put it into SVI.")
        return svi


@dataclass(frozen=True)
class Request:
    """What the caller of ``inference.fit`` asked of SVI.

    Attributes:
        guide: by name, as a program, or "auto".
        svi: the options.
        steps: of the loop; ``None`` lets it stop by its own rule.
        make: constructs the story for a restart, where a class was given.
        origin: the story as the caller holds it, with which a guide may share networks.
        device: where to train; ``None`` is the CPU.
        loader: makes the batches, where data come from one.
    """

    guide: Any
    svi: SVI = SVI()
    steps: int | None = None
    make: Maker | None = None
    origin: Any = None
    device: torch.device | None = None
    loader: Any = None

    def needed(self, structure: Structure) -> bool:
        """Whether the ladder does not serve: a guide program, parameters, or options of SVI."""
        given = self.svi.asked or self.loader is not None
        return callable(self.guide) or bool(structure.params) or given

    @property
    def guide_given(self) -> bool:
        """Whether the caller asked for a guide by name or program."""
        return not (isinstance(self.guide, str) and self.guide == "auto")

    @property
    def by_samples(self) -> bool:
        """Whether the loss is one on samples, so that no guide takes part."""
        return losses.on_samples(self.svi.loss)
