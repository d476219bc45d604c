"""A run folder that an earlier version wrote is read, gathered and made again, with the same numbers.

``before_the_wings/which_loss`` was written by version 0.1.0 (commit bb77e7e), when the script still was the
file ``experiments/which_loss.py``; its figure and its page are left out, and the path of the machine. It is
not to be made anew. Four of its values are means of draws by ``fit_many``, which seeks modes all over the
prior by now and draws other numbers; that they are right within their errors the experiment claims.
"""

import shutil
from pathlib import Path

from experiments.commands.run_again import run_again
from experiments.report.again import compare_runs
from experiments.report.gather import finished
from experiments.report.index import write_index

FOLDER = Path(__file__).parent / "before_the_wings" / "which_loss"
BY_DRAWS = "forward KL from data"
ROUNDING = 1e-6  # of a number: a search in double precision, on another machine


def test_an_old_run_is_made_again_with_the_same_numbers(tmp_path, capsys):
    status = run_again(FOLDER, tmp_path)
    said = capsys.readouterr()
    assert "beside the earlier run" in said.out
    assert "__main__.py has changed" not in said.err and "which_loss" in said.err
    found = {one.file: one for one in compare_runs(FOLDER, tmp_path / "which_loss")}
    assert set(found) == {"best.csv", "claims.json", "metrics.json"}
    assert found["claims.json"].compared > 50 and found["best.csv"].compared > 25
    drawn = [words for words in found["claims.json"].different if BY_DRAWS in words]
    exact = [one for one in found.values() if one.file != "claims.json" or len(one.different) > len(drawn)]
    assert len(drawn) <= 4
    assert all(one.same or 0 < one.largest < ROUNDING for one in exact), said.out
    assert status == (0 if all(one.same for one in found.values()) else 1)


def test_an_old_run_is_read_and_gathered(tmp_path):
    run = finished(FOLDER)
    assert (run.name, run.smoke, run.config["seed"]) == ("which_loss", True, 0)
    shutil.copytree(FOLDER, tmp_path / "which_loss")
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert "which_loss" in page and run.config["question"] in page
