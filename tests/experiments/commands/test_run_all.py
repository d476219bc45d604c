"""`ppl run --all`: every experiment in a process of its own, whatever the others do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.commands import children
from experiments.report.gather import gather
from experiments.report.launch import digest
from experiments.report.script import scan

GOOD = '''"""Is one one?"""

ALONE = True


def main(run):
    run.table("t", [{"value": 0.1}], "A table.")
    run.claim("one", 1.0, 1.0)
'''
BAD = '''"""Is one two?"""


def main(run):
    run.claim("two", 1.0, 2.0, reason="one is not two")
'''
CRASH = '''"""What happens after a crash?"""


def main(run):
    run.table("t", [{"a": 1}], "A table.")
    raise RuntimeError("the coin fell")
'''
NEEDS = '''"""What if the data are missing?"""

from experiments.report.errors import InputError


def main(run):
    raise InputError("COIN_PATH is not set")
'''
PACKED = '''"""Is one still one in a folder?"""

from held import ONE


def main(run):
    run.table("t", [{"value": ONE}], "A table.")
    run.claim("one", ONE, 1.0)
'''
SLOW = '''"""Will it ever end?"""

import time


def main(run):
    run.table("t", [{"a": 1}], "A table.")
    time.sleep(600)
'''


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Five experiments, run together once: the folder, and what the command said."""
    folder = tmp_path_factory.mktemp("all")
    for name, text in {"good": GOOD, "bad": BAD, "crash": CRASH, "needs": NEEDS}.items():
        (folder / "coins" / name).parent.mkdir(exist_ok=True)
        (folder / "coins" / f"{name}.py").write_text(text)
    (folder / "coins" / "packed").mkdir()
    (folder / "coins" / "packed" / "__main__.py").write_text(PACKED)
    (folder / "coins" / "packed" / "held.py").write_text("ONE = 1.0\n")
    command = [
        sys.executable,
        "-m",
        "experiments.cli",
        "run",
        "--all",
        "coins",
        "--out",
        "out",
        "--jobs",
        "2",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return folder, done


def lines(text):
    return {line.split()[0]: line for line in text.splitlines() if line.strip()}


def test_a_crash_stops_no_other(ran):
    folder, done = ran
    assert (done.returncode, done.stderr) == (1, "")
    said = lines(done.stdout)
    assert "1 of 1 claims met" in said["good"]
    assert "1 of 1 claims met" in said["packed"]
    assert "__main__" not in done.stdout
    assert "0 of 1 claims met" in said["bad"]
    assert "CRASHED, RuntimeError: the coin fell (see out/crash.log)" in said["crash"]
    assert "not run: " in said["needs"]
    assert "COIN_PATH is not set" in said["needs"]
    summary = "2 without a claim that failed, 1 with claims not met, 1 crashed, 1 could not run here"
    assert summary in done.stdout


def test_the_logs_are_kept(ran):
    out = ran[0] / "out"
    for name in ("good", "packed"):
        assert "1 of 1 claims met" in (out / name / "log.txt").read_text()
    assert "RuntimeError: the coin fell" in (out / "crash.log").read_text()
    assert sorted(path.name for path in out.glob("*.log")) == ["crash.log", "needs.log"]
    assert "COIN_PATH is not set" in (out / "needs.log").read_text()
    assert len(list(out.glob("crash.partial-*"))) == 1


def test_it_ends_with_the_index(ran):
    text = (ran[0] / "out" / "index.html").read_text(encoding="utf-8")
    assert "Is one one?" in text
    assert "one is not two" in text
    assert "crash did not finish." in text


def test_what_must_be_alone_runs_last(ran):
    """The others end before it starts: its line is the last one."""
    told = [line.split()[0] for line in ran[1].stdout.splitlines()[:5]]
    assert told[-1] == "good"
    assert {script.name: script.alone for script in scan(ran[0] / "coins")} == {
        "bad": False, "crash": False, "good": True, "needs": False, "packed": False,
    }  # fmt: skip


def test_resume_leaves_out_what_is_done(ran, capsys, monkeypatch):
    monkeypatch.chdir(ran[0])
    for name in ("crash", "needs"):
        (Path("coins") / f"{name}.py").rename(f"{name}.py")
    before = Path("out/good/config.json").read_bytes()
    flags = ["run", "--all", "coins", "--out", "out", "--resume"]
    assert main(flags) == 1  # a claim of `bad` is still not met
    out = capsys.readouterr().out
    assert out.count("is there already") == 3
    assert Path("out/good/config.json").read_bytes() == before
    (Path("coins") / "bad.py").unlink()
    (Path("coins") / "good.py").write_text("def main(run):\n    raise SystemExit(7)\n")
    config = json.loads(before) | {"file sha256": digest(Path("coins/good.py"))}
    Path("out/good/config.json").write_text(json.dumps(config))
    assert main(flags) == 0
    assert capsys.readouterr().out.count("is there already") == 2
    for spoilt in (
        {"file sha256": json.loads(before)["file sha256"]},  # the script has been edited
        {"file sha256": None},
        {"seed": 5},
        {"smoke": True},
        {"arguments": ["--seed=0", "--tosses=3"]},
        {"arguments": None},
    ):
        changed = {**config, **spoilt}
        Path("out/good/config.json").write_text(
            json.dumps({k: v for k, v in changed.items() if v is not None})
        )
        assert main(flags) == 1
        assert "exit status 7" in capsys.readouterr().out


def test_an_interrupt_stops_the_children_and_keeps_what_is_done(tmp_path):
    (tmp_path / "coins").mkdir()
    (tmp_path / "coins" / "slow.py").write_text(SLOW)
    command = [
        sys.executable,
        "-m",
        "experiments.cli",
        "run",
        "--all",
        "coins",
        "--out",
        "out",
        "--jobs",
        "1",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    waited = time.monotonic()
    while not list(tmp_path.glob("out/slow.partial-*/t.csv")) and time.monotonic() - waited < 120:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ppl: interrupted" in err
    assert (tmp_path / "out" / "index.html").is_file()
    _, (left,) = gather(tmp_path / "out")
    assert left.name == "slow"
    assert left.last == "ppl: interrupted"
    assert not _running(str(tmp_path))


def test_none_that_could_run_is_no_success(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("coins").mkdir()
    Path("coins/needs.py").write_text(NEEDS)
    assert main(["run", "--all", "coins", "--out", "out"]) == 1
    assert "1 could not run here" in capsys.readouterr().out
    assert "COIN_PATH is not set" in Path("out/needs.log").read_text()


@pytest.mark.parametrize("number", children.STOPS)
def test_the_first_signal_interrupts_and_no_other(number):
    before = {one: signal.getsignal(one) for one in children.STOPS}
    with children.terminated():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        for one in children.STOPS:
            signal.raise_signal(one)
    assert {one: signal.getsignal(one) for one in children.STOPS} == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with children.terminated():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_leaves_no_child_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(children, "PATIENCE", 1.0)
    deaf = [shutil.which("sh"), "-c", "trap '' INT; echo deaf; exec sleep 60"]
    started = [subprocess.Popen(deaf, stdout=subprocess.PIPE, start_new_session=True) for _ in range(3)]
    for process in started:
        assert process.stdout.readline() == b"deaf\n"
        process.stdout.close()
    again = "import os, signal, time\nfor n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
    again += f"    time.sleep(0.1)\n    os.kill({os.getpid()}, n)\n"
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", again]) as signals:
        children.stop([children.Child(None, tmp_path, process) for process in started])
        assert signals.wait(10) == 0
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 3
    assert 1.0 <= time.monotonic() - began < 3.0  # one second for all of them, not each


def _running(word):
    """Processes whose folder or command line bears a word."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(place / "cwd").startswith(word):
                found.append(place.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--all", "nowhere"], "expected a folder of experiments"),
        (["--all", "."], "holds no experiment"),
        (["--all", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--all", "--jobs", "0"], "--jobs: expected an integer of at least 1, got 0"),
        (["--all", "--draws", "3"], "unrecognized arguments: --draws"),
        (["--all", "--from", "x"], "unrecognized arguments: --from"),
        (["--all", "--out", "file"], "cannot write to file"),
        (["coin.py", "--jobs", "2"], "unrecognized arguments: --jobs=2"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    if "coin.py" in flags:
        Path("coin.py").write_text(GOOD)
    assert main(["run", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_a_package_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    """A folder that came from elsewhere may hold an ``experiments/cli.py`` of its own."""
    (tmp_path / "coins").mkdir()
    (tmp_path / "coins" / "good.py").write_text(GOOD)
    (tmp_path / "experiments").mkdir()
    for name in ("__init__.py", "cli.py"):
        (tmp_path / "experiments" / name).write_text("open('executed', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--all", "coins", "--out", "out", "--jobs", "1"]) == 0
    assert not (tmp_path / "executed").exists()
    assert [run.name for run in gather(tmp_path / "out")[0]] == ["good"]
