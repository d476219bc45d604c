"""One step of SVI: a gradient, checked and perhaps clipped, and a step of the optimizer; all counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from inference.svi.compiled_step import TracedStep
from inference.svi.losses import ElboLoss, SampleLoss, row_weighted
from inference.svi.minibatch import Batch
from inference.svi.optimizers import Optimizer

_IN_A_ROW = 50  # steps that may be skipped one after another before the fit is given up
_SHARE = 0.25  # of the steps that may be skipped, counted once there are ...
_COUNTED = 200  # ... so many
_SPIKE = 20.0  # times the usual gradient norm above which a gradient is clipped
_SETTLED = 100  # steps after which the usual norm is known
_MEMORY = 0.98  # of the running mean of the norm, by steps
_WORTH = 300  # steps still to come that make up for the time of a trace
_AGAIN = 2  # steps in a row whose gradient, not loss, is not finite: derivatives are then taken with care
_FIRST = 10  # steps by plain Pyro before a trace is tried: programs that fail do so in plain words


@dataclass
class Count:
    """What happened to the steps: skipped for a gradient that is not finite, clipped to the usual norm."""

    taken: int = 0
    skipped: int = 0
    clipped: int = 0
    in_a_row: int = 0

    def sentences(self) -> list[str]:
        """For the certificate's notes."""
        said = []
        if self.skipped:
            said.append(
                f"{self.skipped} of {self.taken} steps had a loss or gradient that was not finite, and were "
                f"skipped."
            )
        if self.clipped:
            said.append(
                f"The gradient was clipped in {self.clipped} of {self.taken} steps, where its norm exceeded "
                f"{_SPIKE:g} times the usual one."
            )
        return said


