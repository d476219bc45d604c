"""Sum discrete sites out of a run's density, exactly: in total, or row by row.

This is tensor variable elimination (Obermeyer, Bingham, Jankowiak, Chiu, Pradhan, Rush and Goodman
2019, "Tensor Variable Elimination for Plated Factor Graphs"), by Pyro's own contraction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from opt_einsum import shared_intermediates
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree, contract_to_tensor
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from inference.density.log_einsum import Ring
from inference.story.structure import Plate


def _factors(trace: Any, names: Collection[str] | None) -> list[Any]:
    """The sample sites of a trace that count, with their log densities computed."""
    sites = [
        site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site) and (names is None or name in names)
    ]
    kept = {site["name"] for site in sites}
    trace.compute_log_prob(lambda name, site: name in kept)
    return sites


def _ordinal(trace: Any, site: Any) -> frozenset[str]:
    """Packed symbols of the plates a site lies in; plates of size one are squeezed away."""
    return frozenset(
        trace.plate_to_symbol[f.name] for f in site["cond_indep_stack"] if f.vectorized and f.size > 1
    )


def total_log_prob(trace: Any) -> Tensor:
    """Log joint density of a run, discrete sites summed out, scales applied; a scalar, in nats.

    Raises:
        ValueError: if sites that share a summed-out variable are scaled differently.
    """
    sites = _factors(trace, None)
    if not any("_enumerate_dim" in site["infer"] for site in sites):
        return torch.stack([site["log_prob_sum"].double() for site in sites]).sum()
    tree, dims, plain, scales = _plated_factors(trace, sites)
    total = torch.stack([site["log_prob_sum"].double() for site in plain]).sum() if plain else 0.0
    if not tree:  # every site that was summed out has one value
        return torch.as_tensor(total)
    if len(scales) > 1:
        raise ValueError(
            f"story: expected one common scale for the sites around a summed-out discrete site, got "
            f"{sorted(scales)}. Scale them together."
        )
    floor = max(_floor(term) for terms in tree.values() for term in terms)
    for terms in tree.values():
        terms[:] = [_floored(term, floor) for term in terms]
    with shared_intermediates() as cache:
        log_z = contract_to_tensor(tree, dims, ring=Ring(cache))
    log_z = torch.where(log_z < floor / 2, -torch.inf, log_z)
    return total + log_z * (scales.pop() if scales else 1.0)


def log_sum(terms: Tensor) -> Tensor:
    """Log of the sum of exponentials along the first axis; its gradient stays finite where terms are -inf.

    Example:
        >>> log_sum(torch.tensor([0.0, -torch.inf, 0.0]))
        tensor(0.6931)
    """
    floor = _floor(terms)
    total = terms.clamp(min=floor).logsumexp(0)
    return torch.where(total < floor / 2, -torch.inf, total)


def _floor(term: Tensor) -> float:
    return -1e100 if term.dtype == torch.float64 else -1e30


def _floored(term: Tensor, floor: float) -> Tensor:
    """A factor in which the impossible is finite: the gradient of a sum with log 0 in it would be NaN."""
    floored: Any = term.clamp(min=floor)
    floored._pyro_dims = cast(Any, term)._pyro_dims
    return cast(Tensor, floored)


def _plated_factors(
    trace: Any, sites: list[Any]
) -> tuple[OrderedDict[frozenset[str], list[Tensor]], set[str], list[Any], set[float]]:
    """Split a run's factors into those that touch a summed-out dimension and the others."""
    trace.pack_tensors()
    dims = set(trace.symbol_to_dim) - set(trace.plate_to_symbol.values())
    tree: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    plain, scales = [], set()
    for site in sites:
        term = packed.scale_and_mask(site["packed"]["unscaled_log_prob"], mask=site["packed"]["mask"])
        if dims.isdisjoint(site["packed"]["unscaled_log_prob"]._pyro_dims):
            plain.append(site)
        else:
            tree.setdefault(_ordinal(trace, site), []).append(term)
            scales.add(float(site["scale"]))
    return tree, dims, plain, scales


