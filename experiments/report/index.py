"""The index page: many runs on one page, what is not met on top; needs nothing else, works offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from experiments.report.claims import RELATIONS
from experiments.report.folder import write_text
from experiments.report.gather import LOG, Finished, Unfinished, gather
from experiments.report.numbers import readable, with_error
from experiments.report.page import document, facts, inline
from experiments.report.stylesheet import INDEX_STYLESHEET

__all__ = ["write_index"]

# Pixels of a thumbnail: sharp at half this width on the screen of a phone.
WIDTH, HEIGHT = 720, 480
# Colours of a thumbnail: half the bytes, and no eye sees it at this size.
COLOURS = 96


def write_index(folder: Path) -> Path:
    """Gather the runs in a folder into ``folder/index.html``, written whole or not at all.

    Every run shows its question, its verdict, one figure (made small, inside the page), and a link to its
    report. Claims that are not met stand on top with their reasons, and what did not finish, with its log.

    Raises
    ------
    InputError
        If the folder holds no runs.
    """
    runs, unfinished = gather(folder)
    path = folder / "index.html"
    write_text(path, _page(runs, unfinished))
    return path


def _page(runs: Sequence[Finished], unfinished: Sequence[Unfinished]) -> str:
    many = len(runs) + len(
        [left for left in unfinished if left.name not in {run.folder.name for run in runs}]
    )
    title = f"{many} experiments" if many != 1 else "One experiment"
    seconds = sum(run.seconds for run in runs)
    began = min((str(run.config.get("started", "")) for run in runs), default="")
    told = [began[:16].replace("T", " "), f"{_duration(seconds)} in all", *_seeds(runs)]
    body = [
        f'<header>\n<p class="kicker">{inline(" · ".join(word for word in told if word))}</p>\n'
        f"<h1>{title}, estimated against true</h1>\n{_verdict(runs, unfinished)}\n</header>",
        *map(_left, unfinished),
        f'<div class="runs">\n{"".join(map(_card, runs))}</div>',
        facts("Versions", _versions(runs)),
    ]
    return document(title, body, INDEX_STYLESHEET)


def _verdict(runs: Sequence[Finished], unfinished: Sequence[Unfinished]) -> str:
    judged = sum(len(run.judged) for run in runs)
    missed = [(run, claim) for run in runs for claim in run.missed]
    distrusted = [(run, fit) for run in runs for fit in run.distrusted]
    words = f"{judged - len(missed)} of {judged} claims met." if judged else "No claims were judged."
    smoke = sum(run.smoke for run in runs)
    if smoke:
        words += f" {smoke} smoke {'run' if smoke == 1 else 'runs'}, not judged."
    if unfinished:
        words += f" {len(unfinished)} did not finish."
    items = [_missed(run, claim) for run, claim in missed]
    items += [
        f"{_link(run)}: the posterior of {inline(str(fit.get('name')))} is not trusted."
        for run, fit in distrusted
    ]
    kind = "bad" if missed or unfinished else "mixed" if distrusted else "good" if judged else "neutral"
    listed = f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>" if items else ""
    return f'<div class="verdict {kind}"><strong>{inline(words)}</strong>{listed}</div>'


def _missed(run: Finished, claim: Mapping[str, Any]) -> str:
    measured, error, known = (_number(claim.get(key)) for key in ("measured", "error", "known"))
    sign = RELATIONS.get(str(claim.get("relation")), "")
    numbers = f"measured {with_error(measured, error)}, claimed {sign} {readable(known)}"
    reason = f" <em>{inline(str(claim['reason']))}</em>" if claim.get("reason") else ""
    return f"Not met, {_link(run)}: {inline(str(claim.get('text', '')))} ({numbers}).{reason}"


def _number(value: Any) -> float:
    """NaN and infinities are strings in JSON."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _left(left: Unfinished) -> str:
    log = (
        f"<details><summary>Its log</summary><pre>{html.escape(left.tail)}</pre></details>"
        if left.tail
        else ""
    )
    place = f'<a href="{quote(left.place.name)}">{html.escape(left.place.name)}</a>'
    return (
        f'<div class="verdict bad"><strong>{inline(left.name)} did not finish.</strong> '
        f"{html.escape(left.last)} What it left: {place}.{log}</div>"
    )


def _card(run: Finished) -> str:
    if run.smoke:
        kind = "neutral"
    elif run.missed:
        kind = "bad"
    elif run.distrusted:
        kind = "mixed"
    else:
        kind = "good" if run.judged or run.contents.get("posteriors") else "neutral"
    told = [run.folder.name, _duration(run.seconds), f"seed {run.config.get('seed', 0)}"]
    told += ["smoke run"] if run.smoke else []
    log = f' · <a href="{quote(run.folder.name)}/{LOG}">log</a>' if (run.folder / LOG).is_file() else ""
    question = inline(str(run.config.get("question", run.name)))
    return (
        f'<article class="{kind}"><a class="shot" href="{_href(run)}">{_thumbnail(run)}</a>'
        f'<div><h3><a href="{_href(run)}">{question}</a></h3>'
        f'<p class="tag">{inline(run.words)}</p>'
        f'<p class="note">{inline(" · ".join(told))}{log}</p></div></article>\n'
    )


def _thumbnail(run: Finished) -> str:
    """The run's first figure, made small; nothing where there is none."""
    shown: Mapping[str, str] = next(iter(run.contents.get("figures", ())), {})
    path = run.folder / str(shown.get("file", ""))
    if not path.is_file():
        return ""
    data = base64.b64encode(_small(path)).decode("ascii")
    return f'<img alt="{html.escape(str(shown.get("caption", "")))}" src="data:image/png;base64,{data}">'


def _small(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _versions(runs: Sequence[Finished]) -> dict[str, str]:
    """Name to version; where runs differ, every version with the number of runs that had it."""
    names = list(dict.fromkeys(name for run in runs for name in run.versions))
    found = {}
    for name in names:
        values = [str(run.versions[name]) for run in runs if name in run.versions]
        counts = {value: values.count(value) for value in dict.fromkeys(values)}
        each = [f"{value} ({count} runs)" for value, count in counts.items()]
        found[name] = values[0] if len(counts) == 1 else ", ".join(each)
    return {**found, "index made": datetime.now().astimezone().isoformat(timespec="seconds")}


def _seeds(runs: Sequence[Finished]) -> list[str]:
    seeds = {str(run.config.get("seed", 0)) for run in runs}
    return [f"seed {seed}" for seed in seeds] if len(seeds) == 1 else []


def _duration(seconds: float) -> str:
    """Seconds, or minutes where there are many."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _href(run: Finished) -> str:
    return f"{quote(run.folder.name)}/report.html"


def _link(run: Finished) -> str:
    return f'<a href="{_href(run)}">{html.escape(run.name)}</a>'
