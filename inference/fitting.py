"""Fit a story to data: the page to open first.

``fit`` reads from top to bottom: check the data, turn the story and the data into one log density, climb
the ladder of guides in several independent restarts, certify each by importance weights, and hand back a
posterior that carries the verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from inference import options
from inference.answers.completion import completed
from inference.answers.result import Fit
from inference.checks.adaptive_proposal import mixture_around
from inference.checks.certificate import Certificate
from inference.checks.importance import Replicate
from inference.checks.modes import missed_mass
from inference.checks.stein import departures_from
from inference.checks.tails import MEAN, heavy, uncarried
from inference.checks.verdict import exact_verdict, refused_verdict, rows_verdict, verdict
from inference.density.log_density import LogDensity
from inference.density.problems import Replicates
from inference.guides import full_rank
from inference.guides.starts import climbs
from inference.ladder import Climber, searched
from inference.posterior.posterior import Posterior
from inference.runtime.arguments import check_counts, device_named
from inference.runtime.isolation import one_thread
from inference.runtime.progress import Progress
from inference.runtime.workers import mix
from inference.story.call import Call
from inference.story.construct import beside, instance, maker
from inference.story.inspection import inspect_rows
from inference.story.observations import Observation, as_observations
from inference.story.structure import Structure
from inference.svi.losses import on_samples
from inference.svi.request import SVI, Request
from inference.svi.row_checks import RowFindings
from inference.svi.run import SVIResult, run_svi
from inference.svi.training import kept_parameters

_SEARCHES = 4  # independent sets of climbs that look for modes which a guide program missed


def fit(
    story: Callable[..., Any],
    data: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    guide: str | Callable[..., Any] = "auto",
    svi: SVI | None = None,
    loss: Any = None,
    optim: Any = None,
    steps: int | None = None,
    batch_size: int | None = None,
    held_out: float | Mapping[str, Any] | None = None,
    warm_up: int = 0,
    restarts: int = 4,
    draws: int = 1000,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Fit a generative story to data and certify the result.

    Args:
        story: a Pyro program, or a ``PyroModule``, that writes down the joint and observes nothing; one that
            observes inside (``obs=``) is fitted too, with ``data={}``. An instance of a module is copied; a
            class (or ``functools.partial`` of one) is constructed anew for every restart. Networks keep their
            dtype, and the data are cast to it.
        data: site name -> tensor, array or numpy masked array (True = missing), in the site's full
            shape. Discrete sites left out are summed out (where the story mixes their rows, over up to 4,096
            assignments of values to rows; more are refused); continuous ones are inferred. Or a loader, an
            iterable of such mappings with a ``dataset`` (a torch ``DataLoader``), which makes the batches.
        args, kwargs: what the story is called with. An omitted argument named ``n`` is the number of
            rows of the data. Floating-point tensors are cast on a copy, to float64 without networks.
        guide: "auto", or the name of a rung: "full_rank", "mean_field", "laplace"; or a Pyro guide, fitted
            by Pyro's SVI: an autoguide's class (``AutoNormal``) or fresh instance, which is set up on the
            conditioned story, or a function or module that is called like the story, and with the batch's
            mapping ``data=`` and masks of half-seen sites ``seen=`` where its signature has these names, or a
            class that is constructed as ``guide(story)``. A ``guide`` that stands beside the story in its
            module is what "auto" means. Guides are copied. One may draw a discrete site, enumerated, that
            would be summed out; its labels, where given, are held.
        svi: how Pyro's SVI is to train, where it does: its loss, optimizer, minibatches, held-out rows and
            warm-up, as :class:`inference.SVI` says.
        loss, optim, batch_size, held_out, warm_up: the same options one by one, in place of ``svi``.
        steps: cap on the steps of the guide's loop; by default it stops by its own rule. SVI takes them all,
            over which its rate falls.
        restarts: independent replicates of the whole fit, each from its own start; the chains of
            ArviZ.
        draws: equally weighted posterior draws per restart.
        seed: the same seed gives the same draws on the same machine.
        device: where SVI trains, such as "cuda"; results come back to the CPU.
        progress: show a bar; by default on a terminal only.

    Returns:
        A :class:`~inference.posterior.Posterior`. Look at its ``certificate`` first.

    Raises:
        ValueError: for data that do not fit the story; it names the site, what was expected and what
            came.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> posterior = fit(story, {"x": torch.tensor([3.0, 5.0, 4.0, 8.0])}, seed=1)
        >>> posterior.certificate.trusted, posterior.draws["mu"].shape
        (True, torch.Size([4, 1000]))
    """
    began = time.perf_counter()
    check_counts(restarts=restarts, draws=draws, steps=steps)
    svi = SVI.merged(svi, loss=loss, optim=optim, batch_size=batch_size, held_out=held_out, warm_up=warm_up)
    options.require_untrained(guide)
    loader, data = options.rows_of(data, svi)
    call = Call.bind(instance(story), args, kwargs)
    structure, observations = inspect_rows(call, as_observations(data))
    options.require_data(structure, data)
    if guide == "auto" and not on_samples(svi.loss):
        guide = beside(story)
    request = Request(guide, svi, steps, maker(story), story, device_named(device), loader)
    if request.needed(structure):
        return _by_svi(structure, observations, request, restarts, draws, seed, progress, began)
    options.require_cpu(request.device)
    density = LogDensity(structure, observations)
    if density.size == 0:
        return _nothing_unknown(density, began)
    return _by_ladder(density, str(guide), steps, restarts, draws, seed, progress, began)


