"""Divergences between two distributions whose densities are known, by plain Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from experiments.compare import kinds
from experiments.compare.found import part
from experiments.compare.likelihood import kl_from
from experiments.compare.result import Z_LEVEL, Z_POWER, Comparison, Estimate, mean_and_error

LogDensity = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]


def divergence(
    p: Distribution,
    q: Distribution | LogDensity,
    kind: str = "kl",
    num_samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Estimate a divergence from ``p`` to ``q`` by draws of them, with its standard error.

    Batch dimensions are independent components of one joint law: their densities multiply.
    Where a draw of one has no density under the other, KL is infinite and the answer says so.

    Parameters
    ----------
    p, q
        Torch or Pyro distributions over one space: equal ``batch_shape + event_shape``. For "kl",
        ``q`` may be a function instead, draws (num_samples, *shape) -> log density (num_samples,)
        in nats, or that and its standard errors (num_samples,): see
        :func:`experiments.compare.kl_from`, whose floor and bound the answer then has.
    kind
        "kl", "reverse_kl" or "js" (nats), "tv" (a probability): the files of ``kinds/``.
    num_samples
        Draws of each of the two.
    seed
        Of the draws; the global random state is left as it was.

    Returns
    -------
    Comparison
        ``p_value`` is None. Since equal densities give 0 draw by draw, ``floor`` is 0;
        ``detectable`` is (z_.95 + z_.8) = 2.49 standard errors: a divergence of that size, measured
        with this error, is told from 0 at 5 % in 4 of 5 repetitions.

    Raises
    ------
    ValueError
        If ``kind`` is unknown, the shapes differ, ``num_samples`` is below 2, or ``q`` is a function
        and ``kind`` is not "kl".

    Examples
    --------
    >>> from torch.distributions import Normal
    >>> result = divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))     # truth: 1/2
    >>> abs(result.value - 0.5) < 4 * result.error
    True
    >>> divergence(Normal(0.0, 1.0), Normal(0.0, 1.0).log_prob).value       # a function
    0.0
    """
    terms = part(kinds, kind, "kind")
    if not isinstance(q, Distribution):
        return _to_function(p, q, kind, num_samples, seed)
    _check(p, q, num_samples)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draws = {"from_p": p.sample((num_samples,)), "from_q": q.sample((num_samples,))}
    means = []
    for source, x in draws.items():
        if hasattr(terms, source):
            log_p = _log_density(p, x, inside=draws["from_p"])
            log_q = _log_density(q, x, inside=draws["from_q"])
            means.append(mean_and_error(getattr(terms, source)(log_p - log_q)))
    total = Estimate(sum(m.value for m in means), math.hypot(*(m.error for m in means)))
    return Comparison(
        value=total.value,
        error=total.error,
        p_value=None,
        floor=0.0,
        detectable=(Z_LEVEL + Z_POWER) * total.error,
        kind=kind,
    )


def _to_function(p: Distribution, q: LogDensity, kind: str, num_samples: int, seed: int) -> Comparison:
    if kind != "kl":
        raise ValueError(f'kind: expected "kl" for a function q, which cannot be drawn from, got {kind!r}')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = p.sample((num_samples,))
    found = q(x)
    log_q, error = found if isinstance(found, tuple) else (found, None)
    return kl_from(_joint(p.log_prob(x)), log_q, error)


def _check(p: Distribution, q: Distribution, num_samples: int) -> None:
    shapes = [tuple(d.batch_shape + d.event_shape) for d in (p, q)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"p, q: expected equal shapes, got {shapes[0]} and {shapes[1]}")
    if num_samples < 2:
        raise ValueError(f"num_samples: expected at least 2, got {num_samples}")


def _log_density(d: Distribution, x: Tensor, inside: Tensor) -> Tensor:
    """Log density of rows, -inf outside the support (where ``log_prob`` itself may raise)."""
    try:
        support = d.support
    except NotImplementedError:
        support = None
    if support is None:  # a distribution that declares no support checks nothing
        return _joint(d.log_prob(x))
    held = support.check(x)
    event = held.ndim - len(d.batch_shape) - 1
    held = held.flatten(held.ndim - event).all(-1) if event > 0 else held
    if held.all():
        return _joint(d.log_prob(x))
    wide = held.reshape(held.shape + (1,) * (x.ndim - held.ndim))
    log_prob = d.log_prob(torch.where(wide, x, inside))
    return _joint(log_prob.masked_fill(~held, -math.inf))


def _joint(log_prob: Tensor) -> Tensor:
    return log_prob.double().reshape(len(log_prob), -1).sum(-1)
