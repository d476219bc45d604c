"""Monotone rational-quadratic splines, and the coupling layer made of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_models.networks.mlp import beside, mlp

# No bin is narrower, and no slope smaller, than this share: what keeps float32 invertible (Durkan et al.).
_LEAST = 1e-3
_UNIT = math.log(math.expm1(1 - _LEAST))  # where softplus is 1, less the least slope


def rational_quadratic(
    x: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Push ``x`` elementwise through monotone splines, the identity outside [-bound, bound].

    Args:
        x: (...,), any real numbers.
        widths, heights: (..., bins), unconstrained; shares of the interval on either axis.
        slopes: (..., bins - 1), unconstrained; zero means slope 1 at the knots inside.
        bound: half the interval.
        inverse: go from the ordinate back to the abscissa.

    Returns:
        The image and log |derivative| of the map taken, both (...,).

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), Neural spline flows, section 3 and
    appendix A; the inverse is Gregory and Delbourgo's (1982) quadratic, in its stable form.

    Example:
        >>> x, bins = torch.linspace(-3.0, 3.0, 7), torch.zeros(7, 4)
        >>> y, log_slope = rational_quadratic(x, bins, bins, torch.zeros(7, 3), 2.0)
        >>> bool(torch.allclose(y, x)), bool(torch.allclose(log_slope, torch.zeros(7), atol=1e-5))
        (True, True)
    """
    inside = (x > -bound) & (x < bound)
    held = x.clamp(-bound, bound)  # outside, the branch that is not taken must stay finite
    knots = _knots(widths, heights, slopes, bound)
    here = (held[..., None] >= knots[..., int(inverse), 1:-1]).sum(-1)[..., None, None]
    ends = knots.gather(-1, here.expand(*x.shape, 3, 1) + here.new_tensor([0, 1]))
    (x0, y0, d0), (x1, y1, d1) = ends[..., 0].unbind(-1), ends[..., 1].unbind(-1)
    width, height = x1 - x0, y1 - y0
    s = height / width
    bend = d0 + d1 - 2 * s
    if inverse:
        rise = held - y0
        a, b, c = height * (s - d0) + rise * bend, height * d0 - rise * bend, -s * rise
        root = (b * b - 4 * a * c).clamp_min(0).sqrt()
        t = (2 * c / (-b - root)).clamp(0, 1)
    else:
        t = ((held - x0) / width).clamp(0, 1)
    across, square = t * (1 - t), t * t
    flat = s + bend * across
    image = x0 + t * width if inverse else y0 + height * (s * square + d0 * across) / flat
    steep = d1 * square + 2 * s * across + d0 * (1 - t) ** 2  # a sum of positive terms
    log_slope = (s * s * steep / (flat * flat)).log()
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, image, x), torch.where(inside, log_slope, 0.0)


def _knots(widths: Tensor, heights: Tensor, slopes: Tensor, bound: float) -> Tensor:
    """Abscissae, ordinates and slopes of the knots, (..., 3, bins + 1), from unconstrained shapes."""
    bins = widths.shape[-1]
    shares = torch.stack([widths, heights], -2).softmax(-1)
    inner = (2 * bound) * (_LEAST + (1 - _LEAST * bins) * shares[..., :-1]).cumsum(-1) - bound
    inner = torch.cat([inner, functional.softplus(slopes + _UNIT)[..., None, :] + _LEAST], -2)
    ends = inner.new_tensor([[-bound, bound], [-bound, bound], [1.0, 1.0]]).expand(*inner.shape[:-1], 2)
    return torch.cat([ends[..., :1], inner, ends[..., 1:]], -1)


class SplineCoupling(nn.Module):
    """Move some features by splines whose shape a network reads off the others (and off a context).

    Args:
        kept: indices of the features that stay, and are looked at.
        moved: indices of those that move; together they are 0..features-1.
        context: width of what else the network reads, 0 for nothing.
        bins, hidden, bound: of the splines and of the network, two hidden layers. It starts as the
            identity.

    Example:
        >>> with torch.random.fork_rng():
        ...     layer = SplineCoupling([0], [1], context=0, bins=4, hidden=8, bound=3.0)
        >>> x = torch.tensor([[0.3, -1.2], [2.0, 7.0]])
        >>> z, log_det = layer(x, None)
        >>> bool(torch.allclose(layer(z, None, inverse=True)[0], x, atol=1e-5)), log_det.shape
        (True, torch.Size([2]))
    """

    kept: Tensor
    moved: Tensor
    order: Tensor

    def __init__(
        self, kept: list[int], moved: list[int], context: int, bins: int, hidden: int, bound: float
    ) -> None:
        super().__init__()
        self.bins, self.bound = bins, bound
        self.register_buffer("kept", torch.tensor(kept))
        self.register_buffer("moved", torch.tensor(moved))
        self.register_buffer("order", torch.tensor(kept + moved).argsort())
        self.network = mlp(len(kept) + context, hidden, len(moved) * (3 * bins - 1), zero=True)

    def forward(self, x: Tensor, context: Tensor | None, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Return the image (..., features) and the log determinant (...,) of the direction taken."""
        kept, moved = x[..., self.kept], x[..., self.moved]
        shape = self.network(beside(kept / self.bound, context)).unflatten(-1, (len(self.moved), -1))
        widths, heights, slopes = shape.split((self.bins, self.bins, self.bins - 1), -1)
        moved = moved.expand(shape.shape[:-1])
        moved, log_slope = rational_quadratic(moved, widths, heights, slopes, self.bound, inverse)
        kept = kept.expand(*moved.shape[:-1], -1)
        return torch.cat([kept, moved], -1)[..., self.order], log_slope.sum(-1)
