"""Calibration of posteriors: over many simulated data sets, is every posterior as wide as it claims?

A truth is drawn from the prior, data from the truth, and the story is fitted to the data. The truth is then
one more draw of the posterior, so that its rank among the posterior's draws is uniform: for every unknown,
for every function of unknowns and data, and whatever the story. Ranks that are not uniform prove a fault, of
the fit or of the story that was fitted.

Source: Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms with
simulation-based calibration; Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman and Vehtari (2023),
Simulation-based calibration checking for Bayesian computation: the choice of test quantities shapes
sensitivity, Bayesian Analysis; Säilynoja, Schmitt, Bürkner and Vehtari (2025), Posterior SBC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from experiments.compare.sbc.result import Calibration
from experiments.compare.sbc.simulated import Simulated, from_posterior, from_prior, log_joint
from experiments.compare.sbc.tarp import distance_ranks
from inference import fit_many

LOG_JOINT, TARP = "log joint", "TARP"
Fitter = Callable[[Sequence[Mapping[str, Tensor]]], Any]
Quantities = Mapping[str, Callable[[Mapping[str, Tensor]], Tensor]]


def calibration(
    story: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    fits: int = 1000,
    draws: int = 199,
    observed: Collection[str] | None = None,
    sites: Collection[str] | None = None,
    quantities: Quantities | None = None,
    around: Mapping[str, Any] | None = None,
    fitter: Fitter | None = None,
    level: float = 0.95,
    seed: int = 0,
    progress: bool | None = None,
) -> Calibration:
    """Simulate truths and data from a story, fit all data sets at once, and judge the truths' ranks.

    Judged are every element of every continuous unknown that all rows share (discrete unknowns are summed
    out; those of rows are judged when named), the log joint density log p(unknowns, data), which sees the
    data too and so tells faults that no single unknown shows, and TARP, all unknowns together by their
    distance from a random point. Ties are broken at random. Fits that were refused count like the others,
    and their number is reported beside; ``result.trusted()`` judges the others alone.

    Parameters
    ----------
    story, args, kwargs
        As in :func:`inference.fit`; the row count ``n``, where there is one, is among the arguments.
    fits
        Simulated data sets. How little they show is said: ``detectable`` of the result.
    draws
        Posterior draws of each that the truth is ranked among, taken evenly from those a fitter gives. They
        must be as good as independent, as resampled ones are; thin a Markov chain first. 199 make 200 ranks,
        of which 50, 80 and 95 % are whole numbers.
    observed
        Names of the data sites; by default those of the data in the ``EXAMPLE`` beside the story.
    sites
        Names of the sites that are judged, in place of all unknowns that rows share.
    quantities
        Name -> function of a mapping (site -> (rows, *site shape), unknowns and data) to (rows, ...): what
        else is to be judged. Those that depend on the data see most.
    around
        Observed data, site -> value: unknowns are then drawn not from the prior but given these, and
        the story is fitted to the observed and the replicated data together (posterior SBC). It judges the
        fit where it is used, not on average over the prior. A ``fitter`` gets ``x`` and ``x_replicated``.
    fitter
        Data sets (site -> tensor) -> posteriors, to judge another engine, guide or prior:
        :func:`inference.fit_many`'s result, or a mapping site -> (fits, draws, *site shape). By default
        ``fit_many``.
    level
        Of the simultaneous bands.
    seed
        Of everything random; the global random state is not touched.
    progress
        Show a bar; by default on a terminal only.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        If a prior is improper, the data sites are not known, the story observes inside, a number is too
        small, or a fitter's draws do not fit.

    Examples
    --------
    >>> import pyro, pyro.distributions as dist
    >>> def story(n):
    ...     mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    ...     with pyro.plate("row", n):
    ...         pyro.sample("x", dist.Normal(mu, 2.0))
    >>> result = calibration(story, (5,), fits=100, observed=["x"], progress=False)
    >>> result.p_value > 0.01, result.refused, list(result.judged)
    (True, 0, ['mu', 'log joint'])
    """
    _check(fits, draws, level)
    began = time.perf_counter()
    if around is None:
        simulated = from_prior(story, args, kwargs, observed, fits, seed)
    else:
        simulated = from_posterior(story, args, kwargs, around, fits, seed)
    fitted = time.perf_counter()
    if fitter is None:
        fitter = _by_fit_many(simulated.story, args, kwargs, draws, seed, progress)
    found = fitter(simulated.data)
    ended = time.perf_counter()
    values = _draws_of(found, simulated, draws)
    truth, drawn = _measured(simulated, values, sites, quantities or {}, seed)
    generator = torch.Generator().manual_seed(seed)
    return Calibration.of(
        ranks={name: ranks_of(truth[name], drawn[name], generator) for name in truth},
        moments={name: (truth[name], drawn[name].mean(1), drawn[name].std(1)) for name in truth},
        highest=next(iter(drawn.values())).shape[1],
        level=level,
        believed=_believed(found, fits),
        seconds={"simulate": fitted - began, "fit": ended - fitted, "judge": time.perf_counter() - ended},
        around=around is not None,
        seed=seed,
        note=simulated.note,
    )


def ranks_of(truth: Tensor, draws: Tensor, generator: Generator) -> Tensor:
    """Ranks of truths (fits,) among draws (fits, draws), 0 .. draws; ties are broken at random.

    Examples
    --------
    >>> ranks_of(torch.tensor([2.5]), torch.tensor([[1.0, 2.0, 3.0]]), torch.Generator())
    tensor([2])
    """
    below, tied = (draws < truth[:, None]).sum(1), (draws == truth[:, None]).sum(1)
    share = torch.rand(len(truth), generator=generator, dtype=torch.float64)
    return below + (share * (tied + 1)).long()


def _check(fits: int, draws: int, level: float) -> None:
    for name, value, least in (("fits", fits, 20), ("draws", draws, 9)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected between 0 and 1, got {level}")


def _by_fit_many(
    story: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    draws: int,
    seed: int,
    progress: bool | None,
) -> Fitter:
    return lambda data: fit_many(story, data, args, kwargs, draws=draws, seed=seed, progress=progress)


def _draws_of(found: Any, simulated: Simulated, draws: int) -> dict[str, Tensor]:
    """What a fitter found: site -> (fits, draws, *site shape)."""
    given = getattr(found, "draws", found)
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"fitter: expected posteriors with .draws, or a mapping site -> (fits, draws, *site shape), got "
            f"{type(found).__name__}"
        )
    fits, values = len(simulated.data), {}
    for name, value in given.items():
        value = torch.as_tensor(value).detach().cpu()
        if name not in simulated.truth:
            raise ValueError(f"fitter: {name!r} is not an unknown; those are {', '.join(simulated.truth)}")
        shape = simulated.truth[name].shape[1:]
        if value.shape[:1] != (fits,) or value.shape[2:] != shape or value.dim() < 2:
            raise ValueError(
                f"fitter: expected {name!r} to be (fits, draws, *site shape) = ({fits}, draws, "
                f"{', '.join(map(str, shape))}), got {tuple(value.shape)}"
            )
        if value.shape[1] < draws or not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"fitter: expected at least {draws} finite draws of {name!r}, got {value.shape[1]}"
                f"{'' if torch.isfinite(value).all() else ', some not finite'}. Set draws= to fewer."
            )
        kept = torch.linspace(0, value.shape[1] - 1, draws).round().long()
        values[name] = _precise(value[:, kept], simulated.truth[name])
    return values


def _precise(value: Tensor, like: Tensor) -> Tensor:
    """In double precision; discrete values, which may serve as indices, as what they are."""
    return value.to(torch.float64 if like.is_floating_point() else like.dtype)


def _believed(found: Any, fits: int) -> Tensor | None:
    trusted = getattr(found, "trusted", None)
    if trusted is None:
        return None
    trusted = torch.as_tensor(trusted).bool()
    if trusted.shape != (fits,):
        raise ValueError(f"fitter: expected .trusted to be ({fits},), got {tuple(trusted.shape)}")
    return trusted


def _measured(
    simulated: Simulated,
    values: Mapping[str, Tensor],
    sites: Collection[str] | None,
    quantities: Quantities,
    seed: int,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every scalar that is judged: name -> (fits,) of truths, and name -> (fits, draws)."""
    truth = {n: _precise(v[:, None], v) for n, v in simulated.truth.items() if n in values}
    names = [n for n in simulated.unknowns if n in values] if sites is None else list(sites)
    missing = [n for n in names if n not in values]
    if missing:
        raise ValueError(f"sites: expected some of {', '.join(values)}, got {', '.join(missing)}")
    chosen = {n: (truth[n], values[n]) for n in names}
    data = simulated.stacked_data()
    for name, function in quantities.items():
        if name in values or name in (LOG_JOINT, TARP):
            raise ValueError(f"quantities: expected names of their own, got {name!r}")
        chosen[name] = _applied(function, truth, data), _applied(function, values, data)
    pairs = _scalars(chosen)
    plain = _scalars({n: chosen[n] for n in names})
    if len(plain) > 1:
        one, many = (torch.stack([pair[i] for pair in plain.values()], -1) for i in (0, 1))
        generator = torch.Generator().manual_seed(seed + 1)
        distance, distances = distance_ranks(one[:, 0], many, generator)
        pairs[TARP] = distance[:, None], distances
    of_truth, of_draws = (log_joint(simulated.structure, v, data) for v in (truth, values))
    if of_truth is not None and of_draws is not None:
        pairs[LOG_JOINT] = of_truth, of_draws
    return {n: one[:, 0] for n, (one, _) in pairs.items()}, {n: many for n, (_, many) in pairs.items()}


