"""The run in which a story is looked at: data are checked there, and every site gets a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from inference.bijections import bijection
from inference.evidence import BeyondCountError, Evidence, fit_to_site
from inference.marks import Reads, unmarked


class Prototype(Messenger):
    """Hand out checked evidence, and values where a distribution cannot be sampled."""

    def __init__(self, evidence: Mapping[str, Evidence], argument: str, override: bool) -> None:
        super().__init__()
        self.evidence, self.argument, self.override = evidence, argument, override
        self.checked: dict[str, Evidence] = {}
        self.counts: set[str] = set()  # discrete sites without data
        self.doubts: dict[str, BeyondCountError] = {}  # data beyond bounds that may depend on those
        self.reads, self.control = Reads(), dict[str, frozenset[str]]()

    def _pyro_sample(self, msg: Any) -> None:
        before = self.reads.names
        # Tracking keeps of a value that the story observes itself no marks but its own name.
        self.control[msg["name"]] = before | (get_provenance(msg["value"]) if msg["is_observed"] else set())
        self._supply(msg)
        self.reads.names = before  # what drawing a value reads is no choice of the story's

    def _supply(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, fn = msg["name"], msg["fn"]
        if msg["is_observed"] and not (self.override and name in self.evidence):
            if name in self.evidence:
                raise ValueError(
                    f"{self.argument}[{name!r}]: the story observes this site itself (obs=), expected "
                    f"it to be left to one of the two. Drop it from {self.argument}, or remove obs=."
                )
            return
        sample = _sample(fn)
        if name in self.evidence:
            try:
                checked = fit_to_site(name, self.evidence[name], fn, sample, self.argument, self.counts)
            except BeyondCountError as error:
                self.doubts[name], checked = error, error.evidence
            self.checked[name] = checked
            sample = checked.value
        elif _counts(fn):
            self.counts.add(name)
        msg["value"], msg["done"] = sample, True

    def still(self, doubts: Mapping[str, BeyondCountError]) -> dict[str, BeyondCountError]:
        """Those of another run's doubts that this run has, too, about the same bounds."""
        return {name: one for name, one in doubts.items() if one.same_as(self.doubts.get(name))}

    def _pyro_param(self, msg: Any) -> None:
        if len(msg["args"]) > 1 and type(msg["args"][1]) is Tensor:  # Pyro would make it require gradients
            msg["args"] = (msg["args"][0], msg["args"][1].detach().clone(), *msg["args"][2:])


def _counts(fn: Any) -> bool:
    try:
        return bool(fn.support.is_discrete)
    except NotImplementedError:  # a user's own, which does not say
        return False


def _sample(fn: Any) -> Tensor:
    try:
        with torch.no_grad():
            return detach_provenance(unmarked(fn).sample())  # marks would slow long loops tenfold
    except NotImplementedError:  # improper priors cannot be sampled
        transform = bijection(fn.support)
        shape = transform.inverse_shape(fn.batch_shape + fn.event_shape)
        return detach_provenance(transform(torch.zeros(shape)))
