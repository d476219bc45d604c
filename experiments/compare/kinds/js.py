"""Jensen-Shannon divergence, (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, in nats.

Symmetric, finite, at most log 2. With r = log p - log q, log p - log m = log 2 - log(1 + e^-r).

Source: Lin (1991), Divergence measures based on the Shannon entropy.
"""

import math

from torch import Tensor
from torch.nn.functional import softplus


def from_p(r: Tensor) -> Tensor:
    """Return the contribution of draws of p with log ratio ``r``."""
    return (math.log(2) - softplus(-r)) / 2


def from_q(r: Tensor) -> Tensor:
    """Return the contribution of draws of q with log ratio ``r``."""
    return from_p(-r)
