"""The index page: all runs of a folder, what is not met on top, nothing loaded from elsewhere."""

import base64
import io
import json
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from experiments.cli import main
from experiments.report import launch
from experiments.report.gather import finished, gather
from experiments.report.index import HEIGHT, WIDTH, write_index
from tests.experiments.report.test_page import Reader

SCRIPT = '''"""Is the {name} <b>fair</b>?"""


def main(run):
    import matplotlib.pyplot as plt

    for name in ("first", "second"):
        figure = plt.figure(figsize=(12, 8))
        figure.subplots().plot([0, 1])
        run.figure(name, figure, "A {name}.")
    run.claim("share", 0.5, 0.5)
    run.claim("heads & tails", 0.5 + run.seed, 0.5, reason="the {name} is <bent>")
'''


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs: one met, one not, one of smoke; a crash, and an earlier run that was kept."""
    folder = tmp_path_factory.mktemp("index")
    out = folder / "out"
    for name, flags in {
        "coin": ["--seed=0"],
        "die": ["--seed=1"],
        "a new wheel": ["--smoke"],
    }.items():
        (folder / f"{name}.py").write_text(SCRIPT.replace("{name}", name))
        launch(folder / f"{name}.py", [*flags, f"--out={out}"])
    launch(folder / "coin.py", [f"--out={out}"])
    (out / "cards.log").write_text("begun\nValueError: no <ace>\nthe run did not finish; what it wrote\n")
    partial = out / "coin.partial-20200101-000000"
    partial.mkdir()
    (partial / "config.json").write_text(json.dumps({"name": "coin", "started": "2020-01-01T00:00:00+00:00"}))
    write_index(out)
    return out


@pytest.fixture(scope="module")
def text(runs):
    return (runs / "index.html").read_text(encoding="utf-8")


def test_runs_are_gathered(runs):
    whole, left = gather(runs)
    assert [run.folder.name for run in whole] == ["a new wheel", "coin", "die"]
    assert [run.words for run in whole] == ["not judged, 2 claims", "2 of 2 claims met", "1 of 2 claims met"]
    # The partial coin is older than the finished one.
    assert [(one.name, one.last) for one in left] == [("cards", "ValueError: no <ace>")]


def test_what_is_not_met_stands_on_top(text):
    head = text.partition("</header>")[0]
    assert "3 of 4 claims met. 1 smoke run, not judged. 1 did not finish." in head
    assert "heads &amp; tails (measured 1.5, claimed = 0.5)" in head
    assert "<em>the die is &lt;bent&gt;</em>" in head
    assert "the coin is" not in head
    assert "ValueError: no &lt;ace&gt;" in text
    assert "<b>" not in text


def test_links_lead_to_the_reports(runs, text):
    hrefs = [a["href"] for tag, a in Reader(text).elements if tag == "a"]
    assert {unquote(href) for href in hrefs if href.endswith("report.html")} == {
        "coin/report.html", "die/report.html", "a new wheel/report.html",
    }  # fmt: skip
    for href in hrefs:
        assert (runs / unquote(href)).exists(), href


def test_nothing_is_loaded_and_the_pictures_are_small(runs, text):
    reader = Reader(text)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.elements}
    pictures = [a for tag, a in reader.elements if tag == "img"]
    assert len(pictures) == 3
    for attributes in pictures:
        data = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
        width, height = Image.open(io.BytesIO(data)).size
        assert width <= WIDTH
        assert height <= HEIGHT
        assert len(data) < (runs / "coin" / "first.png").stat().st_size
        assert attributes["alt"].startswith("A ")
    assert len(text) < 200_000


def test_runs_of_several_versions_are_told_apart(runs, tmp_path):
    for name, version in {"a": "1.0", "b": "2.0"}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"name": name, "question": "?"}))
        (folder / "versions.json").write_text(json.dumps({"torch": version, "numpy": "2"}))
    text = write_index(tmp_path).read_text(encoding="utf-8")
    assert "<dd>1.0 (1 runs), 2.0 (1 runs)</dd>" in text
    assert "<dt>numpy</dt><dd>2</dd>" in text


def test_a_damaged_folder_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text("{not json")
    assert finished(tmp_path) is None
    (tmp_path / "config.json").write_text("[1]")
    assert finished(tmp_path) is None


def test_the_command(runs, capsys, tmp_path):
    assert main(["report", str(runs)]) == 0
    out = capsys.readouterr().out
    assert "die                      1 of 2 claims met" in out
    assert out.endswith(f"index: {runs / 'index.html'}\n")
    for folder, words in (
        (tmp_path, "holds no run folders; `ppl run NAME --out"),
        (runs / "coin", "it is a run folder itself: name the folder above it"),
        (Path("nowhere"), "nowhere is not a folder"),
    ):
        assert main(["report", str(folder)]) == 2
        assert words in capsys.readouterr().err
    assert not plt.get_fignums()
