"""Turn a tape into a Python function that calls torch in its quickest way.

An operation through ``torch.ops.aten`` costs about twice as much as through ``torch.add`` or a method, which
are the same operations parsed in C++; on small tensors that is most of the time. Values are let go of after
their last use, so that memory is what the computation needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.compiler.operations import aten
from inference.compiler.tape import Op, Ref, Size, Tape

Run = Callable[..., tuple[Tensor, ...]]

_INFIX = {
    aten.add.Tensor: "+", aten.sub.Tensor: "-", aten.mul.Tensor: "*", aten.div.Tensor: "/",
    aten.add.Scalar: "+", aten.sub.Scalar: "-", aten.mul.Scalar: "*", aten.div.Scalar: "/",
    aten.mm.default: "@",
}  # fmt: skip
_METHODS = {
    aten.view.default: "view", aten._unsafe_view.default: "reshape", aten.reshape.default: "reshape",
    aten.expand.default: "expand", aten.unsqueeze.default: "unsqueeze", aten.squeeze.dim: "squeeze",
    aten.squeeze.default: "squeeze", aten.permute.default: "permute", aten.t.default: "t",
    aten.select.int: "select", aten.sum.default: "sum", aten.sum.dim_IntList: "sum", aten.exp.default: "exp",
    aten.log.default: "log", aten.log1p.default: "log1p", aten.neg.default: "neg",
    aten.pow.Tensor_Scalar: "pow", aten.transpose.int: "transpose", aten.lgamma.default: "lgamma",
    aten.sigmoid.default: "sigmoid", aten.reciprocal.default: "reciprocal", aten.sqrt.default: "sqrt",
    aten.masked_fill.Scalar: "masked_fill", aten.index_select.default: "index_select",
}  # fmt: skip


def compiled(tape: Tape, *, quick: bool = True) -> Run:
    """A function of the tape's inputs that returns the tuple of its outputs.

    Args:
        tape: to be run many times.
        quick: whether to spell operations in their quickest way; else as they were recorded.

    Example:
        >>> import torch
        >>> from inference.compiler.recording import record
        >>> run = compiled(record(lambda x: (2.0 * x).exp(), torch.ones(3)).tape)
        >>> run(torch.zeros(2))
        (tensor([1., 1.]),)
    """
    names: dict[str, Any] = {f"v{n}": value for n, value in tape.constants.items()}
    lines = [f"s{k} = v{tape.inputs[p]}.shape[{axis}]" for k, (p, axis) in enumerate(tape.batched)]
    last = tape.last_uses()
    for position, op in enumerate(tape.ops):
        lines.append(_spelled(op, names, quick))
        if position in last:
            lines.append(f"del {', '.join(f'v{n}' for n in last[position])}")
    lines.append(f"return ({', '.join(f'v{n}' for n in tape.outputs)},)")
    head = f"def run({', '.join(f'v{n}' for n in tape.inputs)}):"
    source = "\n    ".join([head, *lines])
    exec(compile(source, "<tape>", "exec"), names)
    run: Run = names["run"]
    return run


def _spelled(op: Op, names: dict[str, Any], quick: bool) -> str:
    """One operation as a line of Python."""
    left = ", ".join(f"v{n}" if n >= 0 else "_" for n in op.outs)
    if op.several:
        left = f"{left}," if len(op.outs) == 1 else left
    args = [_text(a, names) for a in op.args]
    kwargs = [f"{k}={_text(v, names)}" for k, v in op.kwargs.items()]
    call = _call(op, args, kwargs, names, quick and bool(op.outs))
    return f"{left} = {call}" if op.outs else call


def _call(op: Op, args: list[str], kwargs: list[str], names: dict[str, Any], quick: bool) -> str:
    target = op.target
    quick = quick and not any(isinstance(a, list | tuple) and None in a for a in op.args)
    if quick and args and isinstance(op.args[0], Ref) and not kwargs:
        if target in _INFIX and len(args) == 2:
            return f"{args[0]} {_INFIX[target]} {args[1]}"
        if target in _METHODS:
            return f"{args[0]}.{_METHODS[target]}({', '.join(args[1:])})"
        if target == aten.slice.Tensor and len(args) == 4 and op.args[1] in (0, 1):
            start, stop = args[2], "" if op.args[3] in (None, 2**63 - 1) else args[3]
            return f"{args[0]}[{':, ' * op.args[1]}{'' if start == 'None' else start}:{stop}]"
    name = getattr(getattr(target, "overloadpacket", None), "__name__", "")
    function = getattr(torch._C._VariableFunctions, name, None) if quick and name not in _UNLIKE else None
    label = f"f_{name}" if function is not None else f"op_{len(names)}"
    names[label] = function or target
    return f"{label}({', '.join([*args, *kwargs])})"


# What torch's own functions of these names take differs from the operations'.
_UNLIKE = frozenset(
    {"arange", "full", "zeros", "ones", "scalar_tensor", "empty", "slice", "to_copy", "_to_copy"}
)


def _text(value: Any, names: dict[str, Any]) -> str:
    """An argument as Python source."""
    if isinstance(value, Ref):
        return f"v{value.index}"
    if isinstance(value, Size):
        parts = ["*".join([str(c), *(f"s{f}" for f in factors)]) for c, factors in value.terms]
        return f"({' + '.join(parts)})"
    if isinstance(value, tuple | list):
        inner = ", ".join(_text(part, names) for part in value)
        return f"[{inner}]"
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0):
        return repr(value)
    label = f"k{len(names)}"
    names[label] = value
    return label


def compiled_for(tape: Tape, example: Sequence[Tensor]) -> Run:
    """The quick function of a tape if it does what the tape does at an example, else the recorded one."""
    run = compiled(tape)
    with torch.no_grad():
        expected = tape.run(*example)
        try:
            found = run(*example)
        except (RuntimeError, TypeError, ValueError):
            return compiled(tape, quick=False)
    same = all(
        a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, equal_nan=True)
        for a, b in zip(found, expected, strict=True)
    )
    return run if same else compiled(tape, quick=False)
