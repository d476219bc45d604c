"""Programs with trained parameters: a story or a guide that carries its own parameter values.

Pyro keeps parameters in one store per process. Here they are taken out of it after training and given
to the program whenever it runs, so that a fitted story or guide works anywhere, reads nothing from the
user's store and leaves nothing in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from inference.calls import Call, story_name
from inference.isolation import promote


def signature(program: Any) -> inspect.Signature:
    """The signature of a function, a module or a callable object."""
    return inspect.signature(program.forward if isinstance(program, torch.nn.Module) else program)


class Baked:
    """A program with its parameters' values; called like the program.

    Args:
        program: a function or a module.
        params: name -> constrained value.

    Example:
        >>> import pyro, torch
        >>> def story():
        ...     return pyro.param("rate", torch.tensor(1.0))
        >>> Baked(story, {"rate": torch.tensor(3.0)})(), len(pyro.get_param_store())
        (tensor(3.), 0)
    """

    def __init__(self, program: Callable[..., Any], params: Mapping[str, Tensor]) -> None:
        self.program, self.params = program, dict(params)
        self.__name__, self.__doc__ = story_name(program), program.__doc__
        self.__signature__ = signature(program)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program in an empty parameter store, with its own values."""
        with (
            pyro.get_param_store().scope(),
            poutine.block(hide_types=["param"]),
            _Given(self.params),
        ):
            return self.program(*args, **kwargs)


class FittedGuide(Baked):
    """A fitted guide program, called like the story; ``Predictive(story, guide=...)`` takes it.

    Args:
        program: the trained copy of the guide.
        params: its parameters' values.
        data: handed to a guide whose signature has ``data``, unless the caller gives another.
    """

    def __init__(
        self, program: Callable[..., Any], params: Mapping[str, Tensor], data: Mapping[str, Tensor]
    ) -> None:
        super().__init__(program, params)
        self.data = dict(data)
        self._casts: dict[torch.dtype, FittedGuide] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide; its draws come in the default dtype, while it was fitted in float64."""
        dtype = torch.get_default_dtype()
        guide = self if dtype == torch.float64 else self._cast(dtype)
        with _DefaultDtype():
            return Baked.__call__(guide, *args, **with_data(self.program, kwargs, guide.data))

    def _cast(self, dtype: torch.dtype) -> FittedGuide:
        """A copy whose parameters and data have another dtype."""
        if dtype not in self._casts:
            copy = self.program
            if isinstance(copy, torch.nn.Module):
                copy = deepcopy(copy).to(dtype)
            params, data = ({n: _to(v, dtype) for n, v in d.items()} for d in (self.params, self.data))
            self._casts[dtype] = FittedGuide(copy, params, data)
        return self._casts[dtype]


def with_data(
    program: Callable[..., Any], kwargs: Mapping[str, Any], data: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Add ``data=`` to the keywords of a guide whose signature has that name."""
    return {"data": data, **kwargs} if "data" in signature(program).parameters else dict(kwargs)


class _Given(Messenger):
    """Give parameters their values, instead of looking them up in the store."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def _to(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


class _DefaultDtype(Messenger):
    """Hand draws on inside the program in the default dtype, whatever tensors it closes over."""

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if not site_is_subsample(msg) and isinstance(value, Tensor):
            msg["value"] = _to(value, torch.get_default_dtype())


class OwnParameters(Messenger):
    """Start a function's parameters from copies, so that training never writes into a user's tensor.

    Raises:
        ValueError: for the parameters of a network that a function closes over: they would be trained
            in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def _pyro_param(self, msg: Any) -> None:
        name, *init = msg["args"]
        network = "$$$" in name or (init and isinstance(init[0], torch.nn.Parameter))
        if network or (not init and name not in self.seen):
            raise ValueError(
                f"parameter {name!r}: expected pyro.param with a starting value, got the parameter of a "
                f"network that a function closes over, which training would change in place. Write the "
                f"program as a PyroModule that owns the network."
            )
        self.seen.add(name)
        if init:
            first = init[0]
            msg["args"] = (name, lambda: _copy(first() if callable(first) else first), *init[1:])


def _copy(value: Tensor) -> Tensor:
    return promote(value).detach().clone()


def own_copy(program: Callable[..., Any]) -> Callable[..., Any]:
    """A copy that may be trained: modules are deep-copied and cast to float64, functions get copies."""
    if isinstance(program, torch.nn.Module):
        return deepcopy(program).double()
    return Owned(program)


class Owned:
    """A function whose parameters start from copies."""

    def __init__(self, program: Callable[..., Any]) -> None:
        self.program, self.__name__ = program, story_name(program)
        self.__doc__, self.__signature__ = program.__doc__, signature(program)
        self.handler = OwnParameters()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function."""
        with self.handler:
            return self.program(*args, **kwargs)


def trained(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program without the training harness: modules evaluate, and take no more gradients."""
    if isinstance(program, torch.nn.Module):
        return program.eval().requires_grad_(False)
    return program.program if isinstance(program, Owned) else program


def stored() -> dict[str, Tensor]:
    """Copies of all constrained values in the present parameter store."""
    store = pyro.get_param_store()
    return {name: store[name].detach().clone() for name in store.keys()}


def bake(call: Call, params: Mapping[str, Tensor]) -> Call:
    """The call of a story with its parameters' values."""
    return Call(Baked(call.story, params), call.args, call.kwargs, call.counts_rows)
