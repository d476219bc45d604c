"""What is known after a fit: the story, the data, and equally weighted draws of the unknowns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.answers.row_draws import training_draws
from inference.answers.row_programs import Local
from inference.density.log_density import LogDensity
from inference.story.handlers import Known
from inference.story.observations import Observation
from inference.story.plan import Plan, plan
from inference.story.structure import Plate, Structure

Particles = dict[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """A story with its data and its draws.

    Attributes:
        structure: of the story as it was fitted.
        observations: checked data, by site name.
        unknown: the continuous sites that have draws.
        stats: name -> (restart, draw) numbers that belong to the draws.
        prior_draws: how many draws to take where nothing was fitted; 0 after a fit.
        given_values: draws of a fit, (restart, draw, *site shape); ``None`` for a prior.
        seed: of draws from the prior.
        density: the log density that was fitted; ``None`` after loading.
        local: the trained programs, where all unknowns belong to rows; draws are then made when asked for.
    """

    structure: Structure
    observations: Mapping[str, Observation]
    unknown: tuple[str, ...]
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    given_values: Mapping[str, Tensor] | None = None
    prior_draws: int = 0
    seed: int = 0
    density: LogDensity | None = None
    local: Local | None = None

    @cached_property
    def log_density(self) -> LogDensity:
        """The log density of the unknowns; built again after loading."""
        return self.density or LogDensity(self.structure, self.observations)

    @classmethod
    def of_density(cls, density: LogDensity, values: Particles, stats: Mapping[str, Tensor]) -> Fit:
        """What a fit by a :class:`~inference.density.log_density.LogDensity` knows."""
        return cls(density.structure, density.observations, density.names, stats, values, density=density)

    @classmethod
    def of_points(cls, density: LogDensity, z: Tensor, stats: Mapping[str, Tensor]) -> Fit:
        """The same from unconstrained draws (restarts, draws, size)."""
        flat = density.constrain(z.flatten(0, 1))
        values = {name: v.reshape(*z.shape[:2], *v.shape[1:]) for name, v in flat.items()}
        return cls.of_density(density, values, stats)

    @classmethod
    def of_prior(cls, structure: Structure, draws: int, seed: int) -> Fit:
        """What is known before any data: draws of the global sites from the prior."""
        rows = structure.row_plate(structure.leaves())
        leaves = set(structure.leaves())
        names = [n for n, s in structure.sample_sites.items() if not s.within(rows) and n not in leaves]
        return cls(structure, {}, tuple(names), prior_draws=draws, seed=seed)

    @cached_property
    def plan(self) -> Plan:
        """What became of every site when the story was fitted."""
        return self.density.plan if self.density is not None else self._plan()

    def _plan(self) -> Plan:
        return plan(self.structure, self.observations, apart=self.local is not None)

    @property
    def observed(self) -> tuple[str, ...]:
        """Sample sites that the data or the story itself observe."""
        sites = self.structure.sample_sites
        return tuple(n for n in sites if n in self.observations or sites[n].observed)

    @cached_property
    def rows(self) -> Plate | None:
        """The data plate."""
        names = self.observed or tuple(self.structure.leaves())
        return self.structure.row_plate(names)

    @cached_property
    def values(self) -> Particles:
        """Site -> (restart, draw, *site shape); deterministic sites too."""
        if self.given_values is not None:
            return dict(self.given_values)
        if self.local is not None:
            return training_draws(self.local, self.structure, self.observations, self.seed)
        flat = self._from_prior()
        return {name: value[None] for name, value in flat.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the draws; those of rows are not drawn for it."""
        if self.local is None or "values" in vars(self) or self.given_values is not None:
            return {n: tuple(v.shape) for n, v in self.values.items()}
        leading = (len(self.local.restarts), self.local.kept)
        return {n: (*leading, *self.structure.sites[n].shape) for n in self.unknown}

    def _from_prior(self) -> Particles:
        deterministic = [
            n
            for n, s in self.structure.sites.items()
            if s.kind == "deterministic" and self.structure.ancestors([n]) <= {n, *self.unknown}
        ]
        names = [*self.unknown, *deterministic]
        if not names:
            return {}
        columns: dict[str, list[Tensor]] = {name: [] for name in names}
        with self.structure.call.room(self.seed):
            for _ in range(self.prior_draws):
                try:
                    trace: Any = poutine.trace(self.structure.call).get_trace()
                except NotImplementedError as error:
                    raise ValueError(
                        "story: a prior is improper and cannot be sampled, so there is no prior "
                        "predictive. Give the site a proper prior, or fit the story to data."
                    ) from error
                for name in names:
                    columns[name].append(trace.nodes[name]["value"])
        return {name: torch.stack(parts) for name, parts in columns.items()}

    def particles(self) -> Particles:
        """Draws of the unknown sites, restarts joined: site -> (draws, *site shape).

        Where every restart trained networks of its own, the draws of the one that answers.
        """
        if self.local is not None:
            return {n: self.values[n][self.local.best] for n in self.unknown}
        return {n: self.values[n].flatten(0, 1) for n in self.unknown}

    @property
    def global_sites(self) -> tuple[str, ...]:
        """Latent sites outside the data plate, which every new row shares.

        Nothing was learned of a site on which nothing seen depends: a question draws or weighs it anew.
        """
        observed = set(self.observed)
        leaves = set() if observed else set(self.structure.leaves())
        if not self.prior_draws:
            leaves |= set(self.plan.dropped)
        return tuple(
            n
            for n, s in self.structure.sample_sites.items()
            if n not in observed and n not in leaves and not s.within(self.rows)
        )


def run_forward(
    structure: Structure, values: Mapping[str, Tensor], seen: Mapping[str, Tensor], free: set[str]
) -> Any:
    """Run a story with some values known and the rest drawn; call inside the story's room."""
    with Known(values, seen, resample=True, free=free):
        return poutine.trace(structure.call).get_trace()
