"""The answer to a fit: draws, a certificate, and the verbs sample, probabilities and log_prob."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from inference.certificate import Certificate
from inference.fitted import Fit
from inference.generation import generate
from inference.guides.gaussian import Gaussian
from inference.programs import FittedGuide
from inference.questions import Question, ask

_NOISY = (0.5, 0.05)  # Monte Carlo error in nats, and relative, beyond which log_prob warns


class Posterior:
    """A fitted (or, from ``inference.prior``, an unfitted) story that answers questions.

    Attributes:
        certificate: whether to believe it, and why.
        history: list of (rung, step, elbo in nats).

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> from inference import fit
        >>> def story(n):
        ...     weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
        ...     with pyro.plate("class", 2):
        ...         mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         y = pyro.sample("y", dist.Categorical(weights))
        ...         pyro.sample("x", dist.Normal(mu[y], 1.0))
        >>> data = {"x": torch.tensor([-2.0, -3.0, 2.0, 4.0]), "y": torch.tensor([0, 0, 1, 1])}
        >>> posterior = fit(story, data, seed=0)
        >>> posterior.probabilities("y", given={"x": torch.tensor([-2.5, 3.0])}).argmax(-1)
        tensor([0, 1])
        >>> posterior.sample("x", given={"y": torch.ones(5, dtype=torch.long)}).shape
        torch.Size([5])
        >>> posterior.log_prob({"x": torch.tensor([0.0, 3.0, 30.0])}).shape
        torch.Size([3])
    """

    def __init__(
        self,
        fit: Fit,
        certificate: Certificate,
        guide: Gaussian | FittedGuide | None,
        history: Sequence[tuple[str, int, float]],
    ) -> None:
        self._fit = fit
        self._family = guide
        self.certificate = certificate
        self.history = list(history)

    def __repr__(self) -> str:
        sites = ", ".join(f"{n} {tuple(v.shape)}" for n, v in self.draws.items())
        return f"Posterior({sites})\n{self.certificate}"

    @property
    def story(self) -> Callable[..., Any]:
        """The story; a module is the copy that was fitted."""
        return self._fit.structure.call.story

    @cached_property
    def draws(self) -> dict[str, Tensor]:
        """Site -> (restart, draw, *site shape): constrained, equally weighted, deterministic sites too."""
        return dict(self._fit.values)

    @cached_property
    def guide(self) -> Any:
        """The fitted guide, for ``Predictive(story, guide=...)``; ValueError where there is none."""
        if isinstance(self._family, FittedGuide):
            return self._family
        if self._family is None:
            raise ValueError(f"guide: {self.certificate.method!r} keeps none here. Use `draws` or `sample`.")
        from inference.guides.program import GuideProgram

        return GuideProgram(self._family, self._fit)

    def sample(
        self,
        sites: str | Sequence[str],
        given: Mapping[str, Any] | None = None,
        args: tuple[Any, ...] | None = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Draw sites from their conditional given the data and the given values.

        Args:
            sites: one name, or several.
            given: site name -> value, for new rows; masked elements are drawn.
            args: what the story is called with for new rows. Without ``args`` and without given rows
                the fitted rows are drawn anew, with the latents that they were fitted with.
            num_samples: ``None`` is one draw without a leading axis.
            seed: the same seed gives the same draws.

        Returns:
            A tensor (num_samples, *site shape) for one site; a dict of them for several.

        Raises:
            ValueError: for unknown sites, values that do not fit, or a global site beside given rows.
        """
        names = [sites] if isinstance(sites, str) else list(sites)
        count = 1 if num_samples is None else num_samples
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"num_samples: expected a positive integer or None, got {num_samples!r}.")
        question = ask(self._fit, given, args, names, seed=seed)
        drawn = generate(self._fit, question, names, count, seed)
        if num_samples is None:
            drawn = {name: value[0] for name, value in drawn.items()}
        return drawn[sites] if isinstance(sites, str) else drawn

    def probabilities(
        self,
        site: str,
        given: Mapping[str, Any] | None = None,
        args: tuple[Any, ...] | None = None,
        *,
        seed: int = 0,
    ) -> Tensor:
        """Probabilities of a discrete site: p(y | x, data) = E[p(x, y | theta)] / E[p(x | theta)].

        The expectations are over the posterior draws, row by row; the discrete sites are summed out
        exactly. (Averaging p(y | x, theta) over the draws instead is another number: it forgets that x
        itself tells the draws apart.) Without ``given`` and ``args``, the fitted rows' own site.

        Args:
            site: a discrete site.
            given: site name -> value for new rows; masked elements are summed or integrated out.
            args: what the story is called with for the new rows.
            seed: of simulated local continuous sites.

        Returns:
            (*site shape, categories); every row sums to one.

        Raises:
            ValueError: if the site is not discrete, cannot be enumerated, or is given.
        """
        if given is not None and site in given and getattr(given[site], "mask", None) is None:
            raise ValueError(
                f"given: {site!r} is both given and asked for; expected one of the two. Mask the "
                f"elements that are to be inferred."
            )
        target = self._fit.structure.sites.get(site)
        if target is not None and not target.enumerable:
            raise ValueError(
                f"site: expected a discrete site that can be enumerated, got {site!r}, a "
                f"{type(target.fn).__name__}. For its density, use log_prob; for draws, sample."
            )
        question = ask(self._fit, given, args, [site], seed=seed, enumerate_targets=True)
        if site in question.simulated:
            return _tabulated(self._fit, question, site, given, args, seed)
        if site in question.particles:
            return _by_draws(question, site)
        tables = question.tables(site)
        if not question.new or not _weighted(question):
            return tables.exp().mean(0)
        plates = question.shared_plates([site], without=self._fit.global_sites)
        log_w = question.log_rows(plates)
        joint = _align(log_w, plates, question, site) + tables
        return joint.logsumexp(0).softmax(-1)

    def log_prob(
        self,
        values: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
        args: tuple[Any, ...] | None = None,
        *,
        seed: int = 0,
        stderr: bool = False,
    ) -> Any:
        """Posterior predictive log density log p(values | given, data), one number per row, in nats.

        Averaged over the draws of global latents; local discrete sites are summed out exactly, local
        continuous ones by importance sampling from their prior. The Monte Carlo error of both is
        reported by ``stderr``, and by a warning when it exceeds 0.5 nats + 5 %.

        Args:
            values: site name -> value, in new rows; masked elements are summed or integrated out.
            given: site name -> value to condition on, in the same rows.
            args: what the story is called with for these rows.
            seed: of simulated sites.
            stderr: also return the Monte Carlo standard error, in nats.

        Returns:
            A tensor in the shape of the plates that the named and the summed-out sites share; with
            ``stderr`` a pair of them.

        Raises:
            ValueError: for unknown sites, values that do not fit, or the density of a fitted global
                site.
        """
        if not values:
            raise ValueError("values: expected at least one site name and value, got none.")
        overlap = set(values) & set(given or {})
        if overlap:
            raise ValueError(f"values: {sorted(overlap)[0]!r} is in given too, expected one of them.")
        _refuse_globals(self._fit, values)
        question = ask(self._fit, {**(given or {}), **values}, args, (), "values", seed)
        shared = [n for n in given or {} if n in self._fit.global_sites]
        plates = question.shared_plates(without=shared)
        result, error = _log_mean(question.log_rows(plates))
        if given:
            below = ask(self._fit, given, args, (), "given", seed)
            base, base_error = _log_mean(below.log_rows(plates))
            result, error = result - base, (error.square() + base_error.square()).sqrt()
        noisy = error > _NOISY[0] + _NOISY[1] * result.abs()
        if not stderr and bool(noisy.any()):
            warnings.warn(
                f"log_prob: the Monte Carlo standard error reaches {float(error.max()):.2f} nats in "
                f"{int(noisy.sum())} rows. Ask with stderr=True to see where, or fit with more draws.",
                stacklevel=2,
            )
        return (result, error) if stderr else result

    def to_arviz(
        self,
        coords: Mapping[str, Sequence[Any]] | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        predictive: int = 100,
        log_likelihood: str = "joint",
    ) -> Any:
        """Convert to ArviZ: an ``InferenceData`` (ArviZ 0.x) or a ``DataTree`` (1.x).

        A chain is an independent restart of the fit, so ArviZ's R-hat says whether restarts agree.

        Args:
            coords: dimension name -> labels.
            dims: site name -> names of its dimensions; plates name theirs by default.
            predictive: draws in the predictive groups, in all; 0 leaves them out. With as many as
                there are posterior draws, each belongs to its draw, as ``az.plot_loo_pit`` needs.
            log_likelihood: "joint" (one variable: each row's joint density, so that ``az.loo`` and
                ``az.compare`` just run) or "sites" (one variable per observed site).
        """
        from inference.arviz_groups import collect

        return collect(self, coords or {}, dims or {}, predictive, log_likelihood)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a folder of netCDF, JSON and safetensors files, whole or not at all.

        Raises:
            ValueError: if the folder exists and is not a saved posterior, or if the story's arguments
                cannot be written as data.
        """
        from inference.storage import save

        save(self, path)


def _weighted(question: Question) -> bool:
    given = [n for n in question.evidence if n not in question.particles]
    return bool(given) or bool(question.simulated)


def _log_mean(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean over draws, and its standard error by the delta method, in nats."""
    count = log_p.shape[0]
    mean = log_p.logsumexp(0) - math.log(count)
    relative = (log_p - mean).exp()
    spread = relative.std(0) if count > 1 else torch.zeros_like(mean)
    return mean, spread / math.sqrt(count)


