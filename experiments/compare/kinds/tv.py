"""Total variation distance, half the integral of |p - q|: a probability, between 0 and 1.

Written over the mixture of both, so that every term is bounded:
|p - q| / (p + q) = |tanh(r / 2)| with r = log p - log q.

Source: Levin and Peres (2017), Markov Chains and Mixing Times, section 4.1.
"""

from torch import Tensor


def from_p(r: Tensor) -> Tensor:
    """Return the contribution of draws of p with log ratio ``r``."""
    return (r / 2).tanh().abs() / 2


def from_q(r: Tensor) -> Tensor:
    """Return the contribution of draws of q with log ratio ``r``."""
    return from_p(r)
