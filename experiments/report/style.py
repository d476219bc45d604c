"""How figures look: one style, one palette that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ESTIMATED", "OTHER", "PALETTE", "TRUE", "style"]

# Okabe & Ito (2008), "Color Universal Design", in the order of their contrast on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
ESTIMATED = PALETTE[0]
TRUE = "#222222"
OTHER = PALETTE[1]


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style inside the block; matplotlib's settings are put back after it.

    Examples
    --------
    >>> import matplotlib
    >>> before = matplotlib.rcParams["axes.grid"]
    >>> with style():
    ...     inside = matplotlib.rcParams["axes.spines.top"]
    >>> inside, matplotlib.rcParams["axes.grid"] == before
    (False, True)
    """
    import matplotlib
    import seaborn
    from cycler import cycler

    settings = dict(seaborn.axes_style("ticks"))
    settings.update(seaborn.plotting_context("notebook"))
    settings.update(
        {
            "axes.prop_cycle": cycler(color=PALETTE[:7]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#555555",
            "axes.linewidth": 0.8,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.grid": False,
            "axes.axisbelow": True,
            "grid.color": "#e4e4e4",
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "xtick.color": "#444444",
            "ytick.color": "#444444",
            "legend.fontsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "patch.linewidth": 0.8,
            "image.cmap": "Greys",
            "figure.dpi": 100,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
        }
    )
    with matplotlib.rc_context(settings):
        yield
