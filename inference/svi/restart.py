"""One restart of SVI: copies of the story and the guide in a room of their own, ready to be stepped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from inference.density.log_density import LogDensity
from inference.density.problems import Replicates
from inference.guides.gaussian import Gaussian
from inference.guides.lbfgs import climb
from inference.guides.starts import elbos, overdispersed
from inference.story.construct import guide_of, is_autoguide_class
from inference.story.parameters import local_parameters, named_parameters
from inference.story.programs import counterparts, own_copy
from inference.svi import autoguides, schedule
from inference.svi.conditioned import Conditioned
from inference.svi.losses import ElboLoss, SampleLoss
from inference.svi.minibatch import Rows
from inference.svi.objective import prepare
from inference.svi.optimizers import NETWORK_RATE, RATE, choose_optimizer, is_network
from inference.svi.request import Request
from inference.svi.schedule import Cooldown, Halving, Schedule
from inference.svi.step import Stepper
from inference.svi.target import Target

_Result = TypeVar("_Result")


@dataclass
class Restart:
    """What one restart consists of.

    Attributes:
        model: the conditioned story.
        guide: its guide, if it needs one.
        objective: what is descended.
        params: the tensors that are trained, with their names.
        stepper, rule: what makes the steps, and what paces and ends them; ``None`` without parameters.
    """

    model: Conditioned
    guide: Any
    objective: ElboLoss | SampleLoss
    params: Mapping[Tensor, str]
    stepper: Stepper | None = None
    rule: Schedule | None = None

    @property
    def running(self) -> tuple[Stepper, Schedule]:
        """What makes and paces the steps, where there is something to train."""
        return cast(Stepper, self.stepper), cast(Schedule, self.rule)

    def training(self, on: bool) -> None:
        """Tell modules whether they are being trained."""
        for program in (self.model.story, self.guide):
            if isinstance(program, torch.nn.Module):
                program.train(on)

    def aside(self, look: Callable[[], _Result]) -> _Result:
        """Do something between steps, with modules that are not being trained."""
        self.training(False)
        try:
            return look()
        finally:
            self.training(True)


@contextmanager
def restarted(target: Target, rows: Rows, request: Request, seed: int) -> Iterator[Restart]:
    """Construct or copy story and guide, check them, and make what steps them; in a room of their own.

    Args:
        target: the story, its data, and what becomes of every site.
        rows: all of them, and batches.
        request: of the caller.
        seed: of networks, starts, batches and noise.
    """
    auto = is_autoguide_class(request.guide) and target.size and not request.by_samples
    start = _start(target.density, seed) if auto else {}
    call = rows.structure.call
    story = call.story if request.make is None else request.make(seed)
    with call.room(seed), torch.enable_grad(), _on(request.device):
        model = Conditioned(own_copy(story, call.dtype, request.device), target, rows.all.to(request.device))
        guide = _own_guide(request, model, start, seed) if _guided(request, target) else None
        with local_parameters(model.story, guide):
            objective = prepare(request, model, guide, rows)
            one = Restart(model, guide, objective, named_parameters(model.story, guide))
            if one.params:
                one.stepper, one.rule = _engine(one, rows, request)
            yield one


@contextmanager
def _on(device: torch.device | None) -> Iterator[None]:
    """Create tensors on a device; ``None`` leaves them where they are created."""
    if device is None:
        yield
    else:
        with device:
            yield


def _guided(request: Request, target: Target) -> bool:
    """Whether a guide takes part: for continuous unknowns, or discrete ones that a program may draw."""
    automatic = isinstance(request.guide, str | AutoGuide) or is_autoguide_class(request.guide)
    return not request.by_samples and bool(target.names or (target.plan.summed and not automatic))


def _own_guide(request: Request, model: Conditioned, start: Mapping[str, Tensor], seed: int) -> Any:
    """The guide of one restart: constructed from the story, or a copy."""
    if is_autoguide_class(request.guide):
        return autoguides.from_class(request.guide, model.story, model.hidden, start)
    if isinstance(request.guide, AutoGuide):
        return autoguides.conditioned_copy(request.guide, model.hidden)
    made = guide_of(request.guide, model.story, seed + 1)
    dtype = torch.get_default_dtype()
    if made is not request.guide:
        return made.to(request.device, dtype) if isinstance(made, torch.nn.Module) else made
    return own_copy(made, dtype, request.device, counterparts(request.origin, model.story))


def _engine(one: Restart, rows: Rows, request: Request) -> tuple[Stepper, Schedule]:
    """What makes the steps, and the rule that paces and ends them."""
    objective, params = one.objective, one.params
    network = is_network(one.model.story) or is_network(one.guide)
    rate = NETWORK_RATE if network else RATE
    total = request.steps or schedule.cap(network, rows.per_epoch)
    optimizer = choose_optimizer(request.svi.optim, rate)(list(params), params)
    climber = None
    if objective.adversary is not None:
        theirs: dict[Tensor, str] = {p: n for n, p in objective.adversary.named_parameters()}
        climber = choose_optimizer(request.svi.optim, rate, maximize=True)(list(theirs), theirs)
    count = rows.plate.size if rows.plate is not None else 1
    rule: Schedule
    if network or request.steps is not None or climber is not None:
        rule = Cooldown(
            optimizer, total, given=request.steps is not None, rows=1 if request.by_samples else count,
            judged=climber is None,
        )  # fmt: skip
    else:
        rule = Halving(optimizer, list(params), total)
    return Stepper(objective, one.model, list(params), optimizer, climber, total, one.guide), rule


def _start(density: LogDensity, seed: int) -> dict[str, Tensor]:
    """Starting values of the unknown sites: an overdispersed point, or the mode above it.

    A mode is taken only if a narrow Gaussian there has the better ELBO: the modes of hierarchical stories
    are degenerate.
    """
    generator = torch.Generator().manual_seed(seed)
    one = Replicates(density, 1)
    point = overdispersed(one, 1, [generator])
    both = torch.cat([point, climb(one, point).points], 1)
    e = torch.randn(1, 32, density.size, generator=generator, dtype=torch.float64)
    narrow = Gaussian(both, torch.full_like(both, 0.1))
    chosen = both[:, int(elbos(one, narrow, e)[0].argmax())]
    return {n: v[0] for n, v in density.constrain(chosen).items() if n in density.names}
