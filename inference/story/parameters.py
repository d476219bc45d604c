"""What is trained: parameters of modules, and those that ``pyro.param`` makes.

Pyro's store knows parameters by name, and a story and a guide that both have an attribute ``net`` would
share, silently, one entry. Modules therefore keep their parameters to themselves while they are trained,
which also saves the store's look-ups at every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor
from torch.distributions import transform_to

MARK = "_"  # the parameter statement that some of Pyro's ELBOs must see; see Conditioned.marked


@contextmanager
def local_parameters(*programs: Any) -> Iterator[None]:
    """Run a block in which modules keep their parameters to themselves."""
    for context in _contexts(programs):
        if not hasattr(context, "param_state"):  # made outside of this mode
            context.param_state = {"params": {}, "constraints": {}}
    with pyro.settings.context(module_local_params=True):
        yield


def named_parameters(*programs: Any) -> dict[Tensor, str]:
    """All tensors that can be trained, each once, with a name.

    The programs must have been run: ``pyro.param`` makes its parameters then.
    """
    found: dict[Tensor, str] = {}
    states = [pyro.get_param_store().get_state(), *(c.param_state for c in _contexts(programs))]
    for state in states:
        for name, value in state["params"].items():
            found.setdefault(value, name)
    for program in programs:
        if isinstance(program, torch.nn.Module):
            for name, value in program.named_parameters():
                found.setdefault(value, name)
    return {v: n for v, n in found.items() if v.requires_grad and v.is_floating_point() and n != MARK}


def own_values(*programs: Any) -> dict[str, Tensor]:
    """Constrained values of the ``pyro.param`` statements that no module owns: copies, by name."""
    own = {
        id(p) for program in programs if isinstance(program, torch.nn.Module) for p in program.parameters()
    }
    store, values = pyro.get_param_store(), {}
    states = [store.get_state(), *(c.param_state for c in _contexts(programs))]
    for state in states:
        for name, value in state["params"].items():
            if id(value) not in own and name != MARK:
                values[name] = transform_to(state["constraints"][name])(value).detach().clone()
    return values


def _contexts(programs: tuple[Any, ...]) -> list[Any]:
    modules = [m for p in programs if isinstance(p, torch.nn.Module) for m in p.modules()]
    found = {id(m._pyro_context): m._pyro_context for m in modules if isinstance(m, PyroModule)}
    return list(found.values())
