"""The answer to a fit: draws, a certificate, and the verbs sample, probabilities and log_prob."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from inference.answers import verbs
from inference.answers.result import Fit
from inference.arviz_groups.collect import collect
from inference.checks.certificate import Certificate
from inference.guides.serialization import Family
from inference.posterior.guide_program import GuideProgram
from inference.posterior.save import save
from inference.story.programs import FittedGuide

_NOISY = (0.5, 0.05)  # Monte Carlo error in nats, and relative, beyond which log_prob warns


class Posterior:
    """A fitted (or, from ``inference.prior``, an unfitted) story that answers questions.

    Attributes:
        certificate: whether to believe it, and why.
        history: list of (rung, step, elbo in nats).
        training: with which ``inference.continue_fit`` goes on; ``None`` where there is nothing to continue.

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
        guide: Family | FittedGuide | None,
        history: Sequence[tuple[str, int, float]],
        training: Any = None,
    ) -> None:
        self._fit = fit
        self._family = guide
        self.certificate = certificate
        self.history = list(history)
        self.training = training

    def __repr__(self) -> str:
        sites = ", ".join(f"{n} {shape}" for n, shape in self._fit.shapes.items())
        return f"Posterior({sites})\n{self.certificate}"

    @property
    def story(self) -> Any:
        """The story; a module is the copy that was fitted."""
        return self._fit.structure.call.story

    @cached_property
    def draws(self) -> dict[str, Tensor]:
        """Site -> (restart, draw, *site shape): constrained, equally weighted, deterministic sites too.

        A sample site that nothing seen depends on (a discrete one, or one of rows) is drawn from its
        conditional given each draw of the unknowns, and so are missing elements of what was seen; of Pyro's
        ``obs_mask`` the site of the whole bears the name. Discrete sites that were summed out have
        :meth:`probabilities` instead; deterministic sites that depend on them are computed from draws of
        them. What is too large to be drawn is named in the certificate's notes.

        Where all unknowns belong to rows, they are drawn when they are first asked for, under the networks of
        each restart, and no more than fit into 2^24 numbers (10,000 rows with 16 latent numbers each keep
        26 draws of each of 4 restarts). They are resampled by their weights, if the fit is trusted and that
        takes seconds; ``certificate.method`` is then "svi+psis".
        """
        return dict(self._fit.values)

    @cached_property
    def guide(self) -> Any:
        """The fitted guide, for ``Predictive(story, guide=...)``; ValueError where there is none."""
        if isinstance(self._family, FittedGuide):
            return self._family
        if self._family is None:
            raise ValueError(f"guide: {self.certificate.method!r} keeps none here. Use `draws` or `sample`.")
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
            num_samples: ``None`` is one draw without a leading axis. Each is of the posterior predictive:
                without ``given`` all rows of a draw share its globals, so that the mean over the rows of
                one draw is no posterior mean; with ``given``, rows are answered each by itself.
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
        drawn = verbs.sample(self._fit, names, given, args, count, seed)
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
        return verbs.probabilities(self._fit, site, given, args, seed)

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
        continuous ones by importance sampling: from the guide, if it reads the rows (256 draws of each; 64
        for each value of a discrete site that it needs to know; 32 where elements are missing that it
        reads), else from their prior. The log of the mean weight is, in expectation, a lower bound (Burda,
        Grosse and Salakhutdinov 2016). The Monte Carlo error is reported by ``stderr``, and by a warning
        when it exceeds 0.5 nats + 5 %.

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
            ValueError: for unknown sites, values that do not fit, the density of a fitted global site, or
                a story that was fitted by a loss on samples and has no likelihood.
        """
        result, error = verbs.log_prob(self._fit, values, given, args, seed)
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
        return collect(
            self._fit,
            self.draws,
            self.certificate,
            self.history,
            coords or {},
            dims or {},
            predictive,
            log_likelihood,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a folder of netCDF, JSON and safetensors files, whole or not at all.

        Trained networks are saved as numbers; :func:`inference.load` is given the story's class, or an
        instance, to put them into.

        Raises:
            ValueError: if the folder exists and is not a saved posterior, or if the story's arguments
                cannot be written as data.
            OSError: if it cannot be written (a full disk, no permission); it says why, and a posterior that
                was saved there before is left as it was.
        """
        save(self._fit, self.draws, self._family, self.certificate, self.history, path)
