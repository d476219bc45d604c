"""A trusted sampler for where no truth is known: long chains from overdispersed starts, or a refusal.

Nothing that a fit found enters: starts, step size and metric are the chains' own. So it is an independent
check of :func:`inference.fit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference import options
from inference.answers.completion import completed
from inference.answers.result import Fit
from inference.checks.certificate import Certificate
from inference.checks.holes import holes_beside
from inference.density.log_density import LogDensity
from inference.density.prior_starts import prior_starts
from inference.hmc.long_chains import LongChains, run_chains
from inference.hmc.short_chains import NAME
from inference.posterior.posterior import Posterior
from inference.runtime.arguments import check_counts
from inference.runtime.isolation import one_thread
from inference.runtime.progress import Progress
from inference.story.call import Call
from inference.story.construct import instance
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations
from inference.story.structure import Structure
from inference.svi.request import Request


def reference(
    story: Callable[..., Any],
    data: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    draws: int = 500,
    chains: int = 32,
    seed: int = 0,
    budget: int = 100_000,
    progress: bool | None = None,
) -> Posterior:
    """Sample the posterior by long chains of Hamiltonian Monte Carlo, and certify or refuse them.

    Trusted means: rank-normalized split R-hat below 1.01, bulk and tail effective sizes above 400, for every
    unconstrained coordinate, every element of every site, deterministic ones included, and the log density;
    and next to no divergences. Half of the chains start from the prior, if it is proper, half from boxes of
    several widths, so that modes which some of them find and others do not show in R-hat. A mode that none of
    them comes near is not found; no sampler can promise that.

    Args:
        story, data, args, kwargs: as in :func:`inference.fit`.
        draws: per chain, evenly thinned from as many transitions as convergence takes.
        chains: independent of one another but for the tuning, which they share until it is frozen. Many
            find the metric sooner, and cost little: they are one batch.
        seed: the same seed gives the same draws on the same machine.
        budget: batched gradient calls after which the sampler gives up.
        progress: show a bar; by default on a terminal only.

    Returns:
        A :class:`~inference.posterior.Posterior` with draws (chain, draw, *site shape): the chains as they
        are, so that ArviZ's diagnostics mean what they say. It has no guide.

    Raises:
        ValueError: for data that do not fit the story, as in :func:`inference.fit`; for networks or
            parameters, which have no posterior; for fewer than 4 chains or draws.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> from inference import reference
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> truth = reference(story, {"x": torch.tensor([3.0, 5.0, 4.0, 8.0])})
        >>> truth.certificate.trusted, truth.draws["mu"].shape
        (True, torch.Size([32, 500]))
    """
    began = time.perf_counter()
    check_counts(draws=draws, chains=chains, budget=budget)
    if draws < 4 or chains < 4:
        raise ValueError(f"draws, chains: expected at least 4 of each, got {draws} and {chains}.")
    structure, observations = inspect_rows(Call.bind(instance(story), args, kwargs), as_observations(data))
    options.require_data(structure, data)
    _refuse_parameters(structure)
    density = LogDensity(structure, observations)
    if density.size == 0:
        raise ValueError("story: nothing continuous is unknown. `fit` sums the discrete sites out exactly.")
    generator = torch.Generator().manual_seed(seed)
    with one_thread(), Progress(1, progress) as bar:
        found = run_chains(
            density.value_and_grad,
            density.size,
            generator,
            draws=draws,
            chains=chains,
            budget=budget,
            measure=lambda z: _elements(density, z),
            report=bar.step,
            given=prior_starts(density, chains // 2, seed),
        )
        bar.restart_done()
    known, undrawn = completed(Fit.of_points(density, found.z, {"lp": found.log_p}), seed)
    certificate = _certificate(found, density, time.perf_counter() - began, undrawn)
    return Posterior(known, certificate, None, bar.history)


def _refuse_parameters(structure: Structure) -> None:
    if Request("auto").needed(structure):
        raise ValueError(
            f"story: expected no networks or parameters, got {', '.join(sorted(structure.params))}. They "
            f"have no prior, hence no posterior: fit them by `inference.fit`."
        )


def _elements(density: LogDensity, z: Tensor) -> dict[str, Tensor]:
    """Every element of every site: name -> (rows, elements)."""
    return {name: value.reshape(len(z), -1).double() for name, value in density.constrain(z).items()}


def _certificate(
    found: LongChains, density: LogDensity, seconds: float, undrawn: Sequence[str]
) -> Certificate:
    flaws = [density.flaw] if density.flaw else []
    flaws += holes_beside(density, density.holes, found.z.flatten(0, -2), found.log_p.flatten())
    return Certificate(
        trusted=found.converged and not flaws,
        method=NAME,
        guide="none",
        ess=min(found.ess_bulk, found.ess_tail),
        rhat=found.rhat,
        gradient_calls=found.gradient_calls,
        seconds=seconds,
        reasons=(*flaws, *found.reasons),
        notes=(
            *(f"{density.note}; plain Pyro was used, draw by draw." for _ in [0] if density.note),
            *undrawn,
        ),
    )