class Stepper:
    """Take steps of SVI on batches.

    A step whose loss or gradient is not finite changes nothing and is counted; a gradient of more than 20
    times the usual norm (the running mean) is clipped to that and counted, where the optimizer is ours.

    Args:
        objective: what is descended.
        model: the conditioned story; its batch and warm-up factor are set here.
        params: what is trained.
        optimizer: of the parameters.
        climber: of an adversary's parameters.
        total: the most steps that will be taken.
        guide: of the model, if it has one.

    Attributes:
        count: what happened to the steps.
        usual: running mean of the gradient norm.
    """

    def __init__(
        self,
        objective: ElboLoss | SampleLoss,
        model: Any,
        params: Sequence[Tensor],
        optimizer: Optimizer,
        climber: Optimizer | None,
        total: int,
        guide: Any = None,
    ) -> None:
        self.objective, self.model, self.params = objective, model, list(params)
        self.optimizer, self.climber, self.total = optimizer, climber, total
        self.count, self.usual = Count(), math.nan
        programs = (getattr(model, "story", None), guide, objective.adversary)
        buffers = [b for p in programs if isinstance(p, torch.nn.Module) for b in p.buffers()]
        self.traced = TracedStep(self._run, self.params, buffers)
        adversary = objective.adversary
        climbing = [] if adversary is None else list(adversary.parameters())
        self.rising = TracedStep(self._contest, climbing, buffers)

    @property
    def optimizers(self) -> list[Optimizer]:
        """Of the parameters, and of an adversary's."""
        return [self.optimizer, *([] if self.climber is None else [self.climber])]

    def take(self, batch: Batch, warm: float | None = None) -> float:
        """One step; returns the ELBO (minus the loss), in nats, NaN for a step that was skipped.

        Args:
            batch: of rows.
            warm: factor of the latent sites' density while it rises, else ``None``.

        Raises:
            ValueError: when too many steps are skipped.
        """
        self.count.taken += 1
        like = self.params[0]
        factor = None if warm is None else torch.tensor(warm, dtype=like.dtype, device=like.device)
        if self.climber is not None:
            self._climb(batch)
        loss, grads = self._gradient(batch, factor)
        with (
            torch._C.DisableTorchFunction()
        ):  # nothing here is the user's, whose dtypes may have to be mended
            norm = _norm(grads)
            value, size = torch.stack([loss.to(norm.dtype), norm]).tolist()
            if not (math.isfinite(value) and math.isfinite(size)):
                self._skip(value)
                return math.nan
            self.count.in_a_row = 0
            self._clip(grads, size)
            for p, g in zip(self.params, grads, strict=True):
                p.grad = g
            self.optimizer.step(value)
        return -value

    def _gradient(self, batch: Batch, factor: Any) -> tuple[Tensor, list[Tensor]]:
        if not self.objective.smooth:
            return self._by_itself(batch, factor)
        return self._found(self.traced, batch, factor)

    def _found(self, step: TracedStep, batch: Batch, factor: Any) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradient, from a graph where it pays and is possible."""
        found = None
        if self.count.taken > _FIRST and self.total > _WORTH:
            found = step(batch, factor)
        return step.plain(batch, factor) if found is None else found

    def _run(self, batch: Batch, factor: Any) -> Tensor:
        self.model.batch, self.model.factor = batch, factor
        loss = self.objective()
        if not loss.requires_grad:
            raise ValueError(self.objective.no_gradient)
        return loss

    def _by_itself(self, batch: Batch, factor: Any) -> tuple[Tensor, list[Tensor]]:
        """Losses of Pyro's that call ``backward`` themselves."""
        alone = row_weighted(self.objective)  # a scale inside would be an exponent of the rows' weights
        self.model.batch, self.model.factor = replace(batch, scale=1.0) if alone else batch, factor
        for p in self.params:
            p.grad = None
        loss, scale = self.objective.backward(), batch.scale if alone else 1.0
        return scale * loss, [torch.zeros_like(p) if p.grad is None else scale * p.grad for p in self.params]

    def _climb(self, batch: Batch) -> None:
        """One step of the adversary, against samples that are held fixed."""
        climber, rising = cast(Optimizer, self.climber), self.rising
        loss, grads = self._found(rising, batch, None)
        with torch._C.DisableTorchFunction():
            norm = float(_norm(grads))
            if math.isfinite(norm):
                for p, g in zip(rising.params, grads, strict=True):
                    p.grad = g
                climber.step(float(loss))

    def _contest(self, batch: Batch, factor: Any) -> Tensor:
        """What the adversary makes of the batch and of samples."""
        objective = cast(SampleLoss, self.objective)
        self.model.batch = batch
        with torch.no_grad():
            samples, _ = objective.samples()
        return objective.value(samples)

    def _clip(self, grads: Sequence[Tensor], size: float) -> None:
        if self.count.taken - self.count.skipped > _SETTLED and size > _SPIKE * self.usual:
            if self.optimizer.ours:
                self.count.clipped += 1
                torch._foreach_mul_(list(grads), _SPIKE * self.usual / size)
            size = _SPIKE * self.usual
        self.usual = size if math.isnan(self.usual) else _MEMORY * self.usual + (1 - _MEMORY) * size

    def _skip(self, value: float) -> None:
        count = self.count
        count.skipped += 1
        count.in_a_row += 1
        if math.isfinite(value) and count.in_a_row == _AGAIN and not self.traced.careful:
            self.traced.take_care()
        many = count.taken >= _COUNTED and count.skipped > _SHARE * count.taken
        if count.in_a_row >= _IN_A_ROW or many:
            what = f"the ELBO is {-value}" if not math.isfinite(value) else "the gradient is not finite"
            raise ValueError(
                f"guide: {what} at step {count.taken}, and {count.skipped} steps had to be skipped. Look for "
                f"a guide that leaves the support of a site, a standard deviation that is not positive or "
                f"overflows (use softplus, or bound its logarithm), or a rate that is too large (optim)."
            )


def _norm(grads: Sequence[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads))))
