"""Certify what was trained elsewhere: by Pyro's SVI, by another library, by hand.

The same checks and the same posterior as ``fit`` gives, and nothing is trained: weights of fresh draws
(Pareto k-hat, evidence, effective size), a wider proposal, other modes from fresh starts, the density's
gradient at the draws, and tails; row by row where all unknowns belong to rows and the guide reads them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from inference import options
from inference.fitting import of_svi
from inference.posterior.posterior import Posterior
from inference.runtime.arguments import check_counts
from inference.runtime.isolation import one_thread
from inference.runtime.workers import mix
from inference.story.call import Call, story_name
from inference.story.construct import maker
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations
from inference.svi.elsewhere import judge_draws, judge_guide
from inference.svi.target import Target


def certify(
    story: Callable[..., Any],
    data: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    guide: Callable[..., Any] | None = None,
    draws: int | Mapping[str, Any] = 1000,
    log_q: Any = None,
    restarts: int = 4,
    seed: int = 0,
) -> Posterior:
    """Say of a guide that was trained elsewhere, or of draws with their density, whether to believe them.

    Nothing is trained, and nothing changed: neither Pyro's parameter store, nor the guide, nor the random
    state. What passes is corrected by its weights, as in :func:`inference.fit`.

    Args:
        story, data, args, kwargs: as in :func:`inference.fit`. A story that observes inside (``obs=``), as
            Pyro's SVI wants it, takes ``data={}`` and its arguments in ``args``. Values of ``pyro.param`` in
            the story are those in Pyro's parameter store; a module holds its own.
        guide: a Pyro autoguide after training; or a function or module that is called like the story, and
            with ``data=`` where its signature has the name. Values of ``pyro.param`` are those in Pyro's
            parameter store. Or a ``posterior.guide``.
        draws: how many equally weighted draws to return of each batch, with a guide. Without one the draws
            themselves: site -> (draws, *site shape), independent draws of one distribution that covers all
            unknown sites, each in its own (constrained) values; deterministic sites may be among them. A
            chain's draws, sorted ones or copies are not independent, and are not trusted.
        log_q: with ``draws``: (draws,), the log density of that distribution, all sites together, in nats;
            with respect to the sites' own (constrained) values, as the sum of Pyro's ``log_prob`` is. With
            shape (batches, draws), the draws have these two leading dimensions, too.
        restarts: independent batches of draws, the chains of ArviZ; into as many parts given draws are
            split. All are of the one guide: that they agree says nothing about another fit.
        seed: the same seed gives the same draws on the same machine.

    Returns:
        A :class:`~inference.posterior.Posterior`, of given draws with half as many, or fewer: no more than
        their weights carry. Look at its ``certificate`` first.

    Raises:
        ValueError: for data that do not fit the story; a guide that is not trained, or does not match the
            story; draws that do not have the sites' shapes, or are fewer than 100 in each part. It names the
            site or the argument, what was expected and what came.

    Source: Yao, Vehtari, Simpson and Gelman (2018), "Yes, but did it work? Evaluating variational inference".

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> from inference import certify
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> x = torch.tensor([3.0, 5.0, 4.0, 8.0])
        >>> good = lambda n: pyro.sample("mu", dist.Normal(4.95, 1.0))
        >>> narrow = lambda n: pyro.sample("mu", dist.Normal(4.95, 0.3))
        >>> certify(story, {"x": x}, guide=good).certificate.trusted
        True
        >>> certify(story, {"x": x}, guide=narrow).certificate.trusted
        False
    """
    began = time.perf_counter()
    _require_one(guide, draws, log_q)
    check_counts(restarts=restarts, draws=None if isinstance(draws, Mapping) else draws)
    if maker(story) is not None:
        name = story_name(getattr(story, "func", story))
        raise ValueError(f"story: expected the instance that was trained, got the class {name}.")
    structure, observations = inspect_rows(Call.bind(story, args, kwargs), as_observations(data))
    options.require_data(structure, data)
    target = Target(structure, observations)
    with one_thread():
        if isinstance(draws, Mapping):
            found = judge_draws(target, draws, log_q, restarts, seed)
        else:
            found = judge_guide(target, guide, draws, [mix(seed, restart) for restart in range(restarts)])
        return of_svi(found, seed, began)


def _require_one(guide: Any, draws: Any, log_q: Any) -> None:
    """Either a guide, or draws with their log density."""
    given = isinstance(draws, Mapping)
    if guide is None and not given:
        raise ValueError(
            f"guide: expected a trained guide, or draws={{site: values}} with log_q, got neither (draws is "
            f"{type(draws).__name__}). To train one, use inference.fit."
        )
    if guide is not None and (given or log_q is not None):
        raise ValueError("draws, log_q: given beside a guide, which makes its own; expected one of the two.")
    if given and log_q is None:
        raise ValueError(
            "log_q: expected the log density of the draws, in nats, got none: without it they cannot be "
            "weighed. Sum guide_trace.nodes[site]['log_prob_sum'] over the sites, say."
        )
