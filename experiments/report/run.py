"""``Run``: what an experiment's ``main(run)`` talks to."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from experiments.report.blocks import Block, Fit, Metric, Picture, Section, Story, Table, Text
from experiments.report.claims import Claim
from experiments.report.folder import write_text
from experiments.report.summary import summarize
from inference.runtime.files import write_bytes

__all__ = ["Run"]


class _Posterior(Protocol):
    @property
    def certificate(self) -> Any: ...

    def to_arviz(self) -> Any: ...


class Run:
    """One run of an experiment: its settings, and the report that it fills from top to bottom.

    Parameters
    ----------
    name, question
        The experiment's name, and the question it answers: the report's title.
    folder
        Where its files go; it exists.
    seed, smoke
        The seed of all randomness; whether this is a run with tiny settings, judged by nobody.
    options
        All parsed flags, the experiment's own among them.

    Examples
    --------
    >>> import tempfile
    >>> run = Run("coin", "Is the coin fair?", Path(tempfile.mkdtemp()))
    >>> run.section("Data", "Ten tosses.")
    >>> run.claim("share of heads", 0.5, 0.5, error=0.16, source="a fair coin").met
    True
    """

    def __init__(
        self,
        name: str,
        question: str,
        folder: Path,
        seed: int = 0,
        smoke: bool = False,
        options: argparse.Namespace | None = None,
    ) -> None:
        self.name = name
        self.question = question
        self.folder = folder
        self.seed = seed
        self.smoke = smoke
        self.options = argparse.Namespace() if options is None else options
        self.blocks: list[Block] = []
        self.claims: list[Claim] = []
        self.metrics: dict[str, Metric] = {}
        self.fits: list[Fit] = []
        self.stories: list[Story] = []
        self._files: set[str] = set()
        self._start = perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return perf_counter() - self._start

    def section(self, title: str, text: str = "") -> None:
        """Start a section; on a terminal its title also says how far the run has come."""
        if sys.stderr.isatty():
            print(f"{self.seconds:7.1f} s  {title}", file=sys.stderr)
        self.blocks.append(Section(title, text))

    def text(self, paragraph: str) -> None:
        """Add a paragraph; an empty line starts another, backticks mark code."""
        self.blocks.append(Text(paragraph))

    def figure(self, name: str, figure: Any, caption: str) -> None:
        """Save ``<name>.png``, show it with its caption, and close the figure.

        ``figure`` is a matplotlib figure, an axes or array of axes (as ArviZ 0.x and pandas
        return), a seaborn grid, or an ArviZ 1.x plot collection.
        """
        path = self._new(name, "png")
        owner, memory = _savable(figure), io.BytesIO()
        owner.savefig(memory, format="png", bbox_inches="tight", facecolor="white")
        write_bytes(path, memory.getbuffer())
        _close(owner)
        self.blocks.append(Picture(path, caption))

    def table(self, name: str, rows: Any, caption: str) -> None:
        """Save ``<name>.csv`` and show it; ``rows`` is a DataFrame or a list of dicts."""
        table = Table.of(rows, caption, f"{name}.csv")
        write_text(self._new(name, "csv"), table.csv())
        self.blocks.append(table)

    def metric(self, name: str, value: float, error: float | None = None, unit: str = "") -> None:
        """Keep one measured number, with its Monte Carlo error, in metrics.json and the page."""
        if name in self.metrics:
            raise ValueError(f"name: the metric {name!r} was already given; choose another name")
        error = None if error is None else float(error)
        self.metrics[name] = Metric(float(value), error, unit)

    def posterior(self, name: str, posterior: _Posterior, idata: Any = None) -> None:
        """Save ``<name>.nc`` for ArviZ; show the certificate in words and ArviZ's summary.

        ``idata`` is what ``posterior.to_arviz()`` returned, where it was needed before.
        """
        from inference.arviz_groups.build import write_netcdf

        path = self._new(name, "nc")
        idata = posterior.to_arviz() if idata is None else idata
        write_netcdf(idata, path)
        summary, rounded = summarize(idata, f"{name}_summary.csv")
        write_text(self._new(f"{name}_summary", "csv"), summary.csv())
        certificate = posterior.certificate
        reasons = [str(reason) for reason in certificate.reasons]
        fit = Fit(name, bool(certificate.trusted), str(certificate), reasons, rounded)
        self.fits.append(fit)

    def story(self, function: Callable[..., Any], joint: str = "") -> None:
        """Show a story: its joint density as text, its documentation and its source."""
        self.stories.append(Story.of(function, joint))

    def claim(
        self,
        text: str,
        measured: float,
        known: float,
        *,
        error: float = 0.0,
        numerical: float = 0.0,
        source: str = "",
        relation: str = "equal",
        reason: str = "",
    ) -> Claim:
        """Claim that measured and known agree, within 4 Monte Carlo errors plus ``numerical``.

        ``relation`` is ``"equal"``, ``"at least"`` (measured >= known, less that tolerance) or
        ``"at most"``. ``error`` is the Monte Carlo standard error of ``measured - known``, and
        ``source`` says where ``known`` comes from. ``reason`` says why a claim that is known not to be
        met is not: it is shown only where the claim fails.
        """
        if relation == "published":
            raise ValueError("relation: a published number is added by run.published, got a claim")
        self.claims.append(Claim(text, measured, known, error, numerical, source, relation, reason))
        return self.claims[-1]

    def published(
        self, text: str, measured: float, published: float, *, error: float = 0.0, source: str = ""
    ) -> None:
        """Show a published number of somebody else's run beside ours; it is not judged."""
        self.claims.append(Claim(text, measured, published, error, 0.0, source, "published"))

    def contents(self) -> dict[str, Any]:
        """What contents.json holds: the figures in order, and whether the posteriors are trusted."""
        pictures = [block for block in self.blocks if isinstance(block, Picture)]
        return {
            "figures": [{"file": picture.path.name, "caption": picture.caption} for picture in pictures],
            "posteriors": [
                {"name": fit.name, "trusted": fit.trusted, "reasons": list(fit.reasons)} for fit in self.fits
            ],
        }

    def _new(self, name: str, kind: str) -> Path:
        """The path of a file of this run, which must not have been written by it before."""
        file = f"{name}.{kind}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError(f"name: expected letters, digits, '_', '-' or '.', got {name!r}")
        if file in self._files:
            raise ValueError(f"name: {file} was already written by this run; choose another name")
        self._files.add(file)
        return self.folder / file


def _savable(figure: Any) -> Any:
    """Whatever saves itself: the figure behind axes, arrays of axes, grids and plot collections."""
    if hasattr(figure, "viz"):  # a plot collection of ArviZ 1.x, which saves to paths only
        return figure.viz["figure"].item()
    if hasattr(figure, "savefig"):
        return figure
    if hasattr(figure, "get_figure"):
        return figure.get_figure()
    if hasattr(figure, "ravel") and figure.size:
        return _savable(figure.ravel()[0])
    raise ValueError(f"figure: expected a matplotlib figure or axes, got {type(figure).__name__}")


def _close(owner: Any) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    figure = owner if isinstance(owner, Figure) else getattr(owner, "figure", None)
    if isinstance(figure, Figure):
        plt.close(figure)