def _by_ladder(
    density: LogDensity,
    guide: str,
    steps: int | None,
    restarts: int,
    draws: int,
    seed: int,
    progress: bool | None,
    began: float,
) -> Posterior:
    """Climb the ladder of guides, until weights or chains certify the draws."""
    generators = [torch.Generator().manual_seed(mix(seed, restart)) for restart in (*range(restarts), -2)]
    with one_thread(), Progress(restarts, progress) as bar:
        *own, shared = generators
        climbed = Climber(density, own, shared, draws, steps, bar.step).climb(guide)
    seconds = time.perf_counter() - began
    known, undrawn = completed(_known(density, climbed.replicates), seed)
    certificate = verdict(
        climbed.replicates,
        rung=climbed.rung,
        converged=climbed.converged,
        gradient_calls=density.gradient_calls,
        seconds=seconds,
        flaws=[density.flaw] if density.flaw else [],
        notes=[
            *_plain(density),
            *kept_parameters(density.structure),
            *climbed.notes,
            *heavy(known.values, by_chains=climbed.polished is not None),
            *undrawn,
        ],
        polished=climbed.polished,
        reasons=climbed.reasons,
        missed=lambda log_evidence: climbed.missed,
    )
    return Posterior(known, certificate, climbed.guides[climbed.best], bar.history)


def _by_svi(
    structure: Structure,
    observations: Mapping[str, Observation],
    request: Request,
    restarts: int,
    draws: int,
    seed: int,
    progress: bool | None,
    began: float,
) -> Posterior:
    """Fit a guide program, parameters or minibatches by Pyro's SVI, and certify by the same rules."""
    seeds = [mix(seed, restart) for restart in range(restarts)]
    with one_thread():
        found = run_svi(
            structure, observations, request, draws=draws, seeds=seeds, seed=seed, progress=progress
        )
    return of_svi(found, seed, began)


def of_svi(found: SVIResult, seed: int, began: float) -> Posterior:
    """The posterior and the certificate of what guide programs, or given draws, were found to be worth."""
    findings = found.findings
    if isinstance(findings, RowFindings):
        certificate = _of_rows(found, findings, time.perf_counter() - began)
        return Posterior(findings.fit, certificate, findings.guide, found.history, found.training)
    density, replicates = findings.density, findings.replicates
    if not replicates:
        return _nothing_unknown(density, began, found, findings.notes)
    known, undrawn = completed(_known(density, replicates), seed)
    reasons = uncarried(density, replicates, MEAN)
    if all(r.certified for r in replicates):
        reasons += departures_from(density, torch.stack([r.z for r in replicates]))
    certificate = verdict(
        replicates,
        rung=found.name,
        converged=found.converged,
        gradient_calls=found.gradient_calls,
        seconds=time.perf_counter() - began,
        flaws=findings.flaws,
        notes=[*_plain(density), *findings.notes, *heavy(known.values), *undrawn],
        reasons=reasons,
        compared=bool(found.converged),
        missed=lambda log_evidence: _missed(density, replicates, log_evidence, seed),
        point_mass=findings.point_mass,
    )
    return Posterior(known, certificate, findings.guide, found.history, found.training)


