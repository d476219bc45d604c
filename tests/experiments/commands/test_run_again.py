"""`ppl run --from`: the same run again, and whether its numbers are the same."""

import json
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.commands.run_again import _experiment
from experiments.report.errors import InputError
from experiments.report.gather import finished
from experiments.report.launch import digest
from experiments.report.script import scan

COIN = '''"""Is the coin fair?"""

import time
import torch
from beside_coin import SIDES


def options(parser):
    parser.add_argument("--tosses", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", default=["a"])
    parser.add_argument("--fast", action="store_true")


def main(run):
    generator = torch.Generator().manual_seed(run.seed)
    tosses = torch.randint(SIDES, (run.options.tosses,), generator=generator).double()
    heads = float(tosses.mean())
    run.table("t", [{"kind": k, "heads": heads, "seconds": time.time()} for k in run.options.kinds], "T.")
    run.metric("duration", time.time(), unit="s")
    run.metric("heads", float(tosses.mean()))
    run.claim("heads", float(tosses.mean()), 0.5, error=0.05)
'''


@pytest.fixture
def coin(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("coin.py").write_text(COIN)
    Path("beside_coin.py").write_text("SIDES = 2\n")
    flags = ["--seed", "3", "--tosses=40", "--kinds", "a", "b"]
    assert main(["run", "coin.py", "--out", "runs", *flags]) == 0
    capsys.readouterr()
    yield tmp_path / "runs" / "coin"
    sys.modules.pop("beside_coin", None)


def test_the_same_numbers(coin, capsys, monkeypatch):
    before = {path: path.read_bytes() for path in coin.iterdir()}
    monkeypatch.chdir("/")
    script = str(coin.parents[1] / "coin.py")
    assert main(["run", script, "--from", str(coin)]) == 0
    out = capsys.readouterr().out
    assert "t.csv: 4 values equal, 2 measured by a clock not compared" in out
    assert out.endswith("the same numbers, times aside\n")
    assert {path: path.read_bytes() for path in coin.iterdir()} == before
    again = json.loads((coin.parent / "again" / "coin" / "config.json").read_text())
    assert (again["seed"], again["options"]["tosses"], again["options"]["kinds"]) == (3, 40, ["a", "b"])
    # And the repetition can itself be repeated.
    second, third = str(coin.parent / "again" / "coin"), str(coin.parent / "third")
    assert main(["run", script, "--from", second, "--out", third]) == 0


@pytest.mark.parametrize("place", ["coin.py", "runs/coin/coin.py", "runs/coin/__main__.py"])
def test_a_folder_does_not_say_what_is_executed(coin, capsys, place):
    """What it names is not run, wherever it lies, whatever its digest; naming it on the command line is."""
    file = coin.parents[1] / place
    file.write_text(COIN + "\nopen('executed', 'w').close()\n")
    spoil(coin, file=str(file), **{"file sha256": digest(file)})
    assert main(["run", "--from", str(coin)]) == 2
    assert not Path("executed").exists()
    err = capsys.readouterr().err
    asked = file.parent if file.name == "__main__.py" else file
    assert f"name it: ppl run {asked} --from {coin}" in err
    assert main(["run", str(asked), "--from", str(coin)]) == 0
    assert Path("executed").exists()
    assert capsys.readouterr().out.endswith("the same numbers, times aside\n")


def test_a_script_that_differs_is_said_beside_the_numbers(coin, capsys):
    Path("coin.py").write_text(COIN + "# changed\n")
    assert main(["run", "coin.py", "--from", str(coin)]) == 0
    out = capsys.readouterr().out
    assert "  note: coin.py is not the script that made the run: it has changed since\n" in out
    assert out.endswith("the same numbers, times aside\n")


def test_what_a_folder_says_does_not_move_the_cursor(coin, capsys):
    spoil(coin, file="/\x1b[2Jcoin.py")
    assert main(["run", "--from", str(coin)]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_other_numbers_are_said(coin, capsys):
    Path("beside_coin.py").write_text("SIDES = 3\n")
    sys.modules.pop("beside_coin")
    assert main(["run", "coin.py", "--from", str(coin), "--out", "new"]) == 1
    out = capsys.readouterr().out
    assert "metrics.json: 1 of 3 values differ, numbers by up to" in out
    assert "heads value: was 0." in out
    assert out.endswith("NOT the same numbers\n")


def test_what_has_changed_is_warned_of(coin, capsys):
    Path("coin.py").write_text(COIN.replace("default=False", "") + "\n# changed\n")
    versions = json.loads((coin / "versions.json").read_text())
    (coin / "versions.json").write_text(json.dumps({**versions, "numpy": "0.1"}))
    assert main(["run", str(coin.parents[1] / "coin.py"), "--from", str(coin)]) == 0
    err = capsys.readouterr().err
    assert "coin.py is not the script that made the run: it has changed since\n" in err
    assert f"ppl: warning: numpy was 0.1, is {versions['numpy']}" in err
    assert err.count("warning") == 2


def test_a_default_that_changed_is_said(coin, capsys):
    Path("coin.py").write_text(COIN.replace('"--fast"', '"--quick"'))
    assert main(["run", "coin.py", "--from", str(coin)]) == 1
    assert "options was {'tosses': 40" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("label", "clock"),
    [
        ("p(y=1) by EM from the regression's answers", False),
        ("the regression’s answers", False),
        ("largest change by four times the points, nats", False),
        ("second: mean error / sd", False),
        ("seen 4 times in 5: mean off by (sd)", False),
        ("the price of the second memory", False),
        ("mean of s", False),
        ("s", False),
        ("seconds", True),
        ("median seconds of the first fit", True),
        ("first fit / s", True),
        ("by hand, ms", True),
        ("duration (s)", True),
        ("CPU ms", True),
        ("extra MB", True),
        ("slope of peak memory on rows", True),
        ("wall clock", True),
        ("fits faster than the peer's", True),
    ],
)
def test_what_a_clock_measures_is_told_by_its_unit(label, clock):
    from experiments.report.again import CLOCK

    assert bool(CLOCK.search(label)) == clock


def claims_in(folder, *claims):
    folder.mkdir()
    keys = ("text", "measured", "known", "relation")
    (folder / "claims.json").write_text(json.dumps([dict(zip(keys, one, strict=True)) for one in claims]))
    metrics = {"a fit": {"value": folder.stat().st_ino, "unit": "s of processor time"}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        (("the fit's answers", 0.1, 0.1, "equal"), ("the fit's answers", 0.2, 0.1, "equal"), True),
        (("a fit, seconds", 1.5, 2.0, "at most"), ("a fit, seconds", 1.7, 2.0, "at most"), False),
        (("a fit, seconds", 1.5, 2.0, "at most"), ("a fit, seconds", 1.5, 3.0, "at most"), True),
        (("a fit, seconds", 1.5, 2.0, "at most"), ("a fit, seconds", 1.5, 2.0, "at least"), True),
        (("a fit, seconds", 1.5, 2.0, "at most"), ("two fits, seconds", 1.5, 2.0, "at most"), True),
    ],
)
def test_what_a_claim_says_is_always_compared(tmp_path, old, new, differs):
    from experiments.report.again import compare_runs

    claims, metrics = compare_runs(claims_in(tmp_path / "old", old), claims_in(tmp_path / "new", new))
    assert claims.same != differs
    assert (metrics.compared, metrics.clocks) == (0, 2)


