"""What SVI descends: Pyro's ELBOs, or any loss on samples for stories without a likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from typing import Any

import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.elbo import ELBO
from pyro.infer.traceenum_elbo import _compute_dice_elbo
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.story.call import story_name

Program = Callable[[], Any]

REFUSAL = (
    "The story was trained by a loss on samples ({}), not by its likelihood, which it may not even have: "
    "nothing here says how probable the data are under it, and no weight can certify it. Compare samples "
    "with held-out data instead (a two-sample test, covered modes)."
)


def on_samples(loss: Any) -> bool:
    """Whether this is a loss on (samples, data), and no ELBO."""
    return callable(loss) and not isinstance(loss, type | ELBO)


def choose_loss(loss: Any, enumerates: bool, nesting: int, *, analytic: bool = False) -> ELBO:
    """Return the ELBO to use: the user's, or one of Pyro's that suits.

    Args:
        loss: a Pyro ELBO instance, or ``None``.
        enumerates: whether discrete sites are summed out, in the story or by the guide.
        nesting: largest number of nested plates in the story.
        analytic: whether ``TraceMeanField_ELBO``, with its Kullback-Leibler terms in closed form and so
            with less noise, is exact for the guide; see :func:`analytic`.

    Raises:
        ValueError: for anything else, or an ELBO that does not sum discrete sites out where that is
            needed.
    """
    if loss is None:
        if enumerates:
            return TraceEnum_ELBO(max_plate_nesting=nesting, strict_enumeration_warning=False)
        return TraceMeanField_ELBO() if analytic else Trace_ELBO()
    name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
    if not isinstance(loss, ELBO) or name.startswith("Jit"):
        raise ValueError(
            f"loss: expected None, an instance of a Pyro ELBO such as Trace_ELBO(num_particles=4), not a "
            f"Jit one, or a function of (samples, data), got {name}."
        )
    if enumerates and not isinstance(loss, TraceEnum_ELBO):
        raise ValueError(
            f"loss: the story has discrete sites that are summed out, expected TraceEnum_ELBO, got {name}."
        )
    loss = copy(loss)
    if loss.max_plate_nesting == math.inf:
        loss.max_plate_nesting = nesting
    return loss


def analytic(model: Any, guide: Any) -> bool:
    """Whether ``TraceMeanField_ELBO`` is exact for these two runs.

    Its closed forms hold term by term if the guide draws its sites in the story's order, each with a
    reparametrized gradient; other guides get ``Trace_ELBO``.

    Args:
        model, guide: traces of the story and of the guide.
    """
    drawn = [n for n, m in guide.nodes.items() if _draws(m)]
    latent = [n for n, m in model.nodes.items() if _draws(m)]
    smooth = all(guide.nodes[n]["fn"].has_rsample for n in drawn)
    return bool(drawn) and smooth and drawn == latent


def _draws(msg: Any) -> bool:
    return msg["type"] == "sample" and not msg["is_observed"] and type(msg["fn"]).__name__ != "_Subsample"


class ElboLoss:
    """A Pyro ELBO of a story and a guide, as something to differentiate.

    Pyro's own ``differentiable_loss`` reads numbers out and warns of NaN on the way, which a traced step
    cannot; the sums are the same.

    Args:
        elbo: of Pyro's.
        model, guide: programs without arguments.
    """

    adversary: torch.nn.Module | None = None
    no_gradient = (
        "loss: the ELBO has no gradient. Something must be trained: pyro.param in the guide or the story, or "
        "a PyroModule with parameters."
    )

    def __init__(self, elbo: Any, model: Program, guide: Program) -> None:
        self.elbo, self.model, self.guide = elbo, model, guide
        self.particle: Any = getattr(elbo, "_differentiable_loss_particle", None)
        self.smooth = isinstance(elbo, TraceEnum_ELBO) or self.particle is not None

    def __call__(self) -> Tensor:
        """The loss, in nats, differentiable."""
        total: Any = 0.0
        for model, guide in self.elbo._get_traces(self.model, self.guide, (), {}):
            if isinstance(self.elbo, TraceEnum_ELBO):
                loss = surrogate = -_compute_dice_elbo(model, guide)
            else:
                loss, surrogate = self.particle(model, guide)
            total = total + (loss + (surrogate - torch.as_tensor(surrogate).detach()))
        return torch.as_tensor(total) / self.elbo.num_particles

    def evaluate(self) -> float:
        """The loss, in nats, without gradients."""
        with torch.no_grad():
            return float(self() if self.smooth else self.elbo.loss(self.model, self.guide))

    def backward(self) -> Tensor:
        """For ELBOs that differentiate themselves: fill the parameters' ``grad``; return the loss."""
        return torch.tensor(float(self.elbo.loss_and_grads(self.model, self.guide)))


