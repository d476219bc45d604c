"""What was traced of a story, kept for the next fit of the same story with data of the same shapes.

A tape is a function of the data, the masks and the tensor arguments, so that it serves other numbers too. It
is taken up again only after it agreed with plain Pyro at a fresh point of the new fit: a story may close over
what has changed meanwhile.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

Entry = TypeVar("Entry")
_PLAIN = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


class Kept(Generic[Entry]):
    """A bounded mapping of (story, key) to what was made for them; stories are not kept alive by it.

    Args:
        most: how many entries are kept; the one that was used longest ago goes first.

    Example:
        >>> kept = Kept[int](most=2)
        >>> def story(): ...
        >>> kept.put(story, "three rows", 3)
        >>> kept.get(story, "three rows"), kept.get(story, "four rows")
        (3, None)
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._entries: OrderedDict[tuple[int, Hashable], tuple[weakref.ref[Any], Entry]] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, story: Any, key: Hashable | None) -> Entry | None:
        """What was kept, if anything was; nothing is under the key ``None``."""
        with self._lock:
            found = self._entries.get((id(story), key))
            if found is None or found[0]() is not story:
                return None
            self._entries.move_to_end((id(story), key))
            return found[1]

    def put(self, story: Any, key: Hashable | None, entry: Entry) -> None:
        """Keep something in place of what was kept before; nothing under the key ``None``."""
        if key is None:
            return
        place = (id(story), key)
        try:
            reference = weakref.ref(story, lambda _: self._forget(place))
        except TypeError:  # what cannot be referred to weakly is not kept
            return
        with self._lock:
            self._entries[place] = reference, entry
            self._entries.move_to_end(place)
            while len(self._entries) > self.most:
                self._entries.popitem(last=False)

    def _forget(self, place: tuple[int, Hashable]) -> None:
        with self._lock:
            self._entries.pop(place, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


def signature(tree: Any) -> Hashable | None:
    """What inputs of one structure have in common: shapes and dtypes of tensors, and all other values.

    ``None`` where it cannot be told, since something is neither a tensor nor a plain value.

    Example:
        >>> import torch
        >>> signature({"x": torch.ones(3), "n": 3}) == signature({"x": torch.zeros(3), "n": 3})
        True
    """
    leaves, spec = tree_flatten(tree)
    parts: list[Hashable] = [repr(spec)]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            parts.append((tuple(leaf.shape), leaf.dtype, leaf.device, leaf.layout))
        elif isinstance(leaf, _PLAIN):
            parts.append((type(leaf), leaf))
        else:
            return None
    return tuple(parts)
