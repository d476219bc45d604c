"""Train flows by stochastic gradient ascent on their ELBOs, all problems at once.

Each step takes fresh draws, one batched gradient of the targets, and the sticking-the-landing gradient
(Roeder, Wu and Duvenaud 2017): the draws' dependence on the weights alone, without the score's, so that its
noise vanishes where the flow fits. It needs the flow's score at its own draws, which the layers push forward
from the base's. Training runs in float32, on weights that are averaged exponentially; what is judged and
kept is the average, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference.guides import flow
from inference.guides.flow import Flow, whitened
from inference.guides.flow_layers import Weights
from inference.guides.gaussian import Gaussian, ValueAndGrad
from inference.runtime.progress import Report

FLOW_DRAWS = 256  # per problem and step
EVERY = 250  # steps between looks
ROUNDS = ((500, 1e-2), (500, 5e-3), (1000, 5e-3), (2000, 3e-3))  # steps, and the largest rate among them
_WARM = 30
_DECAY = (0.9, 0.99, 0.99)  # of the gradient's mean and square, and of the averaged weights
_GAIN = 0.01  # nats per two looks below which training has nothing left to gain
# A fourth of the draws is half as wide again: the gradient of every draw vanishes where the flow fits, so
# this moves no optimum that the flow can reach, and it reaches further out into the tails.
_WIDE = (4, 1.5)
# Root mean square, in standard deviations, at which a draw's gradient in the whitened space is cut: draws in
# a funnel's neck drown the others otherwise (in 10 dimensions, 500 steps: ELBO -.02 uncut, -.002 cut).
_CLIP = 3.0
_LOOKS = 8  # batches of draws per look

Certify = Callable[[Flow], Sequence[bool] | Tensor]


@dataclass(frozen=True)
class TrainedFlow:
    """Trained flows, and how training ended.

    Attributes:
        guide: a batch (problems,) of flows.
        elbo: (problems,), in nats, on draws that were not trained on.
        converged: (problems,) whether each passed, or had nothing left to gain.
        steps: that were taken.
        skipped: (problems,) draws left out, since the target or its gradient was not finite there.
    """

    guide: Flow
    elbo: Tensor
    converged: Tensor
    steps: int
    skipped: Tensor


def train_flow(
    value_and_grad: ValueAndGrad,
    gaussian: Gaussian,
    generators: list[torch.Generator],
    report: Report,
    steps: int | None = None,
    certify: Certify | None = None,
    draws: int = FLOW_DRAWS,
) -> TrainedFlow:
    """Train one flow for each problem, in the whitened spaces of Gaussians.

    Every 250 steps the averaged flows are judged. A problem is done when ``certify`` passes it, or when two
    looks gained less than 0.01 nats or than two standard errors of the gain (on the same draws, which makes
    them small); training ends when all are done, after 4,000 steps at the latest. What was kept of a problem
    is the flow that passed, or else the one with the best ELBO.

    Args:
        value_and_grad: of the targets at (problems, draws, size), always of the same shape.
        gaussian: a batch (problems,), such as the full-rank rung's.
        generators: one for each problem.
        report: called with (rung, step, best elbo in nats) at every look.
        steps: cap on their number.
        certify: told the flows at every look, says which of them pass.
        draws: of each problem, per step.
    """
    engine = _Engine(value_and_grad, Flow.identity(gaussian, generators), generators, draws)
    judge = _Judge(engine, certify, report)
    judge.look(0)
    done, cap = 0, steps or sum(length for length, _ in ROUNDS)
    for length, rate in _rounds(cap):
        for step in range(1, length + 1):
            engine.step(rate * min(1.0, step / _WARM) * 0.5 * (1 + math.cos(math.pi * step / (length + 1))))
            done += 1
            if done % EVERY == 0 or done == cap:
                judge.look(done)
                if bool(judge.done.all()):
                    return judge.result(done)
    return judge.result(done)


def _rounds(cap: int) -> list[tuple[int, float]]:
    """Lengths and rates of the rounds, the last one cut or lengthened to end at the cap."""
    out: list[tuple[int, float]] = []
    for length, rate in ROUNDS:
        length = min(length, cap)
        cap -= length
        if length:
            out.append((length, rate))
    return [*out, (cap, ROUNDS[-1][1])] if cap else out


class _Engine:
    """The weights of all problems in one buffer, in float32, and what moves them: Adam."""

    def __init__(
        self, value_and_grad: ValueAndGrad, start: Flow, generators: list[torch.Generator], draws: int
    ) -> None:
        self.value_and_grad, self.start, self.generators, self.draws = (
            value_and_grad,
            start,
            generators,
            draws,
        )
        flat = [w.flatten(1) for layer in start.weights for w in layer.values()]
        self.sizes = [w.shape[1] for w in flat]
        self.flat = torch.cat(flat, 1).float()  # twice as fast, and as good
        masks = [layer.masks[name].flatten() for layer in start.layers for name in layer.shapes]
        self.mask = torch.cat(masks).float()
        self.mean, self.square = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.average = self.flat.clone()
        self.weights = self.views(self.flat)  # they follow the buffer
        self.steps, self.skipped = 0, torch.zeros(start.count, dtype=torch.long)

    def views(self, flat: Tensor) -> tuple[Weights, ...]:
        """The weights of each layer as parts of a buffer."""
        parts = iter(flat.split(self.sizes, 1))
        return tuple(
            {name: next(parts).unflatten(1, shape) for name, shape in layer.shapes.items()}
            for layer in self.start.layers
        )

    def flow(self) -> Flow:
        """The flows of the averaged weights."""
        weights = self.views(self.average.double())
        return Flow(self.start.gaussian, self.start.layers, weights)

    def step(self, rate: float) -> None:
        """One step of Adam along the gradient at fresh draws."""
        first, second, slow = _DECAY
        self.steps += 1
        grad = self._gradient()
        self.mean.lerp_(grad, 1 - first)
        self.square.mul_(second).addcmul_(grad, grad, value=1 - second)
        spread = self.square.div(1 - second**self.steps).sqrt_().add_(1e-8)
        self.flat.addcdiv_(self.mean, spread, value=rate / (1 - first**self.steps))
        self.average.lerp_(self.flat, max(1 - slow, 1 / self.steps))

    def _gradient(self) -> Tensor:
        """Of the mean over draws of log p - log q, the score's dependence on the weights left out."""
        layers, gaussian = self.start.layers, self.start.gaussian
        e = self._noise()
        x, seen = e, list[Any]()
        for layer, weights in zip(layers, self.weights, strict=True):
            x, _, left = layer.forward(weights, x)
            seen.append(left)
        value, grad = self.value_and_grad(gaussian.scaled(x.double().mT))
        toward = whitened(gaussian, grad.mT).float() - self._score(seen, -e)
        toward = self._finite(toward, value).div_(self.draws)
        grads: list[Tensor] = []
        for layer, left in zip(reversed(layers), reversed(seen), strict=True):
            toward, inside = layer.pull(left, toward)
            grads[:0] = [inside[name].flatten(1) for name in layer.shapes]
        flat = torch.cat(grads, 1).mul_(self.mask)
        return flat if bool(torch.isfinite(flat.sum())) else flat.nan_to_num_(0.0, 0.0, 0.0)

    def _noise(self) -> Tensor:
        shape = (self.start.size, self.draws)
        e = torch.stack([torch.randn(shape, generator=g, dtype=torch.float32) for g in self.generators])
        e[:, :, : self.draws // _WIDE[0]] *= _WIDE[1]
        return e

    def _score(self, seen: list[Any], score: Tensor) -> Tensor:
        for layer, left in zip(self.start.layers, seen, strict=True):
            score = layer.push(left, score)
        return score

    def _finite(self, toward: Tensor, value: Tensor) -> Tensor:
        """Long gradients are shortened; draws at which anything is not finite are left out, and counted."""
        longest = _CLIP * math.sqrt(self.start.size)
        toward = toward * (longest / toward.norm(dim=1, keepdim=True)).clamp_(max=1.0)
        if bool(torch.isfinite(toward.sum() + value.sum())):
            return toward
        wrong = ~(torch.isfinite(toward).all(1) & torch.isfinite(value))
        self.skipped += wrong.sum(1)
        return toward.masked_fill_(wrong[:, None], 0.0)


class _Judge:
    """Looks at the averaged flows now and then, keeps the best, and says when to stop."""

    def __init__(self, engine: _Engine, certify: Certify | None, report: Report) -> None:
        self.engine, self.certify, self.report = engine, certify, report
        count = engine.start.count
        self.done = torch.zeros(count, dtype=torch.bool)
        self.best = engine.start
        self.elbo = torch.full((count,), -math.inf, dtype=torch.float64)
        self.rows: list[Tensor] = []  # log weights (problems, draws) at each look
        size, draws = engine.start.size, engine.draws * _LOOKS
        self.e = torch.stack(
            [torch.randn(draws, size, generator=g, dtype=torch.float64) for g in engine.generators]
        )

    def look(self, step: int) -> None:
        """Judge the flows after so many steps."""
        now = self.engine.flow()
        log_w = self._log_weights(now)
        elbo = log_w.mean(1)
        passed = torch.zeros_like(self.done)
        if self.certify is not None and step:
            passed = torch.as_tensor(self.certify(now), dtype=torch.bool)
        better = ~self.done & (passed | (elbo > self.elbo))
        rows = better.nonzero().squeeze(-1)
        self.best = self.best.put(rows, now.of(rows))
        self.elbo[rows] = elbo[rows]
        self.rows.append(log_w)
        self.done |= passed
        if len(self.rows) > 3:
            self.done |= self._still(self.rows[-1] - self.rows[-3])
        self.report(flow.NAME, step, float(self.elbo.max()))

    def _still(self, gain: Tensor) -> Tensor:
        error = gain.std(1) / math.sqrt(gain.shape[1])
        return gain.mean(1) < (2 * error).clamp(min=_GAIN)

    def _log_weights(self, flows: Flow) -> Tensor:
        """Log p - log q at the judge's draws, in batches of the shape that the targets are used to."""
        out = []
        for e in self.e.split(self.engine.draws, 1):
            z, log_det = flows.forward(e)
            value, _ = self.engine.value_and_grad(z)
            out.append(value - flows.base_log_prob(e) + log_det)
        return torch.cat(out, 1).nan_to_num(-torch.inf, -torch.inf, -torch.inf)

    def result(self, steps: int) -> TrainedFlow:
        """What is kept."""
        return TrainedFlow(self.best, self.elbo, self.done, steps, self.engine.skipped)