def _applied(
    function: Callable[[Mapping[str, Tensor]], Tensor],
    values: Mapping[str, Tensor],
    data: Mapping[str, Tensor],
) -> Tensor:
    """A quantity at (fits, draws) values of the unknowns, data beside them."""
    fits, draws = next(iter(values.values())).shape[:2]
    rows = {n: v.flatten(0, 1) for n, v in values.items()}
    rows |= {n: v.repeat_interleave(draws, 0) for n, v in data.items()}
    found = function(rows)
    if not isinstance(found, Tensor) or found.shape[:1] != (fits * draws,):
        raise ValueError(
            f"quantities: expected a tensor ({fits * draws}, ...), one entry a row, got "
            f"{tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}"
        )
    return found.detach().double().reshape(fits, draws, *found.shape[1:])


def _scalars(chosen: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Split quantities into their elements, named as in ``weights[3]``."""
    found = {}
    for name, pair in chosen.items():
        one, many = (value.flatten(2) if value.dim() > 2 else value[..., None] for value in pair)
        shape = pair[0].shape[2:]
        for i in range(one.shape[-1]):
            index = [int(k) for k in torch.unravel_index(torch.tensor(i), shape)] if shape else []
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            found[label] = one[..., i].double(), many[..., i].double()
            if any(bool(value.isnan().any()) for value in found[label]):
                raise ValueError(
                    f"quantities: {label!r} is NaN for some truths or draws, which then have no rank. Take "
                    f"a function that is defined wherever the prior leads."
                )
    return found
