"""Fit a story to data: the page to open first.

``fit`` reads from top to bottom: check the data, turn the story and the data into one log density, climb
the ladder of guides in several independent restarts, certify each by importance weights, and hand back a
posterior that carries the verdict.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from inference import options, svi
from inference.asked import Asked
from inference.calls import Call
from inference.certificate import Certificate, missed_mode, verdict
from inference.construct import beside, instance, maker
from inference.density import LogDensity
from inference.evidence import Evidence, as_evidence
from inference.fitted import Fit
from inference.guides import full_rank
from inference.guides.gaussian import Gaussian
from inference.guides.mixture import Mixture
from inference.guides.start import climbs
from inference.isolation import one_thread
from inference.ladder import Climber
from inference.losses import on_samples
from inference.modes import MISSED, missed_mass
from inference.posterior import Posterior
from inference.problems import Replicates
from inference.programs import FittedGuide
from inference.progress import Progress
from inference.seeds import mix
from inference.structure import Structure, inspect_rows
from inference.tails import heavy
from inference.weighing import Replicate


def fit(
    story: Callable[..., Any],
    data: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    guide: str | Callable[..., Any] = "auto",
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
            shape. Discrete sites left out are summed out; continuous ones are inferred. Or a loader, an
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
        loss: a Pyro ELBO instance; by default ``TraceEnum_ELBO`` where discrete sites are summed out,
            ``TraceMeanField_ELBO`` for networks whose guide admits it. Or a function ``(samples, data)`` ->
            number, for stories without a likelihood: the story is run forward, with the sites that others of
            the data depend on held. A module with parameters is an adversary: they climb.
        optim: a Pyro optimizer or scheduler, a torch optimizer class, a ``functools.partial`` of one, or a
            function of the parameters that returns an optimizer, or one with its scheduler; by default Adam:
            at 0.05, halved whenever the ELBO stands still; with networks at 0.003, or with `steps`, falling
            to zero at the end (see :mod:`inference.schedule`). Steps that are not finite are skipped and
            counted; clipped gradients are too.
        steps: cap on the steps of the guide's loop; by default it stops by its own rule. SVI takes them all,
            over which its rate falls.
        batch_size: rows of the data plate per step, for SVI: the story is called with the batch's
            arguments (``n`` is the batch's row count, tensor arguments with one leading entry per row
            are sliced), and the sites in the plate are scaled by rows / batch rows. With loss, optim or
            batch_size and a guide by name, Pyro's AutoNormal or AutoMultivariateNormal is fitted.
        held_out: share of the rows, or data of other rows, on which the ELBO is watched while SVI fits the
            rest: training ends when it no longer rises, and the best parameters are kept.
        warm_up: steps of SVI over which the latent sites' part of the ELBO, which draws guide and prior
            together, rises from zero.
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
    options.check_counts(restarts=restarts, draws=draws, steps=steps, batch_size=batch_size)
    loader, data = options.rows_of(data, batch_size, held_out)
    call = Call.bind(instance(story), args, kwargs)
    structure, evidence = inspect_rows(call, as_evidence(data))
    options.require_data(structure, data)
    if guide == "auto" and not on_samples(loss):
        guide = beside(story)
    asked = Asked(
        guide, loss, optim, batch_size, steps, maker(story), story, options.warm_up(warm_up), held_out,
        options.device(device), loader,
    )  # fmt: skip
    if asked.needed(structure):
        return _by_svi(structure, evidence, asked, restarts, draws, seed, progress, began)
    options.require_cpu(asked.device)
    density = LogDensity(structure, evidence)
    if density.size == 0:
        return _nothing_unknown(density, time.perf_counter() - began)
    generators = [torch.Generator().manual_seed(mix(seed, restart)) for restart in (*range(restarts), -2)]
    with one_thread(), Progress(restarts, progress) as bar:
        *own, shared = generators
        climbed = Climber(density, own, shared, draws, steps, bar.step).climb(str(guide))
    certificate = verdict(
        climbed.replicates,
        rung=climbed.rung,
        converged=climbed.converged,
        gradient_calls=density.gradient_calls,
        seconds=time.perf_counter() - began,
        flaws=[density.flaw] if density.flaw else [],
        notes=[f"{density.note}; plain Pyro was used, draw by draw." for _ in [0] if density.note],
        polished=climbed.polished,
        reasons=climbed.reasons,
    )
    if certificate.trusted and climbed.missed > MISSED:
        certificate = replace(certificate, trusted=False, reasons=(missed_mode(climbed.missed),))
    posterior = _posterior(
        density, climbed.replicates, certificate, climbed.guides[climbed.best], bar.history
    )
    posterior.certificate = replace(certificate, notes=(*certificate.notes, *heavy(posterior.draws)))
    return posterior


def _by_svi(
    structure: Structure,
    evidence: Mapping[str, Evidence],
    asked: Asked,
    restarts: int,
    draws: int,
    seed: int,
    progress: bool | None,
    began: float,
) -> Posterior:
    """Fit a guide program, parameters or minibatches by Pyro's SVI, and certify by the same rules."""
    seeds = [mix(seed, restart) for restart in range(restarts)]
    with one_thread():
        found = svi.run(structure, evidence, asked, draws=draws, seeds=seeds, seed=seed, progress=progress)
    if isinstance(found, Posterior):
        found.certificate = replace(found.certificate, seconds=time.perf_counter() - began)
        return found
    if not found.replicates:
        return svi.settled(found, _nothing_unknown(found.density, time.perf_counter() - began))
    certificate = verdict(
        found.replicates,
        rung=found.name,
        converged=found.converged,
        gradient_calls=found.gradient_calls,
        seconds=time.perf_counter() - began,
        flaws=found.flaws,
        notes=found.notes,
    )
    if found.point:
        certificate = svi.without_weights(certificate, found.flaws[0])
    if certificate.trusted and found.gaussians:
        certificate = _challenge(certificate, found.density, found.gaussians, seed)
    return _posterior(found.density, found.replicates, certificate, found.guide, found.history)


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
    options.check_counts(draws=draws)
    call = Call.bind(instance(story, seed), args, kwargs)
    structure, evidence = inspect_rows(call, {})
    certificate = Certificate(trusted=True, method="prior", guide="none")
    return Posterior(Fit.of_prior(structure, draws, seed), certificate, None, [])


