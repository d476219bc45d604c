"""Every question is a conditioning of the same story: who is known, summed out, simulated, dropped.

A question is evaluated at every draw: densities row by row, and tables and draws of the discrete sites that
are summed out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from inference.answers.result import Particles
from inference.compiler.vmapped import Vmapped
from inference.density.enumeration import log_sum, row_log_prob, table
from inference.story.handlers import Known
from inference.story.joint import Joint
from inference.story.observations import Observation
from inference.story.plan import enumerating
from inference.story.structure import Plate, Structure


@dataclass(frozen=True)
class Question:
    """A story, what is given, and what becomes of every other site.

    Attributes:
        particles: known latent sites, one value per draw: site -> (draws, *site shape).
        observations: what is given, checked; for the fitted rows, their data.
        summed: local discrete sites that are summed out.
        simulated: local sites that are drawn from their prior, given the global draws.
        dropped: sites that do not matter for this question.
        rows: the data plate in this question.
        new: whether the rows are new.
        draws: number of draws.
        joint: those of the summed sites that are summed out over all rows' values at once, if any.
        tied: names of plates whose rows the story mixes, so that they are no separate questions.
    """

    structure: Structure
    particles: Particles
    observations: Mapping[str, Observation]
    summed: tuple[str, ...]
    simulated: tuple[str, ...]
    dropped: tuple[str, ...]
    rows: Plate | None
    new: bool
    draws: int
    joint: Joint | None = None
    tied: frozenset[str] = frozenset()

    @property
    def counted(self) -> set[str]:
        """Sites whose density is the answer: what was seen, and what is summed out."""
        seen = {n for n in self.observations if n not in self.particles or n in self.seen}
        if not self.new:
            seen |= {n for n, s in self.structure.sample_sites.items() if s.observed}
        return seen | set(self.summed)

    @property
    def _beside(self) -> set[str]:
        """Known latent sites that depend on summed-out ones, and so tell of them."""
        hidden = set(self.summed)
        return {n for n in self.particles if hidden & self.structure.ancestors([n])}

    def shared_plates(self, names: Collection[str] = (), without: Collection[str] = ()) -> list[Plate]:
        """The plates that the counted and simulated sites (and ``names``) share, outermost first.

        New rows are separate questions, also where sites that they share are simulated.
        """
        sites = self.structure.sites
        simulated = [n for n in self.simulated if self.rows is None or sites[n].within(self.rows)]
        involved = [n for n in [*self.counted, *simulated, *names] if n not in without]
        return [p for p in self.structure.shared_plates(involved) if p.name not in self.tied]

    def known(self, particle: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of the known sites for one draw."""
        values = {n: e.value for n, e in self.observations.items()}
        return {**values, **{n: v for n, v in particle.items() if n in self.structure.sites}}

    @property
    def seen(self) -> dict[str, Tensor]:
        """Masks of half-seen data."""
        return {n: e.seen for n, e in self.observations.items() if e.seen is not None}

    def run(self, particle: Mapping[str, Tensor], assigned: Mapping[str, Tensor] | None = None) -> Any:
        """Run the story under enumeration at one draw; call inside :func:`isolated`.

        What is summed out jointly is held at the assigned values, by default at the first that it has.
        """
        if assigned is None:
            assigned = {} if self.joint is None else self.joint.first
        stand_in = {n: self.structure.sites[n].value for n in self.dropped}
        summed = [n for n in self.summed if n not in assigned]
        seen = {n: m for n, m in self.seen.items() if n not in assigned}
        known = Known({**self.known(particle), **assigned}, seen, summed, stand_in)
        with EnumMessenger(-1 - self.structure.nesting), known:
            return poutine.trace(self.structure.call).get_trace()

    def map(
        self,
        function: Callable[[Any], Any],
        particles: Particles | None = None,
        added: Callable[[Any], Any] = log_sum,
    ) -> Any:
        """Evaluate a function of one draw's run at every draw.

        Args:
            function: of a run.
            particles: known latent sites; by default the question's.
            added: where sites are summed out jointly, makes one of what the function returns at all
                assignments, stacked along the first axis; by default the log of the sum of exponentials.
        """
        chosen = self.particles if particles is None else particles
        count = self.draws if particles is None else len(next(iter(particles.values())))
        chosen = {**chosen, "": torch.zeros(count)}
        joint = self.joint

        def one(particle: Mapping[str, Tensor]) -> Any:
            if joint is None:
                return function(self.run(particle))
            return added(joint.each(lambda assigned: function(self.run(particle, assigned))))

        with self.structure.call.room(0):
            first = {n: v[0] for n, v in chosen.items()}
            with enumerating(self.summed):
                trace = self.run(first)
                function(trace)
            sizes = [
                n["unscaled_log_prob"].numel() * torch.Size(n["fn"].event_shape).numel()
                for n in trace.nodes.values()
                if "unscaled_log_prob" in n
            ]
            cost = max(sizes, default=1) * (1 if joint is None else joint.count)
            return Vmapped(one, cost)(chosen)

    def log_density(self, names: Collection[str], plates: list[Plate]) -> Tensor:
        """Log density of some sites, summed over what is summed out among them: (draws, *plate sizes)."""
        held = set() if self.joint is None else set(self.joint.values)
        if held and not held & set(names):
            return self.map(lambda trace: row_log_prob(trace, names, plates), added=_first)
        names = {*names, *(self.structure.ancestors(held) & set(self.summed))}
        return self.map(lambda trace: row_log_prob(trace, names, plates))

    def log_rows(self, plates: list[Plate]) -> Tensor:
        """Log density of the counted sites, per draw and per row: (draws, *plate sizes), in nats."""
        beside, hidden = self._beside, set(self.summed)
        total = self.log_density(self.counted | beside, plates)
        if not beside:
            return total
        known = self.log_density(hidden | beside, plates)  # what is known is no answer
        return total - known + self.log_density(hidden, plates)

    def tables(self, site: str, particles: Particles | None = None) -> Tensor:
        """Log conditional probabilities of a summed-out site: (draws, *site shape, categories)."""
        shape, joint = self.structure.sites[site].shape, self.joint
        if joint is None:
            return self.map(lambda trace: table(trace, self._told, site).reshape(*shape, -1), particles)
        if site in joint.values:
            hits = joint.hits(self.structure, site)
            return torch.tensordot(self.assignments(particles).exp(), hits, 1).log()

        def both(trace: Any) -> tuple[Tensor, Tensor]:
            own = table(trace, self._told, site).reshape(*shape, -1)
            return row_log_prob(trace, self._told, []), own

        def mean(parts: tuple[Tensor, Tensor]) -> Tensor:
            weight, tables = parts
            return log_sum(weight.log_softmax(0).reshape(-1, *[1] * (tables.dim() - 1)) + tables)

        return self.map(both, particles, mean)

    @property
    def _told(self) -> set[str]:
        """Sites that tell of what is summed out."""
        return self.counted | set(self.observations) | self._beside

    def assignments(self, particles: Particles | None = None) -> Tensor:
        """Log conditional probabilities of what is summed out jointly: (draws, assignments)."""
        log_w = self.map(lambda trace: row_log_prob(trace, self._told, []), particles, lambda parts: parts)
        return cast(Tensor, log_w.log_softmax(-1))


