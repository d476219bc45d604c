"""A story's graph as SVG: sites, what depends on what, plates as boxes. Needs no drawing program.

Sites that share their plates stand in one block, so that the boxes of plates never overlap; a site
stands one level below the lowest of its parents.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from html import escape

from inference.story.structure import Site, Structure

__all__ = ["graph_svg"]

LEVEL = 84  # pixels between levels
HEIGHT = 40  # of a site
MARGIN = 22  # around what a plate holds
CAPTION = 16  # for the name of a plate
LETTER = 7.4  # width of a letter at 13 pixels
GAP = 18  # between neighbours
SEEN, LATENT, LINE = "#d9d9d9", "#ffffff", "#333333"


@dataclass
class _Node:
    """A site, its level and the place of its centre."""

    site: Site
    level: int
    x: float = 0.0
    y: float = 0.0

    @property
    def path(self) -> tuple[str, ...]:
        """Names of its plates, outermost first."""
        return tuple(plate.name for plate in self.site.plates)

    @property
    def label(self) -> str:
        return _family(self.site)

    @property
    def width(self) -> float:
        return max(44.0, 18 + LETTER * max(len(self.site.name), 0.85 * len(self.label)))


@dataclass(frozen=True)
class _Box:
    """A plate's rectangle."""

    label: str
    x: float
    y: float
    width: float
    height: float


