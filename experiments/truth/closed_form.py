"""Draws of a story's closed-form posterior: the control of everything that judges draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def closed_form(
    exact: Callable[..., Mapping[str, Any]],
    sites: Sequence[str],
    args: tuple[Any, ...] = (),
    *,
    draws: int = 199,
    seed: int = 0,
) -> Callable[[Sequence[Mapping[str, Tensor]]], dict[str, Tensor]]:
    """Return a function from data sets to independent draws of their exact posteriors.

    Parameters
    ----------
    exact
        A story's closed form, ``exact(data, *args, given=...)`` -> site -> distribution.
    sites
        All latent sites, in an order in which each has a closed form given those before it.
    args
        What the story is called with.
    draws, seed
        Draws of each posterior; of the draws, the global random state is not touched.

    Returns
    -------
    Callable
        Data sets -> site -> (data sets, draws, *site shape), as
        :func:`experiments.compare.sbc.calibration` takes for a ``fitter``.

    Examples
    --------
    >>> from ppl_models.two_causes import EXAMPLE, exact
    >>> args, data = EXAMPLE
    >>> closed_form(exact, ["first", "second"], args, draws=5)([data, data])["second"].shape
    torch.Size([2, 5])
    """

    def drawn(data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given: dict[str, Tensor] = {}
        for site in sites:
            law = exact(data, *args, given=given)[site]
            batched = given and law.batch_shape[:1] == (draws,)  # one law for every draw of those before
            given[site] = law.sample(() if batched else (draws,))
        return given

    def fitter(data: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = [drawn(one) for one in data]
        return {site: torch.stack([one[site] for one in found]) for site in sites}

    return fitter
