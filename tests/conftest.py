"""Settings of the whole suite. Nothing here imports torch, so that parts of it run without."""

import os
import sys

import pytest

# Child processes inherit these, and they must be set before torch and matplotlib are imported.
os.environ["MPLBACKEND"] = "Agg"
# One thread each: the suite runs in one process per core (-n auto).
os.environ.setdefault("OMP_NUM_THREADS", "1")


def global_state():
    """What a user's process shares with ours, of the libraries that are loaded."""
    state = {}
    if torch := sys.modules.get("torch"):
        state["torch default dtype"] = torch.get_default_dtype()
        state["torch gradient mode"] = torch.is_grad_enabled()
        state["torch validation"] = torch.distributions.Distribution._validate_args
    if pyro := sys.modules.get("pyro"):
        # Validation flags are among them.
        state |= {f"pyro setting {name}": value for name, value in pyro.settings.get().items()}
        state["pyro parameter store"] = sorted(pyro.get_param_store().keys())
    return state


def restore(state):
    """Put back what `global_state` found, so that one failure is not followed by others."""
    if "torch default dtype" in state:
        import torch

        torch.set_default_dtype(state["torch default dtype"])
        torch.set_grad_enabled(state["torch gradient mode"])
        torch.distributions.Distribution.set_default_validate_args(state["torch validation"])
    if "pyro parameter store" in state:
        import pyro

        prefix = "pyro setting "
        pyro.settings.set(**{k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        pyro.clear_param_store()


@pytest.fixture(autouse=True)
def global_state_is_left_alone():
    """Fail a test that leaves another default dtype, validation flag or parameter store behind."""
    before = global_state()
    yield
    after = global_state()
    before.setdefault("pyro parameter store", [])
    changed = {
        name: (before[name], after[name])
        for name in before.keys() & after.keys()
        if before[name] != after[name]
    }
    if changed:
        restore(before)
        pytest.fail(f"global state changed, (before, after): {changed}")
