"""A fitted guide program as a proposal: its draws in unconstrained space, with their log density."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inference.checks.importance import EASY, ERRORS, Replicate, weigh
from inference.density.inverse import unconstrained
from inference.density.log_density import LogDensity
from inference.density.problems import Replicates
from inference.guides.full_rank import LARGEST
from inference.guides.gaussian import Gaussian
from inference.guides.mixture import Mixture
from inference.runtime.isolation import isolated
from inference.story.bijections import bijection
from inference.story.programs import FittedGuide
from inference.svi.target import Target

_POOL = 4096  # draws where the guide can be batched: the threshold for k-hat is then 0.7
_LOOPED = 1000  # draws where it must be run draw by draw, to begin with
_ELBO = 1000  # draws that the reported ELBO averages over
_CHUNK = 512
_KOLMOGOROV = 3.0  # standardized distance of two samples' shares; exceeded by chance in 3 of 1e8
_APART = 0.02  # and how much beside it, for the finite error of weights


class GuideDraws:
    """Draws of a guide program, mapped to the density's unconstrained space.

    A program gives draws and their density together, so ``log_prob`` answers for the draws that
    ``sample`` made last.

    Args:
        guide: fitted; it samples every unknown site under its own name.
        density: whose unconstrained space it is.
    """

    def __init__(self, guide: FittedGuide, density: LogDensity) -> None:
        self.guide, self.density = guide, density
        self.batched = True
        self._last: tuple[Tensor, Tensor] | None = None

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count, size) unconstrained vectors."""
        seed = int(torch.randint(2**62, (), generator=generator))
        with isolated(seed), torch.no_grad():
            values, log_q = self._draw(count)
            z, log_det = unconstrained(self.density, values)
        self._last = (z, log_q + log_det)
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of the draws made last, in unconstrained space, in nats."""
        if self._last is None or self._last[0] is not z:
            raise RuntimeError("the density of a guide program is known for its last draws only")
        return self._last[1]

    def _draw(self, count: int) -> tuple[dict[str, Tensor], Tensor]:
        none = torch.zeros(count)
        if self.batched:
            try:
                with _BatchedNoise():
                    return torch.vmap(self._one, randomness="different", chunk_size=_CHUNK)(none)
            except (RuntimeError, NotImplementedError, ValueError):  # it branches on values, say
                self.batched = False
        drawn = [self._one(none[0]) for _ in range(count)]
        values = {n: torch.stack([v[n] for v, _ in drawn]) for n in self.density.names}
        return values, torch.stack([log_q for _, log_q in drawn])

    def _one(self, _: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        call = self.density.structure.call.fresh()
        run = poutine.trace(self.guide).get_trace(*call.args, **call.kwargs)
        require_match(run, self.density)
        sites = {n: msg for n, msg in _sampled(run).items() if not msg["is_observed"]}
        _require_summed_out(sites, self.density)
        run.compute_log_prob()
        parts = [torch.as_tensor(n["log_prob_sum"]).double() for n in sites.values()]
        values = {n: torch.as_tensor(run.nodes[n]["value"]).double() for n in self.density.names}
        return values, torch.stack(parts).sum()


class _BatchedNoise(TorchFunctionMode):
    """Draw normals as new tensors: vmap refuses to fill one tensor with a different draw per element."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.normal_ and len(args) == 1 and not kwargs:
            return torch.randn(args[0].shape, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


def _sampled(run: Any) -> dict[str, Any]:
    return {
        n: msg
        for n, msg in run.nodes.items()
        if msg["type"] == "sample" and not site_is_subsample(msg) and not msg["infer"].get("_deterministic")
    }


def require_match(run: Any, density: LogDensity | Target, rows: tuple[str, int] | None = None) -> None:
    """Check that a run of a guide samples the unknown sites, in their shapes, and no others.

    It may draw discrete sites too that are summed out, for an ELBO that enumerates them, and have observed
    sites of its own (``pyro.factor``), which are part of the loss only.

    Args:
        run: a trace of the guide.
        density: of the story.
        rows: name of the data plate and number of rows, where the run was on a batch.

    Raises:
        ValueError: naming the site, what was expected and what came.
    """
    sampled = {n: m for n, m in _sampled(run).items() if not m["infer"].get("is_auxiliary")}
    sampled = {n: m for n, m in sampled.items() if not m["is_observed"]}  # terms of its own, as pyro.factor
    missing = [n for n in density.names if n not in sampled]
    if missing:
        raise ValueError(
            f"guide: expected a sample statement for each of {', '.join(density.names)}, got none for "
            f"{missing[0]!r}."
        )
    extra = [n for n in sampled if n not in density.names and n not in density.plan.summed]
    if extra:
        raise ValueError(
            f"guide: expected sample statements for {', '.join(density.names)}, got {extra[0]!r} too, which "
            f"{site_role(extra[0], density)}. Remove it, or mark it infer={{'is_auxiliary': True}}."
        )
    for name in density.names:
        expected, got = list(density.structure.sites[name].shape), list(sampled[name]["value"].shape)
        site = density.structure.sites[name]
        for plate in site.plates:
            if rows is not None and plate.name == rows[0]:
                expected[len(expected) - site.fn.event_dim + plate.dim] = rows[1]
        if got != expected:
            raise ValueError(
                f"guide: expected {name!r} of shape {tuple(expected)}, got {tuple(got)}. The guide must "
                f"sample it in the same plates and with the same event shape as the story."
            )


def _require_summed_out(sampled: Mapping[str, Any], density: LogDensity) -> None:
    drawn = [n for n in sampled if n in density.plan.summed]
    if drawn:
        raise ValueError(
            f"guide: it draws {drawn[0]!r}, which is discrete and is summed out, so that the density of its "
            f"other sites is not known. It may where all unknowns belong to rows and it reads them (data=); "
            f"here, leave {drawn[0]!r} out of the guide."
        )


def site_role(name: str, density: LogDensity | Target) -> str:
    """What a site that is not unknown is instead, to end a sentence with."""
    if name in density.plan.summed:
        return "is discrete and summed out"
    if name in density.plan.dropped:
        return "no data depend on"
    return "is observed" if name in density.structure.sites else "is no site of the story"


def point_mass(guide: FittedGuide, density: LogDensity) -> str:
    """Why a guide's draws have no density over the unknowns; empty if they have."""
    call = density.structure.call.fresh()
    with isolated(0):
        run = poutine.trace(guide).get_trace(*call.args, **call.kwargs)
    numbers = sum(dimension(msg) for msg in _sampled(run).values() if not msg["is_observed"])
    if numbers == density.size:
        return ""
    fewer = "puts point masses on some of them" if numbers < density.size else "has noise of its own"
    return (
        f"The guide draws {numbers} random numbers for {density.size} unknowns: it {fewer}, so that its "
        f"draws have no density that could be weighed. Use a guide with a density over all unknowns."
    )


def dimension(msg: Any) -> int:
    """How many random numbers a site draws; none from a point mass."""
    fn = msg["fn"]
    while hasattr(fn, "base_dist") and isinstance(fn, dist.Independent | dist.MaskedDistribution):
        fn = fn.base_dist
    if isinstance(fn, dist.Delta):
        return 0
    return bijection(msg["fn"].support).inverse_shape(msg["value"].shape).numel()


class _Only:
    """A guide program as the proposal of one problem."""

    def __init__(self, drawn: GuideDraws) -> None:
        self.drawn, self.last = drawn, torch.zeros(0)

    def of(self, which: Tensor | None) -> _Only:
        """There is only one."""
        return self

    def put(self, rows: Tensor, other: _Only) -> _Only:
        """The other."""
        return other

    def sample(self, count: int, generators: list[torch.Generator]) -> Tensor:
        """(1, count, size)."""
        self.last = self.drawn.sample(count, generators[0])
        return self.last[None]

    def log_prob(self, z: Tensor) -> Tensor:
        """(1, count) of the draws made last."""
        return self.drawn.log_prob(self.last)[None]


def weigh_guide(drawn: GuideDraws, draws: int, generator: torch.Generator) -> Replicate:
    """Weigh a guide program's draws against the target; resample them by their weights if they pass."""
    density = drawn.density
    z = drawn.sample(max(draws, _ELBO), generator)
    log_p, log_q = density.log_prob(z), drawn.log_prob(z)
    elbo = float((log_p - log_q).mean())
    size = max(_POOL, 4 * draws) if drawn.batched else max(_LOOPED, draws)
    one, elbos = Replicates(density, 1), torch.tensor([elbo])
    found = weigh(one, _Only(drawn), elbos, draws, [generator], size).replicates[0]
    if found.certified:
        return found
    return replace(found, z=z[:draws], log_p=log_p[:draws], log_q=log_q[:draws], resampled=False)


def gaussian(z: Tensor) -> Gaussian | None:
    """The Gaussian with the draws' mean and covariance; ``None`` where it is singular or too large."""
    if z.shape[1] > LARGEST or not bool(torch.isfinite(z).all()):
        return None
    factor, failed = torch.linalg.cholesky_ex(z.T.cov().reshape(z.shape[1], z.shape[1]))
    return None if int(failed) or not bool((factor.diagonal() > 0).all()) else Gaussian(z.mean(0), factor)


def wider(
    density: LogDensity, around: Gaussian, replicate: Replicate, draws: int, generator: torch.Generator
) -> list[str]:
    """Reasons from a second proposal that reaches further: a Student t around the guide's draws.

    The weights of a guide whose support is too small look excellent, since no draw lies outside it; the
    log evidence then comes out too small.
    """
    other = reaching(density, Mixture.single(around[None]), replicate, draws, generator)
    return more_evidence(replicate, other)


def reaching(
    density: LogDensity,
    proposal: Mixture,
    replicate: Replicate,
    draws: int,
    generator: torch.Generator,
    *,
    adaptive: bool = False,
) -> Replicate:
    """What weights of mixtures around the guide's draws say; ``adaptive`` ones are fitted further."""
    one, elbo = Replicates(density, 1), torch.tensor([replicate.elbo])
    easy = EASY if adaptive and density.traced else None
    return weigh(one, proposal, elbo, draws, [generator], max(_POOL, 4 * draws), easy=easy).replicates[0]


def together(replicates: Sequence[Replicate]) -> Replicate:
    """The first, with the log evidence of all: whose error is smaller."""
    log_evidence = sum(r.log_evidence for r in replicates) / len(replicates)
    stderr = math.hypot(*(r.log_evidence_stderr for r in replicates)) / len(replicates)
    return replace(replicates[0], log_evidence=log_evidence, log_evidence_stderr=stderr)


def more_evidence(replicate: Replicate, other: Replicate) -> list[str]:
    """Reasons from the log evidence that another proposal finds, if its own weights pass."""
    if not (other.certified and math.isfinite(replicate.log_evidence)):
        return []
    gap = other.log_evidence - replicate.log_evidence
    if abs(gap) <= 1e-3 + (ERRORS + 1) * math.hypot(other.log_evidence_stderr, replicate.log_evidence_stderr):
        return []
    if gap > 0:
        return [
            f"A proposal with wider tails finds {gap:.3f} nats more evidence than the guide's own draws: the "
            f"guide leaves part of the posterior out (check the supports and tails of its sites), or log q "
            f"is not that of its draws (a constant, a Jacobian)."
        ]
    return [
        f"A proposal with wider tails finds {-gap:.3f} nats less evidence than the guide's own draws: log q "
        f"is not the log density of these draws with respect to the sites' own values. Look for a constant "
        f"or a Jacobian that is missing, a mask or a scale."
    ]


def elsewhere(replicates: Sequence[Replicate], others: Sequence[Replicate]) -> list[str]:
    """Reasons from where the draws of other proposals lie, whose own weights pass.

    Weights by a log q that is not that of the draws may be as even as right ones, and their log evidence
    right by chance; the draws then lie elsewhere. The distance of Kolmogorov and Smirnov knows no scale.
    """
    if not (all(o.certified for o in others) and all(r.resampled for r in replicates)):
        return []
    one, two = (torch.cat([r.z for r in some]).T.contiguous() for some in (replicates, others))
    at = torch.cat([one, two], 1).sort(1).values
    below = [torch.searchsorted(x.sort(1).values, at, right=True) / x.shape[1] for x in (one, two)]
    distance = float((below[0] - below[1]).abs().max())
    carried = [sum(len(r.z) for r in s) for s in (replicates, others)] + [
        sum(r.ess for r in s) for s in (replicates, others)
    ]
    if distance <= _APART + _KOLMOGOROV * math.sqrt(sum(1 / c for c in carried)):
        return []
    return [
        f"Weighted draws of a proposal with wider tails lie elsewhere than these: the shares of both that "
        f"lie below some value differ by {distance:.2f}. log q is not the log density of these draws with "
        f"respect to the sites' own values (a Jacobian is missing, say), or part of the posterior is left "
        f"out."
    ]
