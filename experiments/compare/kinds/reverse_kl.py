"""Reverse Kullback-Leibler divergence KL(q || p) = E_q[log q - log p], in nats.

It is what variational inference minimizes when q is the guide: it punishes a q that puts mass
where p has none, and is blind to modes of p that q leaves out.

Source: Kullback and Leibler (1951), On information and sufficiency.
"""

from torch import Tensor


def from_q(r: Tensor) -> Tensor:
    """Return the contribution of draws of q with log ratio ``r``."""
    return -r
