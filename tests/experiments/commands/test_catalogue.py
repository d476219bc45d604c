"""The catalogue: what the stories' files say of themselves, without importing them."""

import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.commands.catalogue import markdown, parse, scan_stories
from experiments.report.errors import InputError

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"

STORY = '''"""A coin.

Story
    It is tossed.

Joint
    p(bias)
    prod_i p(heads_i | bias), with

    - bias ~ Beta(2, 2)

Answers
    p(heads): generate
    p(bias | heads): learn,
        by conjugacy
    not p(day): the day is not told.

Source
    Bayes (1763), An essay, section 2 (with a table); Laplace (1774).
"""


def coin(n):
    pass


def exact(data):
    pass
'''


def written(tmp_path, text=STORY, name="coin"):
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return path


def test_an_entry_is_read_from_the_docstring(tmp_path):
    entry = parse(written(tmp_path))
    assert entry.title == "A coin."
    assert entry.joint == "p(bias) prod_i p(heads_i | bias)"
    assert entry.answers == [
        "p(heads): generate",
        "p(bias | heads): learn, by conjugacy",
        "not p(day): the day is not told.",
    ]
    assert (entry.source, entry.cited) == ("Bayes (1763), An essay, section 2 (with a table)", "Bayes (1763)")
    assert (entry.posterior, entry.deep) == ("exact", False)


def test_a_table_keeps_the_conditional_bar_out_of_its_columns(tmp_path):
    row = markdown([parse(written(tmp_path))]).splitlines()[-1]
    assert row.count("|") == 6
    assert "p(heads); p(bias ∣ heads); not p(day)" in row


def test_a_class_is_deep_and_may_have_a_guide(tmp_path):
    entry = parse(written(tmp_path, '"""Nets."""\nclass net: pass\nclass guide: pass\n', "net"))
    assert entry.deep and entry.posterior == "own guide"


def test_a_file_without_its_story_is_no_entry(tmp_path):
    assert parse(written(tmp_path, name="other")) is None
    with pytest.raises(InputError, match="cannot be read as Python"):
        parse(written(tmp_path, "def (", "broken"))


def test_every_story_says_its_joint_its_answers_and_its_source():
    entries = scan_stories()
    assert len(entries) >= 3
    told = [e.name for e in entries if e.joint.startswith("p(") and e.answers and e.cited.endswith(")")]
    assert told == [e.name for e in entries]


def test_the_readme_says_of_every_story_what_its_file_says():
    """A new story may wait for its row, which `ppl list --markdown` writes; a stale row may not stand."""
    table = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("| story | joint |")[2]
        .partition("\n\n")[0]
    )
    rows = table.splitlines()[2:]
    assert len(rows) >= 35
    assert set(rows) <= set(markdown(scan_stories()).splitlines())


def test_the_catalogue_is_listed_without_torch():
    lines = ["import sys", "from experiments.cli import main", "main(['list', '--models'])"]
    code = "\n".join([*lines, "print('torch' in sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert "DESIGNED BY PEOPLE" in done.stdout and "gaussian_classes: " in done.stdout


def test_show_prints_the_docstring_and_draws_the_graph(tmp_path, capsys):
    assert main(["show", "gaussian_classes", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Wishart(df" in printed and "positive definite" in printed
    tree = xml.etree.ElementTree.parse(tmp_path / "gaussian_classes.svg")
    assert len(tree.findall(f".//{SVG}ellipse")) == 5
    assert len(tree.findall(f".//{SVG}path")) == 5  # weights-y, precision-mean, y-x, mean-x, precision-x
    labels = [text.text for text in tree.findall(f".//{SVG}text")]
    assert "class  3" in labels and "row  12" in labels


def test_show_names_what_is_near(tmp_path, capsys):
    assert main(["show", "gausian_classes", "--out", str(tmp_path)]) == 2
    assert "did you mean gaussian_classes?" in capsys.readouterr().err


def test_show_takes_a_file_of_ones_own(tmp_path, capsys):
    text = STORY.replace(
        "    pass\n\n\ndef exact",
        "    import pyro, pyro.distributions as dist\n\n"
        '    bias = pyro.sample("bias", dist.Beta(2.0, 2.0))\n'
        '    with pyro.plate("toss", n, dim=-1):\n'
        '        pyro.sample("heads", dist.Bernoulli(bias))\n\n\ndef exact',
    )
    path = written(tmp_path, text)
    assert main(["show", f"{path}:coin", "--out", str(tmp_path)]) == 0
    assert "It is tossed" in capsys.readouterr().out
    assert (tmp_path / "coin.svg").exists()
