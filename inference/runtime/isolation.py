"""A quiet room to run a story in: nothing global is changed, nothing global is seen.

Pyro and torch keep several switches per process: the parameter store, the random state, the default
dtype, the validation flags. A story runs with an empty store, a seed of its own, float64 (or the dtype
of its networks) and validation off (values were checked before), and everything is put back afterwards.
These switches are seen by other threads while they are set, hence the lock.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

_LOCK = threading.RLock()


_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]


class _PromoteFloats(TorchFunctionMode):
    """Retry an operation that refused mixed float dtypes with everything in float64.

    A story may close over float32 tensors; ``X @ w`` with a float64 ``w`` would then raise. Where the story
    holds float32 networks, everything meets in their dtype instead.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func == _DATA:  # Pyro reads shapes through `.data`, which vmap refuses; detached is the same
            return args[0].detach()
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            if "dtype" not in str(error) and "scalar type" not in str(error):
                raise
            args, kwargs = tree_map(partial(promote, dtype=self.dtype), (args, kwargs))
            return func(*args, **kwargs)


def promote(value: Any, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Any:
    """Turn arrays into tensors of their own and floating-point tensors into one dtype; leave the rest.

    ``device`` is where tensors are put; ``None`` leaves them where they are.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            "args: expected plain arrays, got a masked array. Missing values are told in `data`, by "
            "site name; make the covariate a site of the story if some of it is missing."
        )
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    if not isinstance(value, torch.Tensor):
        return value
    value = value if device is None else value.to(device)
    return value.to(dtype) if value.is_floating_point() else value


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)


@contextmanager
def _no_torch_chatter() -> Iterator[None]:
    """Silence two notes of torch that say nothing about the result."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        # torch.distributions.Wishart warns on every sample (its check is inverted); samples are fine
        warnings.filterwarnings("ignore", message="Singular sample detected")
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread.

    The tensors here are small: waiting for a second thread costs more than it gives, on a busy machine
    ten times more.
    """
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


@contextmanager
def isolated(
    seed: int | None = None, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Iterator[None]:
    """Run a block with float64, no validation, an empty parameter store and a seed of its own.

    Args:
        seed: of torch's generator inside the block; ``None`` continues the present stream. The
            stream outside the block is never advanced.
        dtype: the default dtype inside; networks keep theirs, which is then the default.
        device: where tensors are created inside; ``None`` is torch's default.

    Example:
        >>> import torch
        >>> before = torch.random.get_rng_state()
        >>> with isolated(seed=1):
        ...     torch.ones(2).dtype, torch.rand(()).shape
        (torch.float64, torch.Size([]))
        >>> bool((torch.random.get_rng_state() == before).all()), torch.ones(2).dtype
        (True, torch.float32)
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with _LOCK, ExitStack() as stack:
        stack.enter_context(one_thread())
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(pyro.get_param_store().scope())
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(_default_dtype(dtype))
        stack.enter_context(_no_torch_chatter())
        stack.enter_context(_PromoteFloats(dtype))
        stack.enter_context(poutine.block())
        if device is not None and device.type != "cpu":
            stack.enter_context(device)
        if seed is not None:
            torch.manual_seed(seed)
        yield