class SampleLoss:
    """A loss on (samples, data) of a story that is run forward.

    The sites that others of the data depend on (the labels of a conditional story) are taken from the data;
    their own log probability, averaged over rows, is added, so that the parameters of their distribution are
    trained too. A loss that is a module with parameters is an adversary: they climb.

    Args:
        loss: ``(samples, data) -> scalar``; ``samples`` maps every site to its value.
        forward: runs the story; returns its trace.
        given: sites that are taken from the data.
        data: returns the batch's values.
    """

    smooth = True
    no_gradient = (
        "loss: it has no gradient with respect to the story's parameters. The story must have some, and the "
        "sites that the loss reads must be reparametrized (continuous; a Delta of a network's output, say)."
    )

    def __init__(
        self,
        loss: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor],
        forward: Callable[[], Any],
        given: tuple[str, ...],
        data: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        self.loss, self.forward, self.given, self.data = loss, forward, given, data
        self.adversary = loss if isinstance(loss, torch.nn.Module) and list(loss.parameters()) else None

    def samples(self) -> tuple[dict[str, Tensor], Tensor]:
        """Run the story; return its values and the mean negative log probability of the given sites."""
        run = self.forward()
        nodes = {n: m for n, m in run.nodes.items() if m["type"] == "sample" and _is_value(m)}
        extra: Any = torch.zeros(())
        for name in self.given:
            log_p = nodes[name]["fn"].log_prob(nodes[name]["value"])
            extra = extra - log_p.mean()
        return {n: m["value"] for n, m in nodes.items()}, extra

    def value(self, samples: Mapping[str, Tensor]) -> Tensor:
        """The user's loss, checked to be one number.

        Raises:
            ValueError: for anything else.
        """
        value = self.loss(samples, dict(self.data()))
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"loss: expected a function of (samples, data) that returns one number as a tensor, got "
                f"{got}. Take a mean over rows."
            )
        return value.reshape(())

    def __call__(self) -> Tensor:
        """The loss, differentiable."""
        samples, extra = self.samples()
        return self.value(samples) + extra

    def evaluate(self) -> float:
        """The loss without gradients."""
        with torch.no_grad():
            return float(self())

    def backward(self) -> Tensor:
        """Never needed: the loss is differentiated by calling it."""
        raise TypeError("a loss on samples is differentiated by calling it")


def _is_value(msg: Any) -> bool:
    return isinstance(msg["value"], Tensor) and type(msg["fn"]).__name__ not in ("_Subsample", "Unit")


def own_loss(loss: Any, dtype: torch.dtype, device: torch.device | None) -> Any:
    """A copy of an adversary for one restart, to be trained; other losses as they are."""
    return deepcopy(loss).to(device, dtype).train() if isinstance(loss, torch.nn.Module) else loss


def refusal(loss: Any) -> str:
    """Why a story that was trained by a loss on samples has no log density."""
    return REFUSAL.format(story_name(getattr(loss, "func", loss)))


def row_weighted(loss: Any) -> bool:
    """Whether a loss is no sum over rows, so that a batch's scale belongs outside of it."""
    return isinstance(getattr(loss, "elbo", loss), RenyiELBO)


class WarmUp(Messenger):
    """Scale the density of latent sites by a factor that rises to one.

    In the story and in the guide alike, so that the Kullback-Leibler part of the ELBO is scaled, local and
    global, and the data are not (Bowman et al. 2016; Sonderby et al. 2016).
    """

    def __init__(self, names: tuple[str, ...], factor: Any) -> None:
        super().__init__()
        self.names, self.factor = names, factor

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names and not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.factor
