"""The page: self-contained, escaped, in order, with the verdict on top."""

import base64
from html.parser import HTMLParser

import pytest

from experiments.report.page import FOLDED_ROWS, OPEN_ROWS, render
from experiments.report.run import Run

EVIL = '<script>alert("x")</script>&<img src=http://evil.example/x.png>'
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Collects elements, and the text inside each kind of element; checks that tags match."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, tag):
        return [data for where, data in self.texts if where == tag]


def page(run):
    return render(run, {"seed": run.seed, "options": {"rows": 3}}, {"python": "3.11"})


@pytest.fixture
def full(run, fitted):
    import matplotlib.pyplot as plt

    figure = plt.figure()
    figure.subplots().plot([1, 2])
    run.figure("opening", figure, "The opening figure.")
    run.section("Inversion", "First.\n\nSecond with `code`.")
    run.table("t", [{"name": "a", "value": 0.123456}], "A table.")
    run.metric("accuracy", 0.9, error=0.01)
    run.posterior("fit", fitted(trusted=False))
    run.story(page, "p(x | y) p(y)")
    run.claim("near", 1.0, 1.0)
    run.claim("far", 0.0, 1.0, source="theory")
    return run


def test_nothing_is_loaded_from_anywhere(full):
    reader = Reader(page(full))
    tags = [tag for tag, _ in reader.elements]
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(tags)
    for _, attributes in reader.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "background", "poster"):
            assert attributes.get(name, "data:").startswith("data:")
    (css,) = reader.text("style")
    assert "url(" not in css
    assert "@import" not in css
    policies = [a["content"] for t, a in reader.elements if a.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_picture_is_inside(full):
    ((_, image),) = [e for e in Reader(page(full)).elements if e[0] == "img"]
    content = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    assert content == (full.folder / "opening.png").read_bytes()
    assert image["alt"] == "The opening figure."
    assert 100 < int(image["width"]) < 2000


def test_the_reason_of_a_claim_that_fails_is_said(tmp_path):
    run = Run("r", "Q?", tmp_path)
    run.claim("far", 0.0, 1.0, reason="The tails are <thin>.")
    run.claim("near", 1.0, 1.0, reason="never shown")
    head, _, rest = page(run).partition("</header>")
    assert "<li>Not met: far. The tails are &lt;thin&gt;.</li>" in head
    assert '<em class="reason">The tails are &lt;thin&gt;.</em>' in rest
    assert "never shown" not in head + rest


def test_a_story_with_an_example_is_drawn(run):
    from ppl_models.two_causes import two_causes

    run.story(two_causes, "p(first) p(second) p(y | first, second)")
    ((_, image),) = [e for e in Reader(page(run)).elements if e[0] == "img"]
    svg = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert svg.count("<ellipse") == 3
    assert image["alt"] == "Graph of two_causes"


def test_a_phone_can_show_it(full):
    text = page(full)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "max-width: 100%" in text
    assert text.count('<div class="scroll"><img') == 1
    assert text.count('<div class="scroll"><table>') == text.count("<table>") > 2
    assert "prefers-color-scheme: dark" in text


def test_everything_stands_in_order(full):
    text = page(full)
    parts = [
        "<h1>Is the coin fair?</h1>",
        "1 of 2 claims met",
        "Not met: far",
        "is not trusted",
        "The opening figure.</figcaption>",
        "<h2>Inversion</h2>",
        "<p>First.</p>",
        "<p>Second with <code>code</code>.</p>",
        "A table.",
        "<h2>Claims</h2>",
        "<h2>Measurements</h2>",
        "<h2>The story: page</h2>",
        "p(x | y) p(y)",
        "def page(run):",
        "<h2>Posterior: fit</h2>",
        "NOT TRUSTED: k-hat 1.2",
        "theta[0, 0]",
        "<h2>Configuration</h2>",
        "rows = 3",
        "<h2>Versions</h2>",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_whatever_an_experiment_writes_is_escaped(tmp_path, fitted):
    run = Run(EVIL, EVIL, tmp_path)
    run.section(EVIL, EVIL)
    run.text(EVIL)
    run.table("t", [{EVIL: EVIL}], EVIL)
    run.metric(EVIL, 1.0, unit=EVIL)
    run.claim(EVIL, 0.0, 1.0, source=EVIL)
    fit = fitted()
    fit.certificate.reasons = (EVIL,)
    run.posterior("fit", fit)
    run.story(page, EVIL)
    text = render(run, {EVIL: EVIL}, {EVIL: EVIL})
    tags = {tag for tag, _ in Reader(text).elements}
    assert not {"script", "img"} & tags
    assert text.count("&lt;script&gt;") >= 15


@pytest.mark.parametrize(
    ("values", "smoke", "words", "kind"),
    [
        ([1.0, 1.0], False, "2 of 2 claims met.", "good"),
        ([1.0, 0.0], False, "1 of 2 claims met.", "bad"),
        ([1.0, 0.0], True, "Smoke run: 2 claims, not judged.", "neutral"),
    ],
)
def test_the_verdict(tmp_path, values, smoke, words, kind):
    run = Run("r", "Q?", tmp_path, smoke=smoke)
    for number, value in enumerate(values):
        run.claim(f"claim {number}", value, 1.0)
    text = page(run)
    assert f'<div class="verdict {kind}"><strong>{words}</strong>' in text
    assert ("Not met: claim 1" in text) == (kind == "bad")


def test_a_posterior_that_is_not_trusted_is_said_on_top(run, fitted):
    run.claim("near", 1.0, 1.0)
    run.posterior("good", fitted())
    assert '<div class="verdict good"><strong>1 of 1' in page(run)
    run.posterior("bad", fitted(trusted=False))
    head, _, rest = page(run).partition("</header>")
    assert '<div class="verdict mixed">' in head
    assert "The posterior of bad is not trusted." in head
    assert "the tails are &lt;thin&gt;" in rest


def test_without_claims_the_posterior_gives_the_verdict(run, fitted):
    assert '<div class="verdict' not in page(run)
    run.posterior("good", fitted())
    assert '<div class="verdict good"><strong>The posterior is trusted.' in page(run)
    run.posterior("bad", fitted(trusted=False))
    head = page(run).partition("</header>")[0]
    assert '<div class="verdict bad"><strong>No claims are made.' in head
    assert "The posterior of bad is not trusted." in head


def test_long_tables_fold(run):
    run.table("long", [{"row": f"line {i}."} for i in range(FOLDED_ROWS + 50)], "")
    text = page(run)
    before, _, folded = text.partition("<details>")
    assert f"line {OPEN_ROWS - 1}." in before
    assert f"line {OPEN_ROWS}." not in before
    assert f"line {FOLDED_ROWS - 1}." in folded
    assert f"line {FOLDED_ROWS}." not in folded
    assert "every row: long.csv" in folded