def _align(log_w: Tensor, plates: list[Any], question: Question, site: str) -> Tensor:
    """Give per-row weights the axes of a site's table (draws, *site shape, categories)."""
    target, names = question.structure.sites[site], [p.name for p in plates]
    shape = [1] * len(target.shape)
    for plate in target.plates:
        shape[plate.dim] = plate.size if plate.name in names else 1
    return log_w.reshape(len(log_w), *shape, 1)


def _tabulated(fit: Fit, question: Question, site: str, given: Any, args: Any, seed: int) -> Tensor:
    """A site on which simulated sites depend: condition on each of its values in turn."""
    target = question.structure.sites[site]
    known = question.evidence.get(site)
    columns = []
    for value in target.fn.enumerate_support(expand=False).reshape(-1):
        assumed = {**(given or {}), site: torch.full(target.shape, float(value)).to(value.dtype)}
        column = ask(fit, assumed, args, (), seed=seed)
        log_p, _ = _log_mean(column.log_rows(column.shared_plates(without=fit.global_sites)))
        if list(log_p.shape) != [p.size for p in target.plates]:
            raise ValueError(
                f"site: {site!r} has shape {tuple(target.shape)}, but what depends on it is simulated "
                f"for whole rows of shape {tuple(log_p.shape)}; its probabilities cannot be told apart."
            )
        if known is not None and known.seen is not None:
            log_p = torch.where(known.seen & (known.value != value), -math.inf, log_p.reshape(target.shape))
        columns.append(log_p.reshape(target.shape))
    return torch.stack(columns, -1).softmax(-1)


def _by_draws(question: Question, site: str) -> Tensor:
    """A global discrete site in the light of new rows: the weighted share of the draws at each value."""
    log_w = question.log_rows([]) if question.counted else torch.zeros(question.draws)
    drawn, fn = question.particles[site], question.structure.sites[site].fn
    hits = drawn[..., None] == fn.enumerate_support(expand=False).reshape(-1)
    return torch.tensordot(log_w.double().softmax(0), hits.double(), 1)


def _refuse_globals(fit: Fit, values: Mapping[str, Any]) -> None:
    fitted = [n for n in values if n in fit.global_sites]
    if fitted and not fit.prior_draws:
        raise ValueError(
            f"values: {fitted[0]!r} is shared by all rows and was inferred; the posterior is known by "
            f"draws, which have no density. Use posterior.guide for the guide's."
        )
