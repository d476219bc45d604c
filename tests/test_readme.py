"""The README does what it says: its Python runs, its two commands are what CI and users run.

So does the experiment that CONTRIBUTING.md shows.
"""

import re
from pathlib import Path

from experiments.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_every_python_snippet_runs_in_order():
    source = "\n".join(blocks("python"))
    assert source.count("assert") >= 5
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})


def test_the_first_two_shell_blocks_are_one_line_each_and_do_their_own_set_up():
    run, test = blocks("sh")[:2]
    for block, last in ((run, "ppl run bayes_inversion"), (test, "python -m pytest -n auto --dist loadfile")):
        assert len(block.strip().splitlines()) == 1
        assert "pip install -e" in block
        assert block.strip().endswith(last)


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target


def test_the_experiment_to_imitate_runs(tmp_path):
    page = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    script = tmp_path / "coin_width.py"
    script.write_text(code, encoding="utf-8")
    assert main(["run", str(script), "--out", str(tmp_path)]) == 0
    assert list((tmp_path / "coin_width").glob("*.png"))
