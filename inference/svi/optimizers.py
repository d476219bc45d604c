"""What steps the parameters: one torch optimizer over all of them, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

RATE = 0.05  # Adam's rate for pyro.param and small modules, in unconstrained units per step
# And where there are networks: of .001, .003 and .01 the best for a VAE on eight Gaussians (bound on KL 1.17,
# .66 and 1.58 nats after 2,000 steps on 3,000 rows), and as good as any for a flow (KL .133, .062 and .060
# after 1,000 steps); one seed each.
NETWORK_RATE = 0.003
_WEIGHTS = 100  # numbers in weight matrices that make a module a network

Stepped = Callable[[float], None]
Chosen = Callable[[Sequence[Tensor], Mapping[Tensor, str]], "Optimizer"]


def is_network(program: Any) -> bool:
    """Whether a program holds weight matrices (and is no autoguide), so that it takes a network's rate.

    Example:
        >>> is_network(torch.nn.Linear(20, 20)), is_network(torch.nn.Linear(2, 2))
        (True, False)
    """
    if not isinstance(program, torch.nn.Module) or isinstance(program, AutoGuide):
        return False
    return sum(p.numel() for p in program.parameters() if p.dim() > 1) > _WEIGHTS


class Optimizer:
    """A torch optimizer over all parameters, with its scheduler if it has one.

    Args:
        optimizer: over the parameters.
        scheduler: a torch scheduler; it steps with every step of the optimizer.
        ours: whether its rate may be changed.
    """

    def __init__(self, optimizer: Any, scheduler: Any = None, *, ours: bool = False) -> None:
        self.optimizer, self.scheduler, self.ours = optimizer, scheduler, ours
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def step(self, loss: float) -> None:
        """One step along the gradients that stand in the parameters' ``grad``."""
        self.optimizer.step()
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(loss)
        elif self.scheduler is not None:
            self.scheduler.step()

    def state(self) -> list[Any]:
        """What later steps depend on, beside the parameters; not copied."""
        return [part.state_dict() for part in (self.optimizer, self.scheduler) if part is not None]

    def restore(self, state: list[Any]) -> None:
        """Take up the state of an optimizer of the same parameters."""
        parts = [part for part in (self.optimizer, self.scheduler) if part is not None]
        for part, own in zip(parts, state, strict=True):
            part.load_state_dict(own)

    def pace(self, factor: float) -> None:
        """Set the rate to a factor of what it was at the start; nothing where it is the user's."""
        if self.ours:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = factor * rate


class _PyroOptimizer(Optimizer):
    """A Pyro optimizer whose options differ between parameters: one torch optimizer for each."""

    def __init__(self, optimizer: PyroOptim, names: Mapping[Tensor, str]) -> None:
        self.optimizer, self.names, self.ours = optimizer, names, False

    def state(self) -> list[Any]:
        """By parameter, as Pyro keeps it."""
        self._tell_names()
        return [self.optimizer.get_state()]

    def restore(self, state: list[Any]) -> None:
        """Pyro takes it up with the next step."""
        self.optimizer.set_state(state[0])

    def step(self, loss: float) -> None:
        self._tell_names()
        self.optimizer([p for p in self.names if p.grad is not None])
        if isinstance(self.optimizer, PyroLRScheduler):
            self.optimizer.step()

    def _tell_names(self) -> None:
        """Pyro asks its store, which forgets the names of modules' parameters whenever it is put back."""
        pyro.get_param_store()._param_to_name.update(self.names)


def choose_optimizer(optim: Any, rate: float = RATE, *, maximize: bool = False) -> Chosen:
    """Return what makes a fresh optimizer of parameters, one per restart.

    Args:
        optim: ``None`` (Adam), a Pyro optimizer or scheduler (copied), a torch optimizer class or a
            ``functools.partial`` of one, or a function of the parameters that returns a torch optimizer, or
            a pair of it and a torch scheduler. Schedulers step with every step.
        rate: Adam's, where ``optim`` is ``None``.
        maximize: climb instead, for an adversary.

    Raises:
        ValueError: for anything else; an instance of a torch optimizer holds parameters already.
    """
    kind = getattr(optim, "func", optim)
    is_class = isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    known = optim is None or is_class or isinstance(optim, PyroOptim) or callable(optim)
    if not known or kind is torch.optim.LBFGS or isinstance(optim, torch.optim.Optimizer | LRScheduler):
        raise ValueError(
            f"optim: expected None, a Pyro optimizer such as pyro.optim.Adam({{'lr': 0.01}}), a torch "
            f"optimizer class or functools.partial of one (not LBFGS, which needs a closure), or a function "
            f"of the parameters that returns an optimizer, or one with a scheduler, got {optim!r}."
        )
    return partial(_optimizer, optim, rate, maximize)


def _optimizer(
    optim: Any, rate: float, maximize: bool, params: Sequence[Tensor], names: Mapping[Tensor, str]
) -> Optimizer:
    if optim is None:
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in params)
        return Optimizer(torch.optim.Adam(params, lr=rate, fused=fused, maximize=maximize), ours=True)
    if isinstance(optim, PyroOptim):
        return _climbing(_of_pyro(optim, params, names), maximize)
    made = optim(params)
    made, scheduler = made if isinstance(made, tuple) else (made, None)
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(
            f"optim: expected the function to return a torch optimizer, got {type(made).__name__}."
        )
    return _climbing(Optimizer(made, scheduler), maximize)


def _of_pyro(optim: PyroOptim, params: Sequence[Tensor], names: Mapping[Tensor, str]) -> Optimizer:
    if callable(optim.pt_optim_args) or optim.pt_clip_args:
        return _PyroOptimizer(deepcopy(optim), names)
    made: Any = optim.pt_optim_constructor(params, **optim.pt_optim_args)  # type: ignore[operator]
    if isinstance(optim, PyroLRScheduler):
        return Optimizer(made, optim.pt_scheduler_constructor(made, **optim.kwargs))
    return Optimizer(made)


def _climbing(optimizer: Optimizer, maximize: bool) -> Optimizer:
    """Turn an adversary's optimizer round."""
    if maximize:
        for group in getattr(optimizer.optimizer, "param_groups", []):
            if "maximize" not in group:
                raise ValueError(
                    "optim: an adversary needs an optimizer that can climb (maximize=), such as "
                    f"torch.optim.Adam, got {type(optimizer.optimizer).__name__}."
                )
            group["maximize"] = True
    return optimizer
