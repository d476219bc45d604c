"""Every question is a conditioning of the same story: who is known, summed out, simulated, dropped.

A question about new rows holds the global draws fixed, sums local discrete sites out exactly and draws
local continuous sites from their prior, one for every global draw (importance sampling with the prior as
proposal). A question about the fitted rows keeps their latents and conditions on their data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from inference.answers.result import Fit, Particles, run_forward
from inference.compiler.vmapped import Vmapped
from inference.density.enumeration import log_sum, row_log_prob, table
from inference.story.handlers import Known
from inference.story.inspection import inspect_rows
from inference.story.joint import Joint, UnaffordableError, joint_of
from inference.story.observations import Observation, as_observations, factorized, require_maskable
from inference.story.plan import enumerating
from inference.story.structure import Plate, Structure

_DISCRETE = 4000  # draws of global discrete sites where nothing continuous was unknown
_SIMULATED = 1000  # global draws that are kept when local continuous sites must be simulated


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

    def run(self, particle: Mapping[str, Tensor], assigned: Mapping[str, Tensor]) -> Any:
        """Run the story under enumeration at one draw; call inside :func:`isolated`.

        What is summed out jointly is held at the assigned values.
        """
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
                return function(self.run(particle, {}))
            return added(joint.each(lambda assigned: function(self.run(particle, assigned))))

        with self.structure.call.room(0):
            first = {n: v[0] for n, v in chosen.items()}
            with enumerating(self.summed):
                trace = self.run(first, {} if joint is None else joint.first)
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
