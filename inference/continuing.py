"""Go on with a fit by Pyro's SVI: the same networks, optimizer, batches and random numbers, more steps."""

from __future__ import annotations

import time
from dataclasses import replace

from inference.fitting import of_svi
from inference.posterior.posterior import Posterior
from inference.runtime.arguments import check_counts
from inference.runtime.isolation import one_thread
from inference.svi.checkpoint import Training
from inference.svi.run import run_svi


def continue_fit(posterior: Posterior, steps: int, *, progress: bool | None = None) -> Posterior:
    """Train a fit by SVI for more steps, as if they had been asked for at once.

    ``continue_fit(fit(..., steps=200), steps=200)`` gives the same numbers as ``fit(..., steps=400)``: the
    same story, data, options and seeds, and what training had come to (parameters, optimizer, batches of the
    epoch, random numbers, held-out rows). The rate falls to zero over the last three tenths of the steps,
    which a longer fit does not pass through; so each restart is taken up where its rate began to fall (at
    step 140 of 200; at the beginning, where 71 steps or fewer were planned), and the steps after that are
    made again at the full rate. A fit that ended by a rule of its own, by halving its rate, goes on from its
    last step at the rate it had come to; where a network's rate fell by itself, it goes on from there.
    Schedulers of the user's own go on as they would.

    Args:
        posterior: that ``fit`` trained by SVI in this session; it is not changed.
        steps: more of them, for every restart.
        progress: show a bar; by default on a terminal only.

    Returns:
        A new :class:`~inference.posterior.Posterior`, with the history of both.

    Raises:
        ValueError: for a posterior that was not trained step by step, or whose batches a loader made; for one
            that was loaded from files, which hold trained numbers but neither the optimizer nor its state.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> from pyro.infer.autoguide import AutoNormal
        >>> from inference import continue_fit, fit
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> data = {"x": torch.tensor([3.0, 5.0, 4.0, 8.0])}
        >>> half = fit(story, data, guide=AutoNormal, steps=100, restarts=1)
        >>> whole = fit(story, data, guide=AutoNormal, steps=200, restarts=1)
        >>> bool((continue_fit(half, steps=100).draws["mu"] == whole.draws["mu"]).all())
        True
    """
    began = time.perf_counter()
    if steps is None:
        raise ValueError("steps: expected a positive integer, got None.")
    check_counts(steps=steps)
    if not isinstance(posterior, Posterior):
        raise ValueError(f"posterior: expected one that `fit` trained, got {type(posterior).__name__}.")
    training = posterior.training
    _require_steps(posterior, training)
    request = training.request
    if request.steps is not None:
        request = replace(request, steps=request.steps + steps)
    with one_thread():
        found = run_svi(
            training.structure,
            training.observations,
            request,
            draws=training.draws,
            seeds=training.seeds,
            seed=training.seed,
            progress=progress,
            resumed=[replace(one, total=one.total + steps) for one in training.resumed],
        )
    return of_svi(replace(found, history=[*posterior.history, *found.history]), training.seed, began)


def _require_steps(posterior: Posterior, training: object) -> None:
    """A fit of this session that stepped, on batches whose order is known."""
    if not isinstance(training, Training):
        made = posterior.certificate
        raise ValueError(
            f"posterior: expected one that `fit` trained by SVI in this session, got one by {made.method!r} "
            f"with guide {made.guide!r}. The ladder's fits, priors and what `certify` judged have no steps "
            f"to go on with, and files hold neither the optimizer nor its state: fit anew, with more steps."
        )
    if training.request.loader is not None:
        raise ValueError(
            "posterior: its batches were made by a loader, whose place in the epoch is not known. Give `fit` "
            "the data as a mapping, with batch_size=..., or fit anew with more steps."
        )
    if not any(one.total for one in training.resumed):
        raise ValueError(
            "posterior: nothing in its story or guide is trained, so that there is nothing to go on with."
        )