def _plain(density: LogDensity) -> list[str]:
    return [f"{density.note}; plain Pyro was used, draw by draw."] if density.note else []


def prior(
    story: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Posterior:
    """Return the unfitted story behind the same verbs: prior predictive, implied p(x), Bayes inversion.

    Args:
        story, args, kwargs: as in :func:`fit`; an omitted argument ``n`` is the row count of each
            question.
        draws: of the latent sites, from the prior.
        seed: of those draws.

    Raises:
        ValueError: if the story cannot be called so, or a prior is improper and cannot be sampled.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> def coin(n):
        ...     bias = pyro.sample("bias", dist.Beta(2.0, 2.0))
        ...     with pyro.plate("toss", n):
        ...         pyro.sample("heads", dist.Bernoulli(bias))
        >>> prior(coin, seed=0).sample("heads", num_samples=100, args=(5,)).shape
        torch.Size([100, 5])
    """
    check_counts(draws=draws)
    call = Call.bind(instance(story, seed), args, kwargs)
    structure, observations = inspect_rows(call, {})
    certificate = Certificate(trusted=True, method="prior", guide="none")
    return Posterior(Fit.of_prior(structure, draws, seed), certificate, None, [])


def _missed(density: LogDensity, replicates: list[Replicate], log_evidence: float, seed: int) -> float:
    """The share of the mass in a mode that fresh starts find and the restarts of SVI missed."""
    if density.size > full_rank.LARGEST:
        return 0.0
    one, several = Replicates(density, 1), Replicates(density, _SEARCHES)
    *own, shared = (torch.Generator().manual_seed(mix(seed, -2 - search)) for search in range(_SEARCHES + 1))
    with one_thread():
        mixture = mixture_around(torch.cat([r.z for r in replicates])[None], [shared])
        starts, strides, _ = searched(several, shared)
        ends = climbs(several, own, prior=starts, strides=strides)
        return missed_mass(one, mixture, mixture.parts.loc, log_evidence, ends, shared)


def _of_rows(found: SVIResult, rows: RowFindings, seconds: float) -> Certificate:
    """The certificate of a fit that was checked row by row."""
    if rows.refusal:
        return refused_verdict(
            rows.refusal,
            gradient_calls=found.gradient_calls,
            seconds=seconds,
            reasons=rows.reasons,
            notes=rows.notes,
        )
    return rows_verdict(
        rows.checks,
        rows.best,
        held_out=rows.held_out,
        spread=rows.spread,
        rung=found.name if rows.drawn else "none",
        resampled=rows.resampled,
        gradient_calls=found.gradient_calls,
        seconds=seconds,
        reasons=rows.reasons,
        notes=rows.notes,
    )


def _known(density: LogDensity, replicates: list[Replicate]) -> Fit:
    """What is known from draws that were weighed, or that chains made."""
    z, lp, log_q = (torch.stack([getattr(r, name) for r in replicates]) for name in ("z", "log_p", "log_q"))
    return Fit.of_points(density, z, {"lp": lp, "log_q": log_q})


def _nothing_unknown(
    density: LogDensity, began: float, found: SVIResult | None = None, notes: Sequence[str] = ()
) -> Posterior:
    """Every latent site was summed out exactly: one empty draw, and the evidence without error.

    Where parameters were trained, ``found`` says of each restart whether that ended by its own rule.
    """
    converged = [] if found is None else found.converged
    log_evidence = float(density.log_prob(torch.zeros(1, 0, dtype=torch.float64)))
    reasons = [density.flaw] if density.flaw else []
    reasons += [] if all(converged) else ["Training stopped before convergence. Raise `steps`."]
    known, undrawn = completed(Fit.of_density(density, {}, {}), 0)
    certificate = exact_verdict(
        log_evidence,
        method="svi" if converged else "exact",
        seconds=time.perf_counter() - began,
        reasons=reasons,
        notes=[*notes, *undrawn],
    )
    if found is None:
        return Posterior(known, certificate, None, [])
    return Posterior(known, certificate, None, found.history, found.training)
