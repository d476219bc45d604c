"""The report page: one HTML file that needs nothing else, on a phone as on a desk."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.blocks import Block, Fit, Metric, Picture, Section, Story, Table, Text
from experiments.report.claims import Claim, count, verdict
from experiments.report.numbers import readable, with_error
from experiments.report.run import Run
from experiments.report.stylesheet import STYLESHEET

__all__ = ["document", "facts", "inline", "render"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
RELATIONS = {"equal": "=", "at least": "≥", "at most": "≤", "published": ""}
# Pixels of a picture to one of the page: sharp on a dense screen, text of one size everywhere.
PIXELS = 1.6
# A picture this many times as wide as high is not shrunk to a phone's width: it scrolls in its box.
WIDE = 1.7
OPEN_ROWS = 14
# Characters beyond which a table's cell may be broken into lines.
LONG_CELL = 24
FOLDED_ROWS = 300
# Of the configuration, what only `ppl run --from` reads, and what the title says.
HIDDEN = ("arguments", "file sha256", "question")


def render(run: Run, config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The whole page of a finished run, as text.

    Everything that an experiment wrote is escaped; pictures are inlined, there are no scripts,
    and the page's own policy forbids it to load anything.
    """
    body = [
        _header(run, config),
        *map(_block, run.blocks),
        _claims(run.claims, run.smoke),
        _metrics(run.metrics),
        *map(_story, run.stories),
        *map(_fit, run.fits),
        facts("Configuration", {name: value for name, value in config.items() if name not in HIDDEN}),
        facts("Versions", versions),
    ]
    return document(run.question, body)


