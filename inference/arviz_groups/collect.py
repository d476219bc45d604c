"""Fill ArviZ's groups from a fit; :mod:`inference.arviz_groups.build` then builds what ArviZ reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from inference.answers.predictive import generate
from inference.answers.question import Question
from inference.answers.questions import ask
from inference.answers.result import Fit
from inference.arviz_groups import rows
from inference.arviz_groups.build import Group, build
from inference.checks.certificate import Certificate
from inference.density.enumeration import row_log_prob
from inference.story.structure import Site


def collect(
    fit: Fit,
    draws: Mapping[str, Tensor],
    certificate: Certificate,
    history: Sequence[tuple[str, int, float]],
    coords: Mapping[str, Sequence[Any]],
    dims: Mapping[str, Sequence[str]],
    predictive: int,
    log_likelihood: str,
) -> Any:
    """Gather every group of a fit, from its parts; the other arguments as in ``Posterior.to_arviz``.

    Raises:
        ValueError: for an unknown ``log_likelihood`` or a negative ``predictive``.
    """
    if log_likelihood not in ("joint", "sites"):
        raise ValueError(f"log_likelihood: expected 'joint' or 'sites', got {log_likelihood!r}.")
    if not isinstance(predictive, int) or predictive < 0:
        raise ValueError(f"predictive: expected a count of draws, got {predictive!r}.")
    filled: dict[str, Group] = {}
    if fit.prior_draws:
        filled["prior"] = _arrays(draws)
        filled["prior_predictive"] = _prior_predictive(fit, predictive)
    elif fit.local is not None:
        filled.update(rows.groups(fit, fit.local, predictive, log_likelihood, JOINT))
        filled["observed_data"] = _observed(fit)
    else:
        question = ask(fit, None, None, ())
        shape = next(iter(draws.values())).shape[:2] if draws else (1, 1)
        filled["posterior"] = _arrays(draws)
        if fit.observed:  # a story that only has factors has no rows to leave out
            filled["log_likelihood"] = _log_likelihood(fit, question, shape, log_likelihood)
        filled["log_prior"] = _log_prior(fit, question, shape)
        filled["sample_stats"] = _sample_stats(fit)
        filled["posterior_predictive"] = _posterior_predictive(fit, shape, predictive)
        filled.update(_prior_groups(fit, predictive))
        filled["observed_data"] = _observed(fit)
    filled["constant_data"] = _constants(fit)
    filled["fit"] = _fit_group(history)
    names = {**_dimensions(fit), **_joint_dimensions(fit), **dims}
    known = {"elbo": ["iteration"], "step": ["iteration"]}
    return build(filled, {**names, **known}, coords, _attributes(fit, certificate))


def _arrays(draws: Mapping[str, Tensor]) -> Group:
    return {name: value.detach().cpu().numpy() for name, value in draws.items()}


def _shared(fit: Fit, question: Question) -> list[Any]:
    return question.shared_plates() or ([fit.rows] if fit.rows is not None else [])


def _log_likelihood(fit: Fit, question: Question, shape: Any, kind: str) -> Group:
    """Pointwise log likelihood; discrete latents summed out. (chain, draw, *row plates)."""
    if kind == "joint":
        plates = question.shared_plates()
        value = question.log_rows(plates)
        return {JOINT: value.reshape(*shape, *value.shape[1:]).numpy()}
    out = {}
    for name in fit.observed:
        plates = list(fit.structure.sites[name].plates)
        upstream = {n for n in question.summed if n in fit.structure.ancestors([name])}
        if upstream:
            plates = question.shared_plates([name])
        value = question.log_density({name} | upstream, plates)
        out[name] = value.reshape(*shape, *value.shape[1:]).numpy()
    return out


JOINT = "joint"


def _log_prior(fit: Fit, question: Question, shape: Any) -> Group:
    """Log prior density of every unknown site, one number per batch element."""
    sites = fit.structure.sample_sites
    names = [n for n in fit.unknown if n in sites and n not in fit.observations]

    def one(trace: Any) -> dict[str, Tensor]:
        return {n: row_log_prob(trace, {n}, sites[n].plates) for n in names}

    if not names or any(set(fit.structure.ancestors([n])) & set(question.summed) for n in names):
        return {}
    values = question.map(one, added=lambda parts: {n: v[0] for n, v in parts.items()})
    return {n: v.reshape(*shape, *v.shape[1:]).numpy() for n, v in values.items()}


def _sample_stats(fit: Fit) -> Group:
    stats = {name: value.detach().cpu().numpy() for name, value in fit.stats.items()}
    if "lp" in stats and "log_q" in stats:
        stats["log_weight"] = stats["lp"] - stats["log_q"]
    return stats


def _posterior_predictive(fit: Fit, shape: Any, count: int) -> Group:
    """Every observed site drawn anew for the fitted rows; (1, predictive, *site shape).

    One for each posterior draw, with its chains, where as many are asked for.
    """
    if not count:
        return {}
    names = list(fit.observed)
    chains, draws = shape
    every = count >= chains * draws
    count = chains * draws if every else count
    drawn = generate(fit, ask(fit, None, None, names), names, count, fit.seed, in_order=every)
    leading = shape if every else (1, count)
    return {name: value.reshape(*leading, *value.shape[1:]).numpy() for name, value in drawn.items()}


def _prior_groups(fit: Fit, count: int) -> dict[str, Group]:
    """Draws from the prior, where it is proper."""
    if not count:
        return {}
    before = Fit(
        fit.structure, {}, tuple(n for n in fit.unknown if n not in fit.observations),
        prior_draws=count, seed=fit.seed,
    )  # fmt: skip
    try:
        draws = before.values
    except ValueError:  # improper
        return {}
    predictive = _prior_predictive_sites(before, list(fit.observed), count)
    return {"prior": _arrays(draws), "prior_predictive": predictive}


def _prior_predictive(fit: Fit, count: int) -> Group:
    return _prior_predictive_sites(fit, fit.structure.leaves(), count) if count else {}


def _prior_predictive_sites(fit: Fit, names: list[str], count: int) -> Group:
    question = ask(fit, None, None, names)
    drawn = generate(fit, question, names, count, fit.seed)
    return {name: value[None].numpy() for name, value in drawn.items()}


def _observed(fit: Fit) -> Group:
    """The data; masked arrays where something is missing."""
    out: Group = {}
    for name in fit.observed:
        if name in fit.observations:
            one = fit.observations[name]
            value = one.value.cpu().numpy()
            out[name] = value if one.seen is None else np.ma.masked_array(value, ~one.seen.cpu().numpy())
        else:
            out[name] = fit.structure.sites[name].value.numpy()
    return out


def _constants(fit: Fit) -> Group:
    """What the story was called with: numeric arguments, under the names of its signature."""
    return {
        name: np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        for name, value in fit.structure.call.named_arguments().items()
        if isinstance(value, Tensor | int | float) and not isinstance(value, bool)
    }


def _fit_group(history: Sequence[tuple[str, int, float]]) -> Group:
    if not history:
        return {}
    return {
        "elbo": np.array([elbo for _, _, elbo in history]),
        "step": np.array([step for _, step, _ in history]),
    }


def _dimensions(fit: Fit) -> dict[str, list[str]]:
    """Plate names for batch dimensions, ``<site>_dim_k`` for the rest."""
    return {name: _site_dimensions(site) for name, site in fit.structure.sites.items()}


def _site_dimensions(site: Site) -> list[str]:
    event = site.fn.event_dim if site.kind == "sample" else 0
    batch = len(site.shape) - event
    by_position = {batch + p.dim: p.name for p in site.plates}
    names, unnamed = [], 0
    for position in range(len(site.shape)):
        plate = by_position.get(position)
        if plate is not None and site.shape[position] == _size(site, plate):
            names.append(plate)
        else:
            names.append(f"{site.name}_dim_{unnamed}")
            unnamed += 1
    return names


def _size(site: Site, plate: str) -> int:
    return next(p.size for p in site.plates if p.name == plate)


def _joint_dimensions(fit: Fit) -> dict[str, list[str]]:
    if fit.prior_draws:
        return {}
    if fit.local is not None:
        return {JOINT: rows.joint_plates(fit)}
    return {JOINT: [p.name for p in ask(fit, None, None, ()).shared_plates()]}


def _attributes(fit: Fit, certificate: Certificate) -> dict[str, Any]:
    story = fit.structure.call.story
    return {
        "story": getattr(story, "__name__", type(story).__name__),
        "certificate": json.dumps(certificate.as_dict()),
        "trusted": int(certificate.trusted),
    }
