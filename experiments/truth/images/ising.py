"""The Ising model on a small square with free boundary: log Z and entropy by counting every image.

With spins s = 2 x - 1 of -1 and 1, p(x) is proportional to exp(coupling * sum of s_i s_j), the sum over
pairs of pixels side by side or one above the other; the pixels at the edge have fewer neighbours.
On 4 x 4 pixels at coupling 0.4, log Z is 13.18657 and the entropy 8.66343 nats.

Source: MacKay (2003), Information theory, inference, and learning algorithms, chapter 31.
"""

from __future__ import annotations

from experiments.truth.images.binary_images import BinaryImages, images

SIDE = 4
COUPLING = 0.4  # beta: coupling strength over temperature


def law(side: int = SIDE, coupling: float = COUPLING) -> BinaryImages:
    """Return the law of ``side`` x ``side`` pixels, rows first; ``law().log_normalizer`` is log Z.

    Raises
    ------
    ValueError
        If ``side`` is not between 1 and 4: every image of side^2 pixels is counted.

    Examples
    --------
    >>> round(law().log_normalizer.item(), 5), round(law().entropy().item(), 5)
    (13.18657, 8.66343)
    """
    spin = 2 * images(side * side).reshape(-1, side, side) - 1
    across = (spin[:, :, 1:] * spin[:, :, :-1]).sum((1, 2))
    down = (spin[:, 1:] * spin[:, :-1]).sum((1, 2))
    return BinaryImages(coupling * (across + down))
