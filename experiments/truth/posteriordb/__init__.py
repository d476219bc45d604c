"""Posteriors of posteriordb: stories by hand, data, and reference draws that others made and checked.

The data are not part of this project. The environment variable PDB_PATH names the database's folder
``posterior_database`` (github.com/stan-dev/posteriordb, or an excerpt of it); without it every call here is a
ValueError that says so, and tests skip.

- One story per distinct likelihood and prior, one per file of ``stories``, found by scanning. Priors are
  those of the Stan program, to the letter: a parameter without a prior statement is ``ImproperUniform``.
  Sites bear the names of Stan's parameters and transformed parameters.
- Linear regressions share three stories; :mod:`~experiments.truth.posteriordb.columns` says which columns and
  which response each of the Stan programs takes.

Source: Magnusson et al. (2024), posteriordb: Testing, benchmarking and developing Bayesian inference
algorithms, arXiv:2407.04967.

Examples
--------
>>> from experiments.truth import posteriordb
>>> from inference import fit
>>> known = posteriordb.load("nes1980-nes")                                # doctest: +SKIP
>>> posterior = fit(known.story, known.data, known.args, known.kwargs)     # doctest: +SKIP
>>> ours = posteriordb.scalars(known.quantities(posterior.draws))          # doctest: +SKIP
>>> theirs = posteriordb.scalars(known.reference)                          # doctest: +SKIP
>>> {name: (ours[name].mean() - draws.mean()) / draws.std()                # doctest: +SKIP
...  for name, draws in theirs.items()}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor

from experiments.compare import found
from experiments.truth.posteriordb import archive, stories


@dataclass(frozen=True)
class Known:
    """A posterior whose draws are known, ready for ``inference.fit(story, data, args, kwargs)``.

    Parameters
    ----------
    name
        As in the database, ``<data>-<model>``.
    story
        The Pyro program; nothing is observed inside.
    args, kwargs
        What the story is called with: covariates, sizes. Floating-point tensors are float64.
    data
        Site name -> tensor, what was seen.
    reference
        Quantity -> (draws, *shape), float64, 10 chains of 1,000 draws joined: all parameters (and
        transformed parameters, where the database keeps those) under their Stan names, ``beta`` (10000, 4)
        for ``beta[1]`` to ``beta[4]``.
    """

    name: str
    story: Callable[..., Any]
    args: tuple[Any, ...]
    data: Mapping[str, Tensor]
    reference: Mapping[str, Tensor]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def quantities(self, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring fitted draws to the names and shapes of ``reference``.

        Parameters
        ----------
        draws
            ``posterior.draws``: site -> (restart, draw, *site shape).

        Returns
        -------
        dict[str, Tensor]
            Quantity -> (restarts * draws, *shape), float64, for every quantity of the reference.

        Raises
        ------
        ValueError
            If a quantity of the reference is missing, or has another shape.
        """
        merged = {}
        for name, theirs in self.reference.items():
            if name not in draws:
                raise ValueError(
                    f"draws: expected the quantities of {self.name}, {', '.join(self.reference)}, got "
                    f"{', '.join(draws)}: {name} is missing"
                )
            if draws[name].shape[2:] != theirs.shape[1:]:
                raise ValueError(
                    f"draws: expected {name} of shape (restart, draw, *{tuple(theirs.shape[1:])}), got "
                    f"{tuple(draws[name].shape)}"
                )
            merged[name] = draws[name].flatten(0, 1).double()
        return merged


def names() -> list[str]:
    """Return the names of all posteriors for which there are reference draws and a story, sorted.

    Raises
    ------
    ValueError
        If PDB_PATH does not lead to the database.
    """
    told = _told()
    return sorted(name for name, model, _ in archive.posteriors() if model in told)


def load(name: str) -> Known:
    """Return a posterior with its story, its data and its reference draws.

    Parameters
    ----------
    name
        One of :func:`names`.

    Raises
    ------
    ValueError
        If PDB_PATH does not lead to the database, or there is no such posterior.
    """
    rows = {row[0]: row[1:] for row in archive.posteriors()}
    told = _told()
    if name not in rows or rows[name][0] not in told:
        raise ValueError(f"name: expected one of {', '.join(names())}, got {name!r}")
    model, data = rows[name]
    module = told[model]
    story = getattr(module, module.__name__.rpartition(".")[2])
    args, observed = module.posed(model, archive.data(data))
    return Known(name, story, args, observed, archive.reference(name))


def scalars(quantities: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split quantities into their elements, named as Stan does.

    Parameters
    ----------
    quantities
        Name -> (draws, *shape), such as ``reference``.

    Returns
    -------
    dict[str, Tensor]
        Name -> (draws,): ``sigma`` stays, ``beta`` (draws, 2) becomes ``beta[1]`` and ``beta[2]``.

    Examples
    --------
    >>> import torch
    >>> {name: v.tolist() for name, v in scalars({"beta": torch.tensor([[3.0, 5.0]])}).items()}
    {'beta[1]': [3.0], 'beta[2]': [5.0]}
    """
    split = {}
    for name, values in quantities.items():
        if values.dim() == 1:
            split[name] = values
        for k, column in enumerate(values.flatten(1).unbind(1) if values.dim() > 1 else ()):
            split[f"{name}[{k + 1}]"] = column
    return split


def _told() -> dict[str, ModuleType]:
    """Stan program -> the module whose story tells it."""
    modules = [found.part(stories, name, "name") for name in found.names(stories)]
    return {model: module for module in modules for model in module.STAN}