def document(title: str, body: Sequence[str], more_style: str = "") -> str:
    """A whole HTML page around its parts, which are HTML; the empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>\n{STYLESHEET}{more_style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _header(run: Run, config: Mapping[str, Any]) -> str:
    facts = [run.name, f"seed {run.seed}", f"{readable(round(run.seconds, 1))} s"]
    if "started" in config:
        facts.insert(1, str(config["started"])[:16].replace("T", " "))
    return (
        f'<header>\n<p class="kicker">{inline(" · ".join(facts))}</p>\n'
        f"<h1>{inline(run.question)}</h1>\n{_verdict(run)}\n</header>"
    )


def _verdict(run: Run) -> str:
    met, judged = count(run.claims)
    missed = [claim for claim in run.claims if claim.met is False]
    trusted = all(fit.trusted for fit in run.fits)
    if not judged and not run.fits:
        return ""
    if not judged:
        kind, words = "good", "The posterior is trusted." if trusted else "No claims are made."
    elif run.smoke:
        kind, words = "neutral", f"Smoke run: {judged} claims, not judged."
    else:
        kind, words = "bad" if missed else "good", f"{met} of {judged} claims met."
    items = [] if run.smoke else [_sentence(claim) for claim in missed]
    items += [f"The posterior of {fit.name} is not trusted." for fit in run.fits if not fit.trusted]
    if kind == "good" and not trusted:
        kind = "mixed" if judged else "bad"
    return f'<div class="verdict {kind}"><strong>{inline(words)}</strong>{_list(items)}</div>'


def _sentence(claim: Claim) -> str:
    return f"Not met: {claim.text}. {claim.reason}".rstrip(". ") + "."


def _block(block: Block) -> str:
    if isinstance(block, Section):
        return f"<h2>{inline(block.title)}</h2>\n{_paragraphs(block.text)}"
    if isinstance(block, Text):
        return _paragraphs(block.text)
    if isinstance(block, Picture):
        return _picture(block)
    return _table(block)


def _picture(picture: Picture) -> str:
    content = picture.path.read_bytes()
    data = base64.b64encode(content).decode("ascii")
    # The width and the height in pixels stand in bytes 16 to 24 of every PNG file.
    across, down = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    width = round(across / PIXELS)
    kind = ' class="wide"' if across > WIDE * down else ""
    return (
        f'<figure{kind}><div class="scroll"><img width="{width}" alt="{html.escape(picture.caption)}" '
        f'src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{inline(picture.caption)}</figcaption></figure>"
    )


def _claims(claims: Sequence[Claim], smoke: bool) -> str:
    if not claims:
        return ""
    rows = []
    for claim in claims:
        word = verdict(claim, smoke)
        mark = {"met": "✓ met", "NOT MET": "✗ not met"}.get(word, "not judged")
        known = f"{RELATIONS[claim.relation]} {readable(claim.known)}".strip()
        cells = [
            f'<td class="{word.lower().replace(" ", "-")}">{mark}</td>',
            f'<td class="words">{inline(claim.text)}{_reason(claim, word)}</td>',
            f'<td class="number">{with_error(claim.measured, claim.error)}</td>',
            f'<td class="number">{known}</td>',
            f'<td class="number">{readable(claim.tolerance) if claim.met is not None else ""}</td>',
            f'<td class="words">{inline(claim.source)}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = ["", "Claim", "Measured", "Known", "Tolerance", "Source of the known"]
    note = (
        "Measured ± Monte Carlo standard error. The tolerance is four such errors plus a stated "
        "numerical error. Published numbers of other people's runs are shown, not judged."
    )
    return f'<h2>Claims</h2>\n{_grid(head, rows)}<p class="note">{note}</p>'


def _reason(claim: Claim, word: str) -> str:
    return f'<br><em class="reason">{inline(claim.reason)}</em>' if word == "NOT MET" and claim.reason else ""


def _metrics(metrics: Mapping[str, Metric]) -> str:
    if not metrics:
        return ""
    rows = [
        f'<tr><td class="words">{inline(name)}</td>'
        f'<td class="number">{with_error(metric.value, metric.error)}</td>'
        f"<td>{inline(metric.unit)}</td></tr>"
        for name, metric in metrics.items()
    ]
    head = ["", "Value", "Unit"]
    if len(rows) <= OPEN_ROWS + 2:
        return f"<h2>Measurements</h2>\n{_grid(head, rows)}"
    return (
        f"<h2>Measurements</h2>\n<details><summary>Show all {len(rows)} (metrics.json)</summary>"
        f"{_grid(head, rows)}</details>"
    )


def _story(story: Story) -> str:
    joint = f'<p class="joint">{inline(story.joint)}</p>' if story.joint else ""
    documentation = f"<pre>{html.escape(story.documentation)}</pre>" if story.documentation else ""
    source = f"<pre><code>{html.escape(story.source)}</code></pre>" if story.source else ""
    return f"<h2>The story: {inline(story.name)}</h2>\n{joint}{_graph(story)}{documentation}{source}"


def _graph(story: Story) -> str:
    """The graph as an image: the names inside one SVG do not meet those of another."""
    if not story.graph:
        return ""
    data = base64.b64encode(story.graph.encode()).decode("ascii")
    return (
        f'<figure class="graph"><img alt="Graph of {html.escape(story.name)}" '
        f'src="data:image/svg+xml;base64,{data}"><figcaption>Sites and what depends on what, in its example; '
        "grey: data; dashed: computed from others; boxes: repeated so many times.</figcaption></figure>"
    )


def _fit(fit: Fit) -> str:
    word = "trusted" if fit.trusted else "not trusted"
    kind = "good" if fit.trusted else "bad"
    return (
        f"<h2>Posterior: {inline(fit.name)}</h2>\n"
        f'<div class="verdict {kind}"><strong>{word}</strong>{_list(fit.reasons)}</div>\n'
        f'<pre class="words">{html.escape(fit.certificate)}</pre>\n{_table(fit.summary)}'
    )


def facts(title: str, told: Mapping[str, Any]) -> str:
    """A heading, and names beside their values."""
    items = []
    for name, value in told.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} = {readable(item)}" for key, item in value.items()) or "none"
        elif isinstance(value, (list, tuple)):
            value = " ".join(str(item) for item in value)
        items.append(f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>")
    return f"<h2>{title}</h2>\n<dl>{''.join(items)}</dl>"


def _table(table: Table) -> str:
    if not table.columns:
        return _paragraphs(table.caption)
    head = [html.escape(name) for name in table.columns]
    rows = [f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows[:FOLDED_ROWS]]
    caption = f'<p class="note">{inline(table.caption)}</p>' if table.caption else ""
    if len(rows) <= OPEN_ROWS + 2:
        return caption + _grid(head, rows)
    total = f"all {len(table.rows)}" if len(rows) == len(table.rows) else f"the first {len(rows)}"
    file = f" (every row: {html.escape(table.file)})" if table.file else ""
    return (
        f"{caption}{_grid(head, rows[:OPEN_ROWS])}<details><summary>Show {total} rows{file}"
        f"</summary>{_grid(head, rows)}</details>"
    )


def _cell(value: Any) -> str:
    text = readable(value)
    kind = "words" if len(text) > LONG_CELL else "number"
    return f'<td class="{kind}">{html.escape(text)}</td>'


def _grid(head: Sequence[str], rows: Sequence[str]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{inline(item)}</li>' for item in items)}</ul>" if items else ""


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    return "\n".join(f"<p>{inline(part)}</p>" for part in parts)


def inline(text: str) -> str:
    """Escaped text; what stands between backticks is code."""
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", html.escape(text))