def row_log_prob(trace: Any, names: Collection[str], rows: Sequence[Plate]) -> Tensor:
    """Log density of the named sites, one number per row, everything else in the run held fixed.

    Args:
        trace: of a run under enumeration.
        names: the sites that count; enumerated ones among them are summed out.
        rows: the plates to keep, outermost first; all other plates are multiplied over.

    Returns:
        Tensor of shape (rows[0].size, rows[1].size, ...), in nats.
    """
    sites = _factors(trace, names)
    shape = [plate.size for plate in rows]
    if not any("_enumerate_dim" in site["infer"] for site in sites):
        parts = [_to_rows(_unscaled(site), rows, site) for site in sites]
    else:
        tree, dims, plain, _ = _plated_factors(trace, sites)
        parts = [_to_rows(_unscaled(site), rows, site) for site in plain]
        keep = {trace.plate_to_symbol[p.name] for p in rows if p.size > 1}
        with shared_intermediates() as cache:
            ring = Ring(cache)
            for ordinal, terms in contract_tensor_tree(tree, dims, ring=ring).items():
                for term in terms:
                    term = ring.product(term, ordinal - keep)
                    parts.append(_to_rows(packed.unpack(term, trace.symbol_to_dim), rows))
    return torch.stack([part.expand(shape) for part in parts]).sum(0)


def table(trace: Any, names: Collection[str], target: str) -> Tensor:
    """Log conditional probabilities of an enumerated site given everything held fixed in the run.

    Returns:
        Tensor of shape (*site shape, categories), in nats; each row sums to one in probability.
    """
    sites = _factors(trace, names)
    tree, dims, _, _ = _plated_factors(trace, sites)
    site = trace.nodes[target]
    symbol = site["infer"]["_enumerate_symbol"]
    with shared_intermediates() as cache:
        log_p = contract_to_tensor(
            tree, dims, target_ordinal=_ordinal(trace, site), target_dims={symbol}, ring=Ring(cache)
        )
    log_p = packed.unpack(log_p, trace.symbol_to_dim)
    frames = [f for f in site["cond_indep_stack"] if f.vectorized]
    plates = [Plate(f.name, f.dim, f.size) for f in sorted(frames, key=lambda f: f.dim)]
    categories = site["value"].shape[site["infer"]["_enumerate_dim"]]
    log_p = log_p.reshape((1,) * max(0, -site["infer"]["_enumerate_dim"] - log_p.dim()) + log_p.shape)
    log_p = torch.movedim(log_p, site["infer"]["_enumerate_dim"], -1)
    columns = [_to_rows(column, plates) for column in log_p.unbind(-1)]
    log_p = torch.stack([c.expand([p.size for p in plates]) for c in columns], -1)
    if log_p.shape[-1] != categories:
        raise RuntimeError(f"site {target!r}: lost its categories in contraction")
    return log_p.log_softmax(-1)


def _unscaled(site: Any) -> Tensor:
    log_p, mask = site["unscaled_log_prob"], site["mask"]
    if isinstance(mask, Tensor):
        return torch.where(mask, log_p, torch.zeros_like(log_p))
    return torch.zeros_like(log_p) if mask is False else log_p


def _to_rows(value: Tensor, rows: Sequence[Plate], site: Any = None) -> Tensor:
    """Sum a tensor in plate dimensions down to the given plates, outermost first.

    A site may lie in another plate at the same dimension as one of the rows': that is summed too.
    """
    own = {p.name for p in rows} if site is None else {f.name for f in site["cond_indep_stack"]}
    keep = {plate.dim for plate in rows if plate.name in own}
    others = [d for d in range(-value.dim(), 0) if d not in keep]
    value = value.double()  # a story may close over float32 alone
    if others:
        value = value.sum(others, keepdim=True)
    if rows:
        deepest = -rows[0].dim
        value = value.reshape((1,) * max(0, deepest - value.dim()) + value.shape)
    index = [d % value.dim() for d in sorted(plate.dim for plate in rows)] if value.dim() else []
    return value.permute(index + [d for d in range(value.dim()) if d not in index]).reshape(
        [value.shape[d] for d in index]
    )