def graph_svg(structure: Structure, seen: Collection[str] = (), note: str = "") -> str:
    """Draw a story's sites as an SVG document.

    Parameters
    ----------
    structure
        Of the story, from ``inference.story.inspection.inspect_story``.
    seen
        Names of the sites that are data; they are filled.
    note
        A line of text below the graph.

    Returns
    -------
    str
        A whole SVG document: ellipses are random sites (grey: data), dashed ones are computed from
        others, rounded boxes are plates with their size.

    Examples
    --------
    >>> import pyro, pyro.distributions as dist
    >>> from inference.story.call import Call
    >>> from inference.story.inspection import inspect_story
    >>> def coin(n):
    ...     bias = pyro.sample("bias", dist.Beta(2.0, 2.0))
    ...     with pyro.plate("toss", n, dim=-1):
    ...         pyro.sample("heads", dist.Bernoulli(bias))
    >>> structure, _ = inspect_story(Call.bind(coin, (3,)))
    >>> svg = graph_svg(structure, {"heads"})
    >>> svg.count("<ellipse"), svg.count("<rect class='plate'"), svg.count("<path")
    (2, 1, 1)
    """
    nodes = _levels(structure)
    boxes = _place(nodes, structure)
    legend = [note] if note else []
    right = max([n.x + n.width / 2 for n in nodes.values()] + [b.x + b.width for b in boxes], default=0.0)
    bottom = max([n.y + HEIGHT / 2 for n in nodes.values()] + [b.y + b.height for b in boxes], default=0.0)
    width = max(right + MARGIN, *(LETTER * len(line) + 2 * MARGIN for line in legend), 120.0)
    height = bottom + MARGIN + 20 * len(legend)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' "
        f"width='{width:.0f}' height='{height:.0f}' font-family='Helvetica, Arial, sans-serif' role='img'>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' "
        f"orient='auto'><polygon points='0,1 8,4 0,7' fill='{LINE}'/></marker></defs>",
        f"<rect width='{width:.0f}' height='{height:.0f}' fill='white'/>",
        *(_draw_box(box) for box in boxes),
        *_draw_edges(nodes),
        *(_draw_node(node, node.site.name in seen or node.site.observed) for node in nodes.values()),
        *(
            f"<text x='{MARGIN}' y='{bottom + MARGIN + 20 * i + 8:.0f}' font-size='12' fill='#555'>"
            f"{escape(line)}</text>"
            for i, line in enumerate(legend)
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _levels(structure: Structure) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    for name, site in structure.sites.items():  # parents come before their children
        above = [nodes[p].level for p in site.parents if p in nodes]
        nodes[name] = _Node(site, 1 + max(above, default=-1))
    return nodes


def _place(nodes: dict[str, _Node], structure: Structure) -> list[_Box]:
    """Give every node its place, block by block from left to right; return the plates' boxes."""
    sizes = {p.name: p.size for site in structure.sites.values() for p in site.plates}
    depth = max((len(n.path) for n in nodes.values()), default=0)
    top = MARGIN + depth * (CAPTION + 6) + HEIGHT / 2
    boxes: list[_Box] = []

    def fill(prefix: tuple[str, ...], left: float) -> float:
        """Lay out one plate's own sites, then the plates inside it; return the right edge."""
        own = [n for n in nodes.values() if n.path == prefix]
        right = left
        by_level: dict[int, list[_Node]] = {}
        for node in own:
            by_level.setdefault(node.level, []).append(node)
        widths = {k: sum(n.width for n in row) + GAP * (len(row) - 1) for k, row in by_level.items()}
        widest = max(widths.values(), default=0.0)
        for level, row in by_level.items():
            x = left + (widest - widths[level]) / 2
            for node in row:
                node.x, node.y = x + node.width / 2, top + level * LEVEL
                x += node.width + GAP
        right = left + widest
        inner = dict.fromkeys(n.path[len(prefix)] for n in nodes.values() if _inside(n, prefix))
        for name in inner:
            start = right + (GAP if right > left else 0.0)
            end = fill((*prefix, name), start + MARGIN) + MARGIN
            end = max(end, start + LETTER * len(f"{name} {sizes[name]}") + MARGIN)
            boxes.append(_box((*prefix, name), sizes[name], start, end))
            right = end
        return right

    def _box(path: tuple[str, ...], size: int, start: float, end: float) -> _Box:
        held = [n for n in nodes.values() if n.path[: len(path)] == path]
        inside = depth - len(path)
        upper = min(n.y for n in held) - HEIGHT / 2 - 10 - 6 * inside
        lower = max(n.y for n in held) + HEIGHT / 2 + 10 + (CAPTION + 4) * (1 + inside)
        return _Box(f"{path[-1]}  {size}", start, upper, end - start, lower - upper)

    fill((), MARGIN)
    return boxes


def _inside(node: _Node, prefix: tuple[str, ...]) -> bool:
    return len(node.path) > len(prefix) and node.path[: len(prefix)] == prefix


def _draw_box(box: _Box) -> str:
    return (
        f"<rect class='plate' x='{box.x:.1f}' y='{box.y:.1f}' width='{box.width:.1f}' "
        f"height='{box.height:.1f}' rx='8' fill='none' stroke='#888888'/>"
        f"<text x='{box.x + box.width - 8:.1f}' y='{box.y + box.height - 6:.1f}' text-anchor='end' "
        f"font-size='12' fill='#555555'>{escape(box.label)}</text>"
    )


def _draw_edges(nodes: dict[str, _Node]) -> Iterator[str]:
    for child in nodes.values():
        for parent in (nodes[p] for p in sorted(child.site.parents) if p in nodes):
            yield _edge(parent, child)


def _edge(parent: _Node, child: _Node) -> str:
    """A line from rim to rim, bent aside where another site may lie between."""
    between = child.level - parent.level > 1 and abs(child.x - parent.x) < parent.width
    aside = 0.9 * max(parent.width, child.width) if between else 0.0
    middle = ((parent.x + child.x) / 2 + aside, (parent.y + child.y) / 2)
    x0, y0 = _rim(parent, *middle)
    x1, y1 = _rim(child, *middle)
    curve = f"Q {middle[0]:.1f} {middle[1]:.1f} {x1:.1f} {y1:.1f}"
    return f"<path d='M {x0:.1f} {y0:.1f} {curve}' fill='none' stroke='{LINE}' marker-end='url(#tip)'/>"


def _rim(node: _Node, x: float, y: float) -> tuple[float, float]:
    """Where the line from a site's centre to a point leaves its ellipse."""
    across, down = x - node.x, y - node.y
    share = 1 / math.hypot(across / (node.width / 2 + 1), down / (HEIGHT / 2 + 1))
    return node.x + share * across, node.y + share * down


def _draw_node(node: _Node, seen: bool) -> str:
    dashed = " stroke-dasharray='4 3'" if node.site.kind != "sample" else ""
    fill = SEEN if seen else LATENT
    return (
        f"<ellipse cx='{node.x:.1f}' cy='{node.y:.1f}' rx='{node.width / 2:.1f}' ry='{HEIGHT / 2}' "
        f"fill='{fill}' stroke='{LINE}'{dashed}/>"
        f"<text x='{node.x:.1f}' y='{node.y - 1:.1f}' text-anchor='middle' font-size='13'>"
        f"{escape(node.site.name)}</text>"
        f"<text x='{node.x:.1f}' y='{node.y + 12:.1f}' text-anchor='middle' font-size='10' fill='#555555'>"
        f"{escape(node.label)}</text>"
    )


def _family(site: Site) -> str:
    """The family of a site's distribution, without Pyro's wrappers."""
    if site.kind != "sample":
        return "computed" if site.kind == "deterministic" else "factor"
    fn = site.fn
    while type(fn).__name__ in ("Independent", "MaskedDistribution", "ExpandedDistribution"):
        fn = fn.base_dist
    return type(fn).__name__
