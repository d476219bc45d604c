"""A story on a batch of rows, data observed, and a guide beside it: what SVI sees as model and guide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

from inference.story.arguments import changed, copies
from inference.story.handlers import Known
from inference.story.programs import Given, with_data
from inference.svi.losses import WarmUp
from inference.svi.minibatch import Batch
from inference.svi.target import Target

_RULED_OUT = -100.0  # log probability of what contradicts a label; finite, since 0 x -inf is no number


class Conditioned:
    """The story on a batch of rows, data observed.

    Args:
        story: the copy that is trained.
        target: the story's sites and what becomes of them.
        batch: the rows; another for every step.

    Attributes:
        factor: of the density of latent sites, while it warms up; ``None`` afterwards.
        drawn: summed-out discrete sites that the guide draws itself.
        marked: whether to show Pyro a parameter statement, without which some of its ELBOs do not
            differentiate.
        params: values of the story's parameters for autoguides that run it, which keep a store of their own.
    """

    def __init__(self, story: Callable[..., Any], target: Target, batch: Batch) -> None:
        self.story, self.target, self.batch = story, target, batch
        self.factor: Any = None
        self.drawn: frozenset[str] = frozenset()
        self.marked = False
        self.params: Mapping[str, Tensor] = {}

    def __call__(self) -> Any:
        """Run the story."""
        if self.marked:
            pyro.param("_", lambda: torch.zeros(()))
        with self._around(), self._known():
            return replace(self.batch.call, story=self.story)()

    def _around(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(self.batch.scaled())
        if self.factor is not None:
            stack.enter_context(WarmUp(self.target.names, self.factor))
        return stack

    def _known(self) -> Known:
        batch = self.batch
        values = {n: v for n, v in batch.values.items() if n not in self.drawn}
        seen = {n: m for n, m in batch.seen.items() if n not in self.drawn}
        summed = [n for n in self.target.plan.summed if n not in self.drawn]
        return Known(values, seen, summed, batch.stand_in)

    def hidden(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """A model conditioned on the data, summed-out sites hidden: for autoguides."""

        def conditioned(*args: Any, **kwargs: Any) -> Any:
            summed = self.target.plan.summed
            values = {n: v for n, v in self.batch.values.items() if n not in summed}
            known = Known(values, self.batch.seen, (), self.batch.stand_in)
            own_store = pyro.get_param_store().scope()  # else the guide would have parameters of these names
            with poutine.block(hide=list(summed)), known, own_store, Given(self.params):
                return model(*args, **kwargs)

        return conditioned

    def guided(self, guide: Callable[..., Any] | None) -> Callable[[], Any]:
        """The guide on the same batch; called like the story, with ``data=`` and ``seen=`` if it has them."""

        def run_guide() -> Any:
            if guide is None:
                return None
            args, kwargs = self._given(guide)
            return self._guided(guide, args, kwargs)

        return run_guide

    def watched(self, guide: Callable[..., Any] | None) -> Callable[[], Any]:
        """The same for a first run, which refuses a guide that changes what every run is given.

        Where the story itself writes into its arguments, the guide's are copies at every run, too.
        """

        def run_guide() -> Any:
            if guide is None:
                return None
            given = self._given(guide)
            args, kwargs = copies(given)
            result = self._guided(guide, args, kwargs)
            if not self.batch.call.writes and changed(given, (args, kwargs)):
                raise ValueError(
                    "guide: it writes into its arguments or its data in place, expected it to leave them as "
                    "they are: every run would see other numbers. Compute new tensors (x = x - x.mean())."
                )
            return result

        return run_guide

    def _given(self, guide: Callable[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        batch, call = self.batch, self.batch.call.fresh()
        return call.args, with_data(guide, call.kwargs, batch.values, batch.seen)

    def _guided(self, guide: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        with self._around(), Labelled(self.batch.values, self.batch.seen, self.target.plan.summed):
            return guide(*args, **kwargs)

    def forward(self, given: tuple[str, ...]) -> Callable[[], Any]:
        """A run of the story with some sites taken from the data and the others drawn."""

        def run() -> Any:
            batch = self.batch
            values = {n: v for n, v in batch.values.items() if n in given}
            seen = {n: m for n, m in batch.seen.items() if n in given}
            with Known(values, seen, resample=True):
                return poutine.trace(replace(batch.call, story=self.story)).get_trace()

        return run


class Labelled(Messenger):
    """Hold a guide's discrete sites at their labels in the rows where these were given.

    A guide that draws a half-labelled site does so for the rows without a label; in the others its
    distribution is put aside, so that no label is overlooked.
    """

    def __init__(
        self, values: Mapping[str, Tensor], seen: Mapping[str, Tensor], summed: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.values, self.seen, self.summed = values, seen, summed

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.summed and name in self.seen and not msg["is_observed"]:
            msg["fn"] = PartlyGiven(msg["fn"], self.values[name], self.seen[name])


class PartlyGiven(TorchDistribution):
    """A discrete distribution, but for elements whose value is given: a point mass there."""

    arg_constraints: dict[str, Any] = {}

    def __init__(self, base: Any, value: Tensor, seen: Tensor) -> None:
        self.base, self.value, self.seen = base, value, seen
        self.has_enumerate_support = bool(base.has_enumerate_support)
        shape = torch.broadcast_shapes(base.batch_shape, seen.shape)
        super().__init__(shape, base.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        """The support of the base distribution."""
        return self.base.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> PartlyGiven:
        """The same distribution in a larger plate."""
        return PartlyGiven(self.base.expand(batch_shape), self.value, self.seen)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw the elements that are not given."""
        drawn = self.base.sample(sample_shape)
        return torch.where(self.seen, self.value.to(drawn.dtype), drawn)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log mass, all of it on what is given."""
        given = torch.where(value == self.value, 0.0, _RULED_OUT)
        return torch.where(self.seen, given, self.base.log_prob(value))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The values of the base distribution."""
        return self.base.enumerate_support(expand)
