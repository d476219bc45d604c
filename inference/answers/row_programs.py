"""What a fit knows whose unknowns all belong to rows: trained programs instead of draws.

The latent sites of a row are drawn when they are asked for, by the guide, which reads the row. Nothing
grows with the number of rows but the data themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference.answers.row_proposal import RowProposal
from inference.answers.row_story import row_story_of
from inference.story.observations import Observation
from inference.story.plan import Plan, plan
from inference.story.programs import Baked
from inference.story.structure import Site, Structure

PER_DRAW = 4  # draws that one resampled draw is chosen from
_NUMBERS = 2**24  # that the draws of all restarts may hold: 64 MB in float32
_ENOUGH = 100  # draws per restart, rather than more that are not resampled
_WORK = 2**28  # numbers of all sites that resampling the draws may compute; some ten seconds


@dataclass(frozen=True)
class Programs:
    """A story and a guide of one restart, with their trained parameters; ``guide`` may be ``None``."""

    story: Baked
    guide: Baked | None


@dataclass(frozen=True)
class Local:
    """The trained programs of all restarts.

    Attributes:
        restarts: one pair of programs each.
        best: which of them answers questions.
        proposed: continuous sites of the rows that the guide draws.
        enumerated: discrete sites that the guide draws too.
        read: sites that were in the data, and so in what the guide reads.
        masked: of these, sites with missing elements that the guide was told of (``seen=``).
        kept: draws per restart.
        resampled: whether they are resampled by their weights, or the guide's own.
        refusal: why there is no density, for a story that was fitted by a loss on samples; else empty.
    """

    restarts: tuple[Programs, ...]
    best: int
    proposed: tuple[str, ...] = ()
    enumerated: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    kept: int = 0
    resampled: bool = False
    refusal: str = ""

    @property
    def guide(self) -> Baked | None:
        """The guide of the restart that answers."""
        return self.restarts[self.best].guide

    def require_density(self) -> None:
        """Check that the story has a likelihood.

        Raises:
            ValueError: saying why it has none.
        """
        if self.refusal:
            raise ValueError(self.refusal)


def affordable(
    structure: Structure, proposed: tuple[str, ...], restarts: int, draws: int
) -> tuple[int, bool]:
    """How many draws of the rows' latent sites to keep per restart, and whether to resample them.

    All restarts' draws together hold at most 2^24 numbers: 10,000 rows with 16 latent numbers each keep 26
    draws of each of 4 restarts. They are resampled by their weights where that computes no more than 2^28
    numbers, if need be of fewer draws, but no fewer than 100; otherwise they are the guide's own.
    """
    sites = structure.sites
    kept = [s for n, s in sites.items() if n in proposed or s.kind == "deterministic"]
    stored = restarts * sum(s.value.numel() for s in kept)
    count = max(1, min(draws, _NUMBERS // max(1, stored)))
    run = restarts * sum(s.value.numel() for s in sites.values())
    corrected = min(count, _WORK // (PER_DRAW * run))
    return (corrected, True) if corrected >= min(count, _ENOUGH) else (count, False)


def with_story(structure: Structure, story: Baked) -> Structure:
    """The same structure, told by another restart's story."""
    call = structure.call
    return replace(structure, call=replace(call, story=story))


def training_proposal(
    local: Local, structure: Structure, observations: dict[str, Observation], restart: int
) -> RowProposal:
    """How one restart's guide proposes the latent sites of the rows that were given.

    Raises:
        ValueError: if the story cannot be run on a selection of its rows.
    """
    programs = local.restarts[restart]
    row_story = row_story_of(with_story(structure, programs.story), observations)
    if row_story is None:
        raise ValueError(
            "story: expected rows that can be selected, in one plate that follows the arguments."
        )
    chosen: Plan = plan(structure, observations, apart=True)  # looked at before the training
    assumed = tuple(
        n for n in chosen.summed if assumable(structure.sites[n]) and conditioned(local, n)
    ) if local.proposed else ()  # fmt: skip
    summed = tuple(n for n in chosen.summed if n not in assumed)
    return RowProposal(
        row_story,
        programs.guide,
        local.proposed,
        assumed,
        summed,
        chosen.dropped,
        local.read,
        (row_story.plate,),
        local.masked,
    )


def assumable(site: Site) -> bool:
    """Whether a discrete site has one value per row, which can be assumed in turn."""
    return site.enumerable and len(site.plates) == 1


def conditioned(local: Local, name: str) -> bool:
    """Whether the guide reads or draws a discrete site, so that it must be told its value."""
    return name in local.read or name in local.enumerated
