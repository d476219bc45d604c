"""Seeds of one fit's generators."""

from __future__ import annotations


def mix(seed: int, index: int) -> int:
    """A seed for one restart or data set, far from those of neighbours (a 64-bit multiplicative hash)."""
    return ((seed * 1_000_003 + index + 1) * 0x9E3779B97F4A7C15) % 2**63
