"""What a story is made of: its sites, plates and dependencies, read off one run.

The story is run once, conditioned on the data, with every value marked by the site it came from.
The marks that arrive in a site's density are the site's parents; everything that the rest of the
package needs to know about a story (which sites are local to a row, which may be summed out, which can
be dropped because nothing depends on them) follows from this graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from inference.calls import Call, story_name
from inference.edges import bounds, inside
from inference.evidence import Evidence, describe
from inference.marks import Reads, unmarked
from inference.prototype import Prototype

_AGAIN = 8  # runs that tell whether a bound moves


@dataclass(frozen=True)
class Plate:
    """A plate as a site sees it: its name, its dimension (negative) and its size."""

    name: str
    dim: int
    size: int


@dataclass(frozen=True)
class Site:
    """One site of a story.

    Attributes:
        kind: "sample", "deterministic" or "factor".
        fn: the distribution in the run that was inspected, plates included.
        value: its value in that run.
        plates: outermost (most negative dimension) first.
        parents: names of the sample sites on which its density depends directly.
        observed: whether the story itself observes it (``obs=``) or it is a factor.
    """

    name: str
    kind: str
    fn: Any
    value: Tensor
    plates: tuple[Plate, ...]
    parents: frozenset[str]
    observed: bool

    @property
    def shape(self) -> torch.Size:
        """Batch and event shape together."""
        return self.value.shape

    @property
    def discrete(self) -> bool:
        """Whether the site's values are discrete."""
        return self.kind == "sample" and bool(self.fn.support.is_discrete)

    @property
    def enumerable(self) -> bool:
        """Whether the site can be summed out exactly."""
        return self.discrete and self.fn.has_enumerate_support and self.fn.event_dim == 0

    def within(self, plate: Plate | None) -> bool:
        """Whether the site lies in a plate."""
        return plate is not None and any(p.name == plate.name for p in self.plates)


@dataclass(frozen=True)
class Structure:
    """The sites of a story as it was called, in order, and its parameters' names."""

    call: Call
    sites: Mapping[str, Site]
    params: tuple[str, ...]
    nesting: int

    @property
    def sample_sites(self) -> dict[str, Site]:
        """The sites that draw a value."""
        return {name: s for name, s in self.sites.items() if s.kind == "sample"}

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """All sites on which the named ones depend, themselves included."""
        found: set[str] = set()
        pending = [name for name in names if name in self.sites]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending.extend(p for p in self.sites[name].parents if p in self.sites)
        return found

    def children(self, name: str) -> set[str]:
        """The sites whose density depends directly on the named one."""
        return {n for n, s in self.sites.items() if name in s.parents and n != name}

    def shared_plates(self, names: Iterable[str]) -> list[Plate]:
        """The plates that all the named sites share, outermost first; none without names."""
        shared: list[Plate] | None = None
        for name in names:
            plates = self.sites[name].plates
            own = {p.name for p in plates}
            shared = list(plates) if shared is None else [p for p in shared if p.name in own]
        return shared or []

    def row_plate(self, names: Iterable[str]) -> Plate | None:
        """The data plate: the outermost plate that all the named sites share.

        Rows are the leading axis of data, so among shared plates the outermost one counts them.
        """
        return next(iter(self.shared_plates(names)), None)

    def leaves(self) -> list[str]:
        """Sample sites on which nothing depends: what the story is about when nothing was seen."""
        children = [s for s in self.sites.values() if s.kind != "deterministic"]
        parents = set().union(*(s.parents for s in children)) if children else set()
        return [name for name in self.sample_sites if name not in parents]


def inspect_story(
    call: Call,
    evidence: Mapping[str, Evidence] | None = None,
    argument: str = "data",
    seed: int = 0,
    *,
    override: bool = False,
) -> tuple[Structure, dict[str, Evidence]]:
    """Run a story once, conditioned on evidence; return its structure and the checked evidence.

    Args:
        call: the story and its arguments, row count included.
        evidence: what was seen, by site name.
        argument: what the caller calls the evidence, for error messages.
        seed: of the values drawn for sites without evidence.
        override: let evidence replace what the story observes itself.

    Raises:
        ValueError: for evidence that names no sample site, or that does not fit its site.

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
    evidence = evidence or {}
    prototype = Prototype(evidence, argument, override)
    with call.room(seed):
        trace = _run_once(call, prototype)
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
    unknown = [name for name in evidence if name not in sites or sites[name].kind != "sample"]
    if unknown:
        names = [n for n, s in sites.items() if s.kind == "sample"]
        raise ValueError(
            f"{argument}: {unknown[0]!r} is not a sample site of {story_name(call.story)}. Its sites are "
            f"{', '.join(names) or 'none'}."
        )
    nesting = max((-p.dim for s in sites.values() for p in s.plates), default=0)
    batch = max((len(s.fn.batch_shape) for s in sites.values() if s.kind == "sample"), default=0)
    known = replace(call, computed=frozenset(computed))
    return Structure(known, sites, params, max(nesting, batch)), prototype.checked


def _require_bounds_that_move(call: Call, first: Prototype) -> None:
    """Where data lie beyond bounds that other counts may set, run again; bounds that stay refuse them."""
    doubts = first.doubts
    for _ in range(_AGAIN if doubts else 0):
        other = Prototype(first.evidence, first.argument, first.override)
        _run_once(call, other)
        doubts = other.still(doubts)
    if doubts:
        raise next(iter(doubts.values()))


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
    evidence: Mapping[str, Evidence],
    argument: str = "data",
    *,
    counting: Mapping[str, Evidence] | None = None,
    override: bool = False,
) -> tuple[Structure, dict[str, Evidence]]:
    """Inspect a story whose omitted argument ``n`` is the row count of the evidence.

    The leading axes of the evidence are the candidates, and the row count that the call has, if any; the
    first that fits every site is taken.

    Args:
        call, evidence, argument, override: as in :func:`inspect_story`.
        counting: the part of the evidence that has rows; all of it by default.

    Raises:
        ValueError: from :func:`inspect_story`, for the first candidate, when none fits.
    """
    if not call.counts_rows:
        return inspect_story(call, evidence, argument, override=override)
    rows = evidence if counting is None else counting
    lengths = [e.value.shape[0] for e in rows.values() if e.value.dim()]
    candidates = sorted(set(lengths), key=lambda n: (-lengths.count(n), -n))
    candidates += [] if call.rows is None else [call.rows]
    first: ValueError | None = None
    for n in candidates or [1]:
        try:
            return inspect_story(call.with_rows(n), evidence, argument, override=override)
        except ValueError as error:
            first = first or error
    raise first if first else ValueError(f"{argument}: no row count could be found.")