def _challenge(
    certificate: Certificate, density: LogDensity, guides: list[Gaussian], seed: int
) -> Certificate:
    """Withdraw trust if fresh starts find a mode that the restarts of SVI missed."""
    if density.size > full_rank.LARGEST:
        return certificate
    generator = torch.Generator().manual_seed(mix(seed, -2))
    one = Replicates(density, 1)
    with one_thread():
        even = torch.full((1, len(guides)), -math.log(len(guides)), dtype=torch.float64)
        mixture = Mixture.of_parts(Gaussian.stack(guides)[None], even)
        centres, evidence = mixture.parts.loc, certificate.log_evidence or 0.0
        share = missed_mass(one, mixture, centres, evidence, climbs(one, [generator]), generator)
    if share <= MISSED:
        return certificate
    return replace(certificate, trusted=False, reasons=(missed_mode(share),))


def _posterior(
    density: LogDensity,
    replicates: list[Replicate],
    certificate: Certificate,
    guide: Gaussian | Mixture | FittedGuide | None,
    history: list[tuple[str, int, float]],
) -> Posterior:
    z, lp, log_q = (torch.stack([getattr(r, name) for r in replicates]) for name in ("z", "log_p", "log_q"))
    return Posterior(Fit.of_points(density, z, {"lp": lp, "log_q": log_q}), certificate, guide, history)


def _nothing_unknown(density: LogDensity, seconds: float) -> Posterior:
    """Every latent site was summed out exactly: one empty draw, and the evidence without error."""
    evidence = float(density.log_prob(torch.zeros(1, 0, dtype=torch.float64)))
    certificate = Certificate(
        trusted=not density.flaw, method="exact", guide="none", elbo=evidence, log_evidence=evidence,
        log_evidence_stderr=0.0, seconds=seconds, reasons=(density.flaw,) if density.flaw else (),
    )  # fmt: skip
    return Posterior(Fit.of_density(density, {}, {}), certificate, None, [])
