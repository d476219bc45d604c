"""From a file with `main(run)` to a run folder: statuses, messages, and what survives a failure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.report import launch

ROOT = Path(__file__).parents[3]
FILES = {"config.json", "metrics.json", "claims.json", "versions.json", "contents.json", "report.html"}

SCRIPT = '''"""Is the coin fair?

Expected: yes.
"""

from experiments.report import launch


def options(parser):
    parser.add_argument("--tosses", type=int, default=100, help="how many tosses")
    parser.add_argument("--fail", action="store_true")


def main(run):
    run.section("Tosses", "Of one coin.")
    run.table("tosses", [{"heads": run.options.tosses // 2}], "Counted.")
    if run.options.fail:
        raise RuntimeError("the coin fell off the table")
    run.metric("heads", 0.5, error=0.01)
    run.claim("share of heads", 0.5 + run.seed, 0.5, source="a fair coin")


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
'''


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "coin.py"
    path.write_text(SCRIPT)
    return path


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def test_a_run_writes_everything(script, tmp_path, capsys):
    status = launch(script, ["--out", str(tmp_path / "out"), "--tosses", "10"])
    folder = tmp_path / "out" / "coin"
    assert status == 0
    assert {path.name for path in folder.iterdir()} == FILES | {"tosses.csv"}
    config = read(folder, "config")
    assert (config["name"], config["question"]) == ("coin", "Is the coin fair?")
    assert (config["seed"], config["smoke"]) == (0, False)
    assert config["options"] == {"tosses": 10, "fail": False}
    assert config["command line"].endswith("--tosses 10")
    assert config["seconds"] >= 0
    assert read(folder, "metrics") == {"heads": {"value": 0.5, "error": 0.01, "unit": ""}}
    assert [claim["met"] for claim in read(folder, "claims")] == [True]
    assert {"python", "torch", "arviz", "ppl-workbench"} <= set(read(folder, "versions"))
    out = capsys.readouterr().out
    assert "share of heads" in out
    assert "1 of 1 claims met" in out
    assert str(folder / "report.html") in out


def test_a_claim_that_fails_is_exit_status_one_but_a_full_report(script, tmp_path, capsys):
    assert launch(script, ["--out", str(tmp_path), "--seed", "1"]) == 1
    assert [claim["met"] for claim in read(tmp_path / "coin", "claims")] == [False]
    assert "NOT MET" in capsys.readouterr().out
    assert "0 of 1 claims met" in (tmp_path / "coin" / "report.html").read_text(encoding="utf-8")


def test_smoke_judges_nothing(script, tmp_path, capsys):
    assert launch(script, ["--out", str(tmp_path), "--seed", "1", "--smoke"]) == 0
    assert [claim["met"] for claim in read(tmp_path / "coin", "claims")] == [None]
    out = capsys.readouterr().out
    assert "not judged" in out
    assert "NOT MET" not in out


def test_a_second_run_keeps_the_first(script, tmp_path, capsys):
    launch(script, ["--out", str(tmp_path / "out"), "--tosses", "10"])
    launch(script, ["--out", str(tmp_path / "out"), "--tosses", "20"])
    (old,) = (tmp_path / "out").glob("coin.before-*")
    assert read(old, "config")["options"]["tosses"] == 10
    assert read(tmp_path / "out" / "coin", "config")["options"]["tosses"] == 20
    assert f"the run that stood there is now {old}" in capsys.readouterr().out


def test_a_failing_run_raises_leaves_the_earlier_one_and_says_where_it_is(script, tmp_path, capsys):
    out = tmp_path / "out"
    launch(script, ["--out", str(out)])
    report = (out / "coin" / "report.html").read_bytes()
    capsys.readouterr()
    with pytest.raises(RuntimeError, match="fell off"):
        launch(script, ["--out", str(out), "--fail"])
    (partial,) = out.glob("coin.partial-*")
    assert {path.name for path in partial.iterdir()} == {"config.json", "tosses.csv"}
    assert (out / "coin" / "report.html").read_bytes() == report
    assert capsys.readouterr().err == f"the run did not finish; what it wrote is in {partial}\n"


def test_an_interrupted_run_is_130(script, tmp_path, capsys):
    script.write_text(SCRIPT.replace('RuntimeError("the coin fell off the table")', "KeyboardInterrupt"))
    assert launch(script, ["--out", str(tmp_path / "out"), "--fail"], prog="ppl run coin") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "ppl: interrupted"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["--toss", "3"], "unrecognized arguments: --toss 3"),
        (["--out", "coin.py"], "cannot write to coin.py/coin: "),
    ],
)
def test_bad_flags_are_one_line_and_exit_status_two(script, capsys, monkeypatch, flags, words):
    monkeypatch.chdir(script.parent)
    assert launch(script, flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"coin: error: {words}")
    assert err.count("\n") == 1
    assert [path.name for path in script.parent.iterdir()] == ["coin.py"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "is not an experiment: it has no function main(run)"),
        ("def main(:\n", "is not a Python file, line 1"),
        (None, "cannot read"),
    ],
)
def test_other_files_are_no_experiments(tmp_path, capsys, text, words):
    path = tmp_path / "other.py"
    if text is not None:
        path.write_text(text)
    assert launch(path, ["--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_the_flags_of_an_experiment_stand_in_its_help(script, capsys):
    with pytest.raises(SystemExit) as stop:
        launch(script, ["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for part in ("Expected: yes.", "--seed", "--out", "--smoke", "--tosses", "how many tosses"):
        assert part in out


def test_a_script_run_by_python_is_not_executed_twice(script, tmp_path):
    script.write_text(SCRIPT.replace("def options", 'print("executed")\n\n\ndef options'))
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("executed") == 1
    assert (tmp_path / "out" / "coin" / "report.html").is_file()


@pytest.fixture
def packed(tmp_path):
    """The same experiment with a helper: a folder."""
    path = tmp_path / "coin" / "__main__.py"
    path.parent.mkdir()
    path.write_text(SCRIPT.replace("0.5 + run.seed", "share(run.seed)").replace(
        "\ndef options", "\nfrom shares import share\n\nprint(\"executed\")\n\n\ndef options"
    ))  # fmt: skip
    (path.parent / "shares.py").write_text("def share(seed):\n    return 0.5 + seed\n")
    return path


def test_a_folders_script_bears_its_folders_name(packed, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(packed.parent)
    assert launch(packed, ["--out", str(tmp_path / "out"), "--tosses", "10"]) == 0
    config = read(tmp_path / "out" / "coin", "config")
    assert (config["name"], config["file"]) == ("coin", str(packed))
    assert config["command line"].startswith("python coin --out ")
    with pytest.raises(SystemExit):
        launch(packed, ["--help"])
    assert launch(packed, ["--toss", "3"]) == 2
    out, err = capsys.readouterr()
    assert out.count("usage: coin [-h]") == 1
    assert err == "coin: error: unrecognized arguments: --toss 3 (see coin --help)\n"
    assert "__main__" not in out + err
    sys.modules.pop("shares")


@pytest.mark.parametrize("target", ["coin", "coin/__main__.py", "-m coin"])
def test_python_runs_a_folders_script_once(packed, tmp_path, target):
    if target.startswith("-m"):
        packed.write_text(packed.read_text().replace("from shares", "from coin.shares"))
    done = subprocess.run(
        [sys.executable, *target.split(), "--out", str(tmp_path / "out")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("executed") == 1
    assert (tmp_path / "out" / "coin" / "report.html").is_file()


def python(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "usage"), [("way_back", "way_back"), ("overfitting", "overfitting.py")])
def test_the_projects_modules_show_their_help_by_name(tmp_path, name, usage):
    done = python(tmp_path, f"experiments.{name}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {usage} [-h]")
    assert f"OUT/{name}/" in done.stdout
    assert "__main__" not in done.stdout


def test_a_packaged_module_of_the_project_runs(tmp_path):
    done = python(tmp_path, "experiments.misspecified_story", "--smoke", "--out", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "not judged" in done.stdout
    assert read(tmp_path / "out" / "misspecified_story", "config")["name"] == "misspecified_story"