def _first(parts: Tensor) -> Tensor:
    return parts[0]


def draw_discrete(question: Question, particles: Particles, seed: int) -> Particles:
    """Draw the summed-out sites from their joint conditional, one draw per particle, site by site.

    Returns:
        The particles with the drawn sites added.
    """
    particles = dict(particles)
    count = len(next(iter(particles.values()))) if particles else question.draws
    generator = torch.Generator().manual_seed(seed)
    if question.joint is not None:
        question, drawn = _draw_jointly(question, question.joint, particles, count, generator)
        particles |= drawn
    order = [n for n in question.structure.sites if n in question.summed]
    for position, name in enumerate(order):
        left = replace(question, summed=tuple(order[position:]))
        chosen = particles or {"": torch.zeros(count)}
        log_p = left.tables(name, chosen)
        flat = log_p.exp().reshape(-1, log_p.shape[-1])
        index = torch.multinomial(flat, 1, generator=generator).reshape(log_p.shape[:-1])
        support = question.structure.sites[name].fn.enumerate_support(expand=False).reshape(-1)
        particles[name] = support[index]
    return particles


def _draw_jointly(
    question: Question, joint: Joint, particles: Particles, count: int, generator: torch.Generator
) -> tuple[Question, Particles]:
    """Draw what is summed out jointly; the question with these known, and their values."""
    log_p = question.assignments(particles or {"": torch.zeros(count)})
    index = torch.multinomial(log_p.exp(), 1, generator=generator).squeeze(-1)
    known = {n: Observation(e.value) if n in joint.values else e for n, e in question.observations.items()}
    summed = tuple(n for n in question.summed if n not in joint.values)
    drawn = {n: v[index] for n, v in joint.values.items()}
    return replace(question, observations=known, summed=summed, joint=None), drawn
