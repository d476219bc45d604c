"""Pictures of ``sequence_family``: letters as tall as what they tell, and how the estimate closes in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style

# Amino acids by their chemistry, as sequence logos are coloured.
GROUPS = {"DE": PALETTE[1], "KRH": PALETTE[0], "AVLIMFWPCG": TRUE, "STYNQ": PALETTE[2]}
SMALLEST = 0.01  # bits; lower letters cannot be read


def logos(profiles: Mapping[str, Tensor], alphabet: str, positions: Sequence[int]) -> Any:
    """Draw logos side by side: title -> profile (positions, letters), at some of the positions."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(
            1, len(profiles), figsize=(3.7 * len(profiles), 4.6), sharey=True, squeeze=False
        )
        for axis, (title, profile) in zip(axes[0], profiles.items(), strict=True):
            logo(axis, profile[list(positions)], alphabet)
            axis.set(title=title, xlabel="position", ylim=(0, 1.8), xlim=(-0.6, len(positions) - 0.4))
            axis.set_xticks(range(len(positions)), [str(position + 1) for position in positions])
        axes[0, 0].set(ylabel="bits")
    return figure


def logo(axis: Any, profile: Tensor, alphabet: str) -> None:
    """Stack letters at every position; a stack is log2(letters) - entropy bits tall.

    Source: Schneider and Stephens (1990), Sequence logos, Nucleic Acids Research 18.
    """
    for position, p in enumerate(profile):
        bits = math.log2(len(alphabet)) + float(torch.special.xlogy(p, p).sum()) / math.log(2)
        bottom = 0.0
        for letter in p.argsort().tolist():
            height = float(p[letter]) * bits
            if height > SMALLEST:
                _letter(axis, alphabet[letter], position, bottom, height)
            bottom += height


def _letter(axis: Any, letter: str, position: float, bottom: float, height: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    path = TextPath((0, 0), letter, size=1)
    box = path.get_extents()
    # Of a narrow letter (I) the stroke would fill the stack: it is stretched no further than half an em.
    wide = 0.86 / max(box.width, 0.5)
    place = Affine2D().translate(-(box.x0 + box.x1) / 2, -box.y0).scale(wide, height / box.height)
    place = place.translate(position, bottom)
    colour = next(colour for group, colour in GROUPS.items() if letter in group)
    axis.add_patch(PathPatch(path.transformed(place), facecolor=colour, linewidth=0))


def closing_in(rows: Sequence[Mapping[str, Any]], letters: int, bayes: float) -> Any:
    """Draw KL per position and error of membership against sequences of a family."""
    import matplotlib.pyplot as plt

    n = torch.tensor([float(row["sequences of a family"]) for row in rows])
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.9))
        left.loglog(n, [row["exact"] for row in rows], color=TRUE, label="exact expectation")
        left.loglog(n, (letters - 1) / (2 * n), color=OTHER, ls="--", label="(letters − 1) / (2 n)")
        left.loglog(n, [row["KL per position"] for row in rows], "o", color=ESTIMATED, ms=7, label="measured")
        left.set(xlabel="sequences of a family, n", ylabel="KL(true || estimated), nats a position")
        left.set_title("The profile")
        left.legend()
        right.semilogx(n, [100 * row["error"] for row in rows], "o-", color=ESTIMATED, label="estimated")
        right.axhline(100 * bayes, color=TRUE, label="Bayes error of the true profiles")
        right.set(xlabel="sequences of a family, n", ylabel="new sequences misnamed, %", ylim=(0, None))
        right.set_title("Which family?")
        right.legend()
    return figure