def test_nothing_compared_is_not_the_same(coin, capsys):
    Path("coin.py").write_text("def main(run):\n    run.metric('all of it', run.seed, unit='s')\n")
    assert main(["run", "coin.py", "--out", "bare"]) == 0
    assert main(["run", "coin.py", "--from", "bare/coin"]) == 1
    out = capsys.readouterr().out
    assert out.endswith("nothing was compared: the runs hold no numbers but those of a clock\n")
    assert "the same numbers" not in out


def spoil(coin, **changes):
    config = json.loads((coin / "config.json").read_text()) | changes
    (coin / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arguments": None}, "lacks arguments: an older version made it; repeat it by: ppl run coin.py"),
        ({"seconds": None}, "did not finish"),
        ({"command line": "ppl fit a.py:b --data c.npz"}, "repeat it by its own command: ppl fit a.py:b"),
        ({"file": "/nowhere/coin.py"}, "was made by /nowhere/coin.py, which is no experiment of this"),
    ],
)
def test_a_folder_that_cannot_be_run_again_says_why(coin, capsys, changes, words):
    spoil(coin, **changes)
    assert main(["run", "--from", str(coin)]) == 2
    assert words in capsys.readouterr().err


def test_bad_input(coin, capsys):
    for flags, words in (
        (["--from", "runs"], "runs is no run folder"),
        (["--from", str(coin), "--seed", "4"], "leave out --seed"),
        (["--from", str(coin), "--fast"], "leave out --fast"),
        (["--from", str(coin), "--out", "runs"], "the earlier run stands there"),
        (["none.py", "--from", str(coin)], "cannot read none.py"),
        (["beside_coin.py", "--from", str(coin)], "holds a run of coin, got the script beside_coin.py"),
        (["mean_field_bias", "--from", str(coin)], "holds a run of coin, got the script"),
        (["no_such", "--from", str(coin)], "no experiment no_such"),
    ):
        assert main(["run", *flags]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mean_field_bias", "bayes_inversion"])
def test_an_experiment_of_this_project_is_found_by_its_name(coin, name):
    """Wherever it stood, as a file or as a folder."""
    (script,) = [script for script in scan() if script.name == name]
    for file in (
        str(script.path),
        f"/elsewhere/experiments/{name}.py",
        f"/elsewhere/experiments/{name}/__main__.py",
    ):
        spoil(coin, name=name, file=file)
        assert _experiment(finished(coin), None)[0] == f"experiments.{name}"
    for file in (f"/elsewhere/{name}.py", f"/elsewhere/{name}/__main__.py"):
        spoil(coin, name=name, file=file)
        with pytest.raises(InputError, match="no experiment of this installation"):
            _experiment(finished(coin), None)


@pytest.mark.parametrize("name", ["peers", "report"])
def test_a_script_of_ones_own_may_bear_the_name_of_a_room(coin, name):
    """Also where it stands in a folder called experiments."""
    file = coin.parent / "experiments" / f"{name}.py"
    file.parent.mkdir()
    file.write_text("def main(run): pass\n")
    spoil(coin, name=name, file=str(file))
    with pytest.raises(InputError, match="no experiment of this installation"):
        _experiment(finished(coin), None)
    assert _experiment(finished(coin), file) == (file, file)


def test_a_folders_script_runs_again(coin, capsys):
    Path("dice").mkdir()
    Path("dice/__main__.py").write_text(COIN.replace("beside_coin", "beside_dice"))
    Path("dice/beside_dice.py").write_text("SIDES = 2\n")
    assert main(["run", "dice/__main__.py", "--out", "runs"]) == 0
    config = json.loads(Path("runs/dice/config.json").read_text())
    assert (config["name"], config["command line"]) == ("dice", "ppl run dice --out=runs")
    assert main(["run", "dice", "--from", "runs/dice"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("the same numbers, times aside\n")
    assert "__main__" not in out + err
    Path("dice/__main__.py").write_text(COIN.replace("beside_coin", "beside_dice") + "# changed\n")
    assert main(["run", "dice", "--from", "runs/dice", "--out", "third"]) == 0
    assert (
        "ppl: warning: dice is not the script that made the run: it has changed since"
        in capsys.readouterr().err
    )
    sys.modules.pop("beside_dice")


def test_a_run_from_before_the_script_had_a_folder_is_compared(tmp_path, capsys):
    """Its file stood flat in ``experiments/``; and a run of today is compared as well."""
    name, out = "misspecified_story", tmp_path / "out"
    assert main(["run", name, "--smoke", "--out", str(out)]) == 0
    for number, file in enumerate((f"{name}.py", f"{name}/__main__.py")):
        spoil(out / name, file=f"/elsewhere/experiments/{file}")
        assert main(["run", "--from", str(out / name), "--out", str(tmp_path / str(number))]) == 0
        assert capsys.readouterr().out.endswith("the same numbers, times aside\n")
        again = json.loads((tmp_path / str(number) / name / "config.json").read_text())
        assert again["file"].endswith(f"experiments/{name}/__main__.py")


def test_a_helper_that_has_changed_is_told(coin, capsys):
    """Of a script in a folder of its own, what stands beside it belongs to it."""
    Path("dice").mkdir()
    Path("dice/__main__.py").write_text(COIN.replace("beside_coin", "beside_dice"))
    Path("dice/beside_dice.py").write_text("SIDES = 2\n")
    assert main(["run", "dice", "--out", "runs"]) == 0
    Path("dice/beside_dice.py").write_text("SIDES = 2  # of a coin\n")
    capsys.readouterr()
    assert main(["run", "dice", "--from", "runs/dice", "--out", "again"]) == 0
    assert "dice is not the script that made the run" in capsys.readouterr().err
