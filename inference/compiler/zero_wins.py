"""Derivatives at the edge: a product with zero is zero, whatever the other factor.

Autograd multiplies what comes from above with a local derivative. Where a value was masked out, or summed out
with a count of zero, nothing comes from above, and the local derivative may be infinite: of ``log`` at 0, of
``xlogy(0, y)`` at y = 0 (Poisson at rate 0), of a normal's scale in a row without one. IEEE's ``0 * inf`` is
NaN, and that one NaN takes the gradient of all rows along. What is not looked at has derivative 0.

The other way round, ``inf * 0``, is a function with a cusp at 0 of what underflowed: ``sqrt(exp(a))`` at
a = -800 has slope ``exp(a / 2) / 2``, which is 0 too. The rule errs only where a cusp is undone exactly at
its tip (``sqrt(v) ** 2`` at v = 0, where v itself has a slope): single points, at which autograd gives NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_PRODUCTS = frozenset({_ATEN.mul.Tensor})
_FROM_ABOVE = frozenset({  # what comes from above stands first
    _ATEN.div.Tensor, _ATEN.sigmoid_backward.default, _ATEN.tanh_backward.default,
    _ATEN.softplus_backward.default, _ATEN.log_sigmoid_backward.default,
})  # fmt: skip


class ZeroWins(TorchDispatchMode):
    """While it lasts, ``0 * x`` and ``0 / x`` are 0 for every x, infinite or NaN; for backward passes.

    Example:
        >>> import torch
        >>> rate = torch.zeros(2, requires_grad=True)
        >>> value = torch.xlogy(torch.tensor([0.0, 0.0]), rate).sum()
        >>> torch.autograd.grad(value, rate, retain_graph=True)
        (tensor([nan, nan]),)
        >>> with ZeroWins():
        ...     torch.autograd.grad(value, rate)
        (tensor([0., 0.]),)
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would otherwise import its compiler, for a second."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            zero = [x == 0 for x in args if isinstance(x, Tensor) and x.is_floating_point()]
        elif func in _FROM_ABOVE and isinstance(args[0], Tensor):
            zero = [args[0] == 0]
        else:
            return result
        for mask in zero:
            result = torch.where(mask, 0.0, result)
        return result
