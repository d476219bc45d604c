"""The run in which a story is looked at: data are checked there, and every site gets a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from inference.story.arguments import changed, copies, is_table
from inference.story.bijections import bijection
from inference.story.call import Call, story_name
from inference.story.codes import run_watched
from inference.story.observations import BeyondCountError, Observation, describe, fit_to_site
from inference.story.provenance import Reads, closed_over, reached, unmarked, written_outside
from inference.story.structure import Plate, Site, Structure
from inference.story.support import bounds, inside

_AGAIN = 8  # runs that tell whether a bound moves


class Prototype(Messenger):
    """Hand out checked data, and values where a distribution cannot be sampled."""

    def __init__(self, observations: Mapping[str, Observation], argument: str, override: bool) -> None:
        super().__init__()
        self.observations, self.argument, self.override = observations, argument, override
        self.checked: dict[str, Observation] = {}
        self.counts: set[str] = set()  # discrete sites without data
        self.doubts: dict[str, BeyondCountError] = {}  # data beyond bounds that may depend on those
        self.reads, self.control = Reads(), dict[str, frozenset[str]]()
        self.versions: dict[str, tuple[Tensor, int]] = {}  # of the sites' values, when the story got them
        self.writes = False  # whether the story changed its arguments

    def _pyro_sample(self, msg: Any) -> None:
        before = self.reads.names
        # Tracking keeps of a value that the story observes itself no marks but its own name.
        self.control[msg["name"]] = before | (get_provenance(msg["value"]) if msg["is_observed"] else set())
        self._supply(msg)
        self.reads.names = before  # what drawing a value reads is no choice of the story's

    def _pyro_post_sample(self, msg: Any) -> None:
        value = detach_provenance(msg["value"])
        drawn = not (site_is_subsample(msg) or msg["infer"].get("_deterministic"))
        if drawn and isinstance(value, Tensor) and not value.is_inference():
            self.versions[msg["name"]] = value, value._version

    def refuse_written(self) -> None:
        """Refuse a story that changes a site's value after it was drawn: it would be scored as changed."""
        written = [name for name, (value, version) in self.versions.items() if value._version != version]
        if written:
            raise ValueError(
                f"story: it writes into the value of the site {written[0]!r} in place, expected it to stay "
                f"as it was drawn or given: Pyro scores a site's value when the run is over, and would score "
                f"what was written. Compute a new tensor ({written[0]} = {written[0]} - ...), or work on "
                f"{written[0]}.clone()."
            )

    def _supply(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, fn = msg["name"], msg["fn"]
        if msg["is_observed"] and not (self.override and name in self.observations):
            if name in self.observations:
                raise ValueError(
                    f"{self.argument}[{name!r}]: the story observes this site itself (obs=), expected "
                    f"it to be left to one of the two. Drop it from {self.argument}, or remove obs=."
                )
            return
        sample = _sample(fn)
        if name in self.observations:
            try:
                checked = fit_to_site(name, self.observations[name], fn, sample, self.argument, self.counts)
            except BeyondCountError as error:
                self.doubts[name], checked = error, error.observation
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


def inspect_story(
    call: Call,
    observations: Mapping[str, Observation] | None = None,
    argument: str = "data",
    seed: int = 0,
    *,
    override: bool = False,
) -> tuple[Structure, dict[str, Observation]]:
    """Run a story once, conditioned on data; return its structure and the checked data.

    Args:
        call: the story and its arguments, row count included.
        observations: what was seen, by site name.
        argument: what the caller calls the data, for error messages.
        seed: of the values drawn for sites without data.
        override: let data replace what the story observes itself.

    Raises:
        ValueError: for data that name no sample site, or that do not fit their site.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def coin():
        ...     bias = pyro.sample("bias", dist.Beta(2.0, 2.0))
        ...     with pyro.plate("toss", 3):
        ...         pyro.sample("heads", dist.Bernoulli(bias))
        >>> structure, _ = inspect_story(Call.bind(coin))
        >>> sorted(structure.sites["heads"].parents), structure.sites["heads"].plates[0].name
        (['bias'], 'toss')
    """
    observations = observations or {}
    prototype = Prototype(observations, argument, override)
    with call.room(seed):
        trace = _first_run(call, prototype, seed)
        _require_bounds_that_move(call, prototype)
        sites: dict[str, Site] = {}
        computed: set[str] = set()
        for name, msg in trace.nodes.items():
            if msg["type"] == "sample" and not site_is_subsample(msg):
                read = prototype.control.get(name, frozenset())
                if msg["is_observed"] and read:
                    computed.add(name)
                elif msg["is_observed"] and msg["mask"] is None:
                    _reject_beyond(name, msg["fn"], msg["value"])
                sites[name] = _site(name, msg, set(sites), read)
            elif msg["type"] == "sample":
                _reject_subsampling(name, msg)
        params = tuple(n for n, msg in trace.nodes.items() if msg["type"] == "param")
    unknown = [name for name in observations if name not in sites or sites[name].kind != "sample"]
    if unknown:
        names = [n for n, s in sites.items() if s.kind == "sample"]
        raise ValueError(
            f"{argument}: {unknown[0]!r} is not a sample site of {story_name(call.story)}. Its sites are "
            f"{', '.join(names) or 'none'}."
        )
    nesting = max((-p.dim for s in sites.values() for p in s.plates), default=0)
    batch = max((len(s.fn.batch_shape) for s in sites.values() if s.kind == "sample"), default=0)
    known = replace(call, computed=frozenset(computed), writes=prototype.writes)
    return Structure(known, sites, params, max(nesting, batch)), prototype.checked


def _require_bounds_that_move(call: Call, first: Prototype) -> None:
    """Where data lie beyond bounds that other counts may set, run again; bounds that stay refuse them."""
    doubts = first.doubts
    for _ in range(_AGAIN if doubts else 0):
        other = Prototype(first.observations, first.argument, first.override)
        _run_once(call.copied(), other)
        doubts = other.still(doubts)
    if doubts:
        raise next(iter(doubts.values()))


def _first_run(call: Call, prototype: Prototype, seed: int) -> Any:
    """Trace the story on copies of its arguments; note whether it changed them, refuse what it may not do."""

    def again(other: Call) -> None:
        with other.room(seed):
            _run_once(
                other.copied(), Prototype(prototype.observations, prototype.argument, prototype.override)
            )

    own = call.copied()
    prototype.reads.outside = closed_over(call.story)
    outside = {n: v for n, v in reached(call.story).items() if is_table(v)}
    before = copies(outside)
    trace = run_watched(call, lambda: _run_once(own, prototype), again)
    prototype.writes = changed((call.args, dict(call.kwargs)), (own.args, dict(own.kwargs)))
    prototype.refuse_written()
    for name, value in outside.items():  # into arrays and tables no mode of torch sees a story write
        if changed(value, before[name]):
            if isinstance(value, np.ndarray):
                value[...] = before[name]
            raise ValueError(written_outside(name))
    return trace


def _run_once(call: Call, prototype: Prototype) -> Any:
    """Trace the story; errors come without the table of shapes that Pyro appends, ours without its path."""
    try:
        with TrackProvenance(), prototype, prototype.reads:
            return poutine.trace(call).get_trace()
    except ValueError as error:
        message = str(error).split("\nTrace Shapes:")[0]
        if message == str(error):
            raise
        short = type(error)(message)
        if not message.startswith(prototype.argument):
            short = short.with_traceback(error.__traceback__)
        raise short from error.__cause__


def _site(name: str, msg: Any, earlier: set[str], control: frozenset[str]) -> Site:
    kind = "sample"
    if msg["infer"].get("_deterministic"):
        kind = "deterministic"
    elif isinstance(msg["fn"], dist.Unit):
        kind = "factor"
    frames = [f for f in msg["cond_indep_stack"] if f.vectorized]
    plates = tuple(Plate(f.name, f.dim, f.size) for f in sorted(frames, key=lambda f: f.dim))
    if kind == "deterministic":
        parents = get_provenance(msg["value"])
    else:
        try:
            with Reads() as reads:
                parents = get_provenance(msg["fn"].log_prob(msg["value"])) | reads.names
        except Exception:  # a density that refuses marked tensors: assume it depends on all before
            parents = frozenset(earlier)
    value = detach_provenance(msg["value"])
    fn = unmarked(msg["fn"])
    parents = (parents | control) - {name}
    return Site(name, kind, fn, value, plates, parents, bool(msg["is_observed"]) and kind != "deterministic")


def _reject_beyond(name: str, fn: Any, value: Any) -> None:
    """Refuse what a story observes itself, as data, beyond a fixed edge."""
    if not bounds(fn):
        return
    fits = inside(fn, value)
    if not get_provenance(fits) - {name} and not bool(fits.all()):
        raise ValueError(
            f"{name!r}: the story observes values (obs=) outside the support of {describe(unmarked(fn))}: "
            f"{int((~fits).sum())} of {fits.numel()}. Check the data, or the distribution."
        )


def _reject_subsampling(name: str, msg: Any) -> None:
    if msg["fn"].subsample_size not in (None, msg["fn"].size):
        raise ValueError(
            f"plate {name!r}: expected every row, got subsample_size={msg['fn'].subsample_size} of "
            f"{msg['fn'].size}. A story tells of all rows; pass batch_size=... to fit instead."
        )


def inspect_rows(
    call: Call,
    observations: Mapping[str, Observation],
    argument: str = "data",
    *,
    counting: Mapping[str, Observation] | None = None,
    override: bool = False,
) -> tuple[Structure, dict[str, Observation]]:
    """Inspect a story whose omitted argument ``n`` is the row count of the data.

    The leading axes of the data are the candidates, and the row count that the call has, if any; the
    first that fits every site is taken.

    Args:
        call, observations, argument, override: as in :func:`inspect_story`.
        counting: the part of the data that has rows; all of it by default.

    Raises:
        ValueError: from :func:`inspect_story`, for the first candidate, when none fits.
    """
    if not call.counts_rows:
        return inspect_story(call, observations, argument, override=override)
    rows = observations if counting is None else counting
    lengths = [e.value.shape[0] for e in rows.values() if e.value.dim()]
    candidates = sorted(set(lengths), key=lambda n: (-lengths.count(n), -n))
    candidates += [] if call.rows is None else [call.rows]
    first: ValueError | None = None
    for n in candidates or [1]:
        try:
            return inspect_story(call.with_rows(n), observations, argument, override=override)
        except ValueError as error:
            first = first or error
    raise first if first else ValueError(f"{argument}: no row count could be found.")
