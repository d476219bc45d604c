"""Programs with trained parameters: a story or a guide that carries its own parameter values.

Pyro keeps parameters in one store per process. Here they are taken out of it after training and given
to the program whenever it runs, so that a fitted story or guide works anywhere, reads nothing from the
user's store and leaves nothing in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from inference.runtime.isolation import promote
from inference.story.call import Call, story_dtype, story_name
from inference.story.parameters import local_parameters


def signature(program: Any) -> inspect.Signature:
    """The signature of a function, a module or a callable object."""
    return inspect.signature(program.forward if isinstance(program, torch.nn.Module) else program)


class Baked:
    """A program with its parameters' values; called like the program.

    Args:
        program: a function or a module.
        params: name -> constrained value; those that a module owns itself are left out, since a guide's
            may go by the same name.

    Example:
        >>> import pyro, torch
        >>> def story():
        ...     return pyro.param("rate", torch.tensor(1.0))
        >>> Baked(story, {"rate": torch.tensor(3.0)})(), len(pyro.get_param_store())
        (tensor(3.), 0)
    """

    def __init__(self, program: Callable[..., Any], params: Mapping[str, Tensor]) -> None:
        own = _owned(program)
        self.program, self.params = program, {n: v for n, v in params.items() if n not in own}
        self.__name__, self.__doc__ = story_name(program), program.__doc__
        self.__signature__ = signature(program)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program in an empty parameter store, with its own values."""
        with (
            pyro.get_param_store().scope(),
            poutine.block(hide_types=["param"]),
            Given(self.params),
            local_parameters(self.program),  # the store would make its parameters ask for gradients again
        ):
            return self.program(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Parts of a trained module: ``posterior.story.decoder``."""
        if name.startswith("__") or "program" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.program, name)


def _owned(program: Callable[..., Any]) -> set[str]:
    """Names under which a module's own parameters go in Pyro."""
    if not isinstance(program, torch.nn.Module):
        return set()
    return {n.removesuffix("_unconstrained") for n, _ in program.named_parameters()}


class FittedGuide(Baked):
    """A fitted guide program, called like the story; ``Predictive(story, guide=...)`` takes it.

    Args:
        program: the trained copy of the guide.
        params: its parameters' values.
        data: handed to a guide whose signature has ``data``, unless the caller gives another.
        seen: masks of half-seen sites, handed on likewise.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        params: Mapping[str, Tensor],
        data: Mapping[str, Tensor],
        seen: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(program, params)
        self.data, self.seen = dict(data), dict(seen or {})
        floats = [v for v in self.params.values() if v.is_floating_point()]
        self.dtype = floats[0].dtype if floats else story_dtype(program)
        self._casts: dict[torch.dtype, FittedGuide] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide; its draws come in the default dtype, whatever it was fitted in."""
        dtype = torch.get_default_dtype()
        guide = self if dtype == self.dtype else self._cast(dtype)
        with _DefaultDtype():
            return Baked.__call__(guide, *args, **with_data(self.program, kwargs, guide.data, self.seen))

    def _cast(self, dtype: torch.dtype) -> FittedGuide:
        """A copy whose parameters and data have another dtype."""
        if dtype not in self._casts:
            copy = self.program
            if isinstance(copy, torch.nn.Module):
                copy = deepcopy(copy).to(dtype)
            params, data = ({n: _to(v, dtype) for n, v in d.items()} for d in (self.params, self.data))
            self._casts[dtype] = FittedGuide(copy, params, data, self.seen)
        return self._casts[dtype]


def with_data(
    program: Callable[..., Any],
    kwargs: Mapping[str, Any],
    data: Mapping[str, Tensor],
    seen: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Add ``data=`` and ``seen=`` to the keywords of a guide whose signature has these names."""
    offered = {"data": data, "seen": {} if seen is None else seen}
    names = signature(program).parameters
    return {**{n: v for n, v in offered.items() if n in names and (n == "data" or v)}, **kwargs}


class Given(Messenger):
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
    here = promote(value, torch.get_default_dtype(), torch.get_default_device())
    return cast(Tensor, here).detach().clone()


def own_copy(
    program: Callable[..., Any],
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
    shared: dict[int, Any] | None = None,
) -> Callable[..., Any]:
    """A copy that may be trained: modules are deep-copied, cast and moved, functions get copies.

    Args:
        program: a story or a guide.
        dtype, device: of the copy.
        shared: what stands for the parts that the program shares with another; see :func:`counterparts`.
    """
    if isinstance(program, torch.nn.Module):
        return deepcopy(program, shared).to(device, dtype)
    return Owned(program)


def counterparts(one: Any, other: Any) -> dict[int, Any]:
    """What ``deepcopy`` is to put for the modules and parameters of one module: those of its copy.

    A guide that holds the story, or a network of the story's, then holds the copy that is trained.
    """
    if not (isinstance(one, torch.nn.Module) and isinstance(other, torch.nn.Module)):
        return {}
    pairs = [*zip(one.modules(), other.modules(), strict=True)]
    pairs += zip(one.parameters(), other.parameters(), strict=True)  # type: ignore[arg-type]
    return {id(a): b for a, b in pairs}


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
        return program.eval().requires_grad_(False).cpu()
    return program.program if isinstance(program, Owned) else program


def stored() -> dict[str, Tensor]:
    """Copies of all constrained values in the present parameter store."""
    store = pyro.get_param_store()
    return {name: store[name].detach().clone() for name in store.keys()}


def bake(call: Call, params: Mapping[str, Tensor]) -> Call:
    """The call of a story with its parameters' values."""
    return replace(call, story=Baked(call.story, params))
