"""Fitted families as named tensors, and back: what a saved posterior holds of its guide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from inference.guides.flow import Flow, Layer
from inference.guides.flow_layers import Autoregressive
from inference.guides.flow_warp import Warp
from inference.guides.gaussian import Gaussian
from inference.guides.mixture import Mixture

Family = Gaussian | Mixture | Flow


def to_tensors(family: Any) -> dict[str, Tensor]:
    """A family's tensors by name; none for what is no family of ours.

    Example:
        >>> unit = Gaussian(torch.zeros(2), torch.eye(2))
        >>> sorted(to_tensors(unit)), from_tensors(to_tensors(unit)).size
        (['loc', 'scale'], 2)
    """
    if isinstance(family, Gaussian):
        return {"loc": family.loc, "scale": family.scale}
    if isinstance(family, Mixture):
        return {**to_tensors(family.parts), "log_weight": family.log_weight}
    if not isinstance(family, Flow):
        return {}
    out = to_tensors(family.gaussian)
    for number, (layer, weights) in enumerate(zip(family.layers, family.weights, strict=True)):
        out.update({f"layer/{number}/{name}": weight for name, weight in weights.items()})
        if isinstance(layer, Autoregressive):
            out[f"layer/{number}/order"] = torch.tensor(layer.order)
            out[f"layer/{number}/edges"] = torch.tensor(layer.edges)
    return out


def from_tensors(tensors: Mapping[str, Tensor]) -> Family | None:
    """The family that :func:`to_tensors` took apart; ``None`` from no tensors."""
    if "loc" not in tensors:
        return None
    gaussian = Gaussian(tensors["loc"], tensors["scale"])
    if "log_weight" in tensors:
        return Mixture(gaussian, tensors["log_weight"], torch.tensor(0.5))
    numbers = sorted({int(name.split("/")[1]) for name in tensors if name.startswith("layer/")})
    if not numbers:
        return gaussian
    layers, weights = [], []
    for number in numbers:
        prefix = f"layer/{number}/"
        held = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        layer = _layer(held)
        layers.append(layer)
        weights.append({name: held[name] for name in layer.shapes})
    return Flow(gaussian, tuple(layers), tuple(weights))


def _layer(held: Mapping[str, Tensor]) -> Layer:
    if "tail" in held:
        return Warp(held["tail"].shape[1])
    order, edges = (tuple(held[name].tolist()) for name in ("order", "edges"))
    return Autoregressive(order, edges, held["inner"].shape[1])
