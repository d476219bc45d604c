"""The scoreboard counts what is right, refused and wrong, and says what it could not measure."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from experiments.cli import main
from experiments.compare.chain_moments import Agreement
from experiments.peers import fresh
from experiments.posteriordb import __main__ as posteriordb
from experiments.posteriordb.figures import errors
from experiments.posteriordb.measures import (
    PeerTiming,
    ScoreboardEntry,
    all_but_warned,
    beside_each_other,
    markdown,
)
from experiments.report.run import Run

GOOD = Agreement(0.02, 0.03, "mu", "tau", within=True, right=True)
NOISY = Agreement(0.06, 0.03, "mu", "tau", within=False, right=True)
BAD = Agreement(0.5, 0.3, "mu", "tau", within=False, right=False)


def entry(name, found, trusted, guide="full_rank", method="svi+psis"):
    facts = {"trusted": trusted, "guide": guide, "method": method, "khat": 0.1, "gradient_calls": 20,
             "reasons": [] if trusted else ["k-hat is too large."]}  # fmt: skip
    return ScoreboardEntry(name, 10, 1.0, 0.1, found, found, facts)


def timed(library, name, seconds, errors=(GOOD, GOOD), trusted=(True, True), **notes):
    return PeerTiming(library, name, seconds, errors, trusted, notes)


def claims(run):
    return {claim.text: (claim.measured, claim.known, claim.met) for claim in run.claims}


def test_the_figure_marks_what_is_warned_of_and_what_is_refused():
    warned = replace(entry("a", NOISY, True), warned=(True, True))
    figure = errors([warned, entry("b", GOOD, True), entry("c", BAD, False)])
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[1:] == ["warned of in words", "refused"]
    order = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    inside = [to_hex(one.get_facecolor()[0]) for one in figure.axes[0].collections]
    plt.close(figure)
    assert inside[order.index("a")] == "#ffffff" != inside[order.index("b")]


def test_verdicts():
    assert entry("a", GOOD, True).verdict == "right"
    assert entry("a", NOISY, True).verdict == "WRONG"
    assert entry("a", BAD, False).verdict == "refused"
    assert entry("a", GOOD, True).rung == "full_rank + psis"
    assert entry("a", GOOD, True, method="svi").rung == "full_rank"


def test_a_tail_that_is_off_needs_a_note_that_names_it():
    short = replace(GOOD, tails={"o": 4.0, "s": 1.4})
    silent = entry("a", short, True)
    assert silent.untold_tails == ["o"] and silent.row()["tail mass: largest factor"] == 4.0
    told = replace(silent, facts={**silent.facts, "notes": ["o: its lower tail is not certain."]})
    elsewhere = replace(silent, facts={**silent.facts, "notes": ["s: its lower tail is not certain."]})
    assert told.untold_tails == [] and elsewhere.untold_tails == ["o"]
    assert entry("a", short, False).untold_tails == []


def test_a_warning_excuses_the_spread_of_what_it_names_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    reference = {n: torch.randn(10, 1000, generator=generator, dtype=torch.float64) for n in ("K", "beta")}
    wide = {"K": 2 * reference["K"], "beta": reference["beta"]}
    said = {"notes": ["K: its tails are so heavy (Pareto shape 0.51) that ..."]}
    assert all_but_warned(wide, reference, said)
    assert not all_but_warned(wide, reference, {"notes": ["beta: its tails are so heavy that ..."]})
    assert not all_but_warned(wide, reference, {"notes": []})
    assert not all_but_warned({**wide, "beta": 2 * wide["beta"]}, reference, said)
    assert not all_but_warned({**wide, "K": wide["K"] + 0.1}, reference, said)  # means are not excused


def test_right_refused_and_wrong_are_counted(tmp_path):
    run = Run("posteriordb", "?", tmp_path)
    found = [entry(f"p{k}", GOOD, True) for k in range(5)]
    posteriordb.errors(run, [*found, entry("off", NOISY, True), entry("out", BAD, False)], 1000)
    measured = claims(run)
    assert measured["posteriors trusted, every mean within .05 sd and every sd within 5 %, of 7"] == (
        5,
        6,
        False,
    )
    assert measured["posteriors refused"] == (1, 1, True)
    assert measured["posteriors trusted and wrong without a warning that names the quantity"] == (1, 0, False)
    table = (tmp_path / "scoreboard.md").read_text().splitlines()
    assert len(table) == 9 and table[0].startswith("| posterior |") and "| WRONG |" in table[7]
    texts = " ".join(block.text for block in run.blocks if hasattr(block, "text"))
    assert "out: refused; largest errors in mu and tau. k-hat is too large." in texts
    assert (tmp_path / "errors.png").stat().st_size > 10_000


def test_wrong_and_refused_fits_take_forever(tmp_path):
    ours, nuts, nutpie = (fresh.title(peer) for peer in (fresh.OURS, "numpyro_nuts", "nutpie"))
    timings = []
    for name in "abc":
        timings += [timed(ours, name, (1.0, 0.2)), timed(nuts, name, (4.0, 0.1), (GOOD, BAD)),
                    timed(nutpie, name, (10.0, 0.3))]  # fmt: skip
    timings[0] = timed(ours, "a", (1.0, 0.1), trusted=(False, True))
    run = Run("posteriordb", "?", tmp_path)
    posteriordb.times(run, timings)
    posteriordb.judge(run, timings, 3)
    measured = claims(run)
    assert (
        math.isinf(timings[0].first) and timings[0].state(0) == "refused" and timings[1].state(1) == "WRONG"
    )
    assert measured["median seconds of the first fit, 3 posteriors"] == (1.0, 2.0, True)
    assert measured[f"first fit, median of seconds / seconds of {nuts}"] == (0.25, 0.5, True)
    assert measured[f"first fit, median of seconds / seconds of {nutpie}"] == (0.1, 0.2, True)
    assert measured["median seconds of the second fit, 3 posteriors"] == (0.2, 0.3, True)
    # The second fit of NUTS is faster, but wrong.
    assert measured["second fits faster than the fastest right peer's, of 3"] == (3, 2, True)
    assert "not measured" in (tmp_path / "beside.md").read_text()
    assert (tmp_path / "times.png").stat().st_size > 10_000


def test_a_table_says_what_is_not_right():
    rows = beside_each_other(
        [timed("A", "a", (1.0, math.inf), failed="no"), timed("B", "a", (2.0, 3.0), (BAD, GOOD))], "ABC"
    )
    assert rows == [{"posterior": "a", "A": "failed / failed", "B": "2 WRONG / 3", "C": "not measured"}]
    assert markdown(rows).splitlines()[2] == "| a | failed / failed | 2 WRONG / 3 | not measured |"


def test_the_database_is_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("PDB_PATH", raising=False)
    assert main(["run", "posteriordb", "--smoke", "--out", str(tmp_path)]) == 2
    assert "PDB_PATH" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not Path(os.environ.get("PDB_PATH", ""), "posteriors").is_dir(), reason="PDB_PATH is not set"
)
def test_an_unknown_posterior_is_refused(tmp_path, capsys):
    assert main(["run", "posteriordb", "--only", "nes", "--out", str(tmp_path)]) == 2
    assert "--only: expected names such as arma-arma11, got nes" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(os.environ.get("PDB_PATH", ""), "posteriors").is_dir(), reason="PDB_PATH is not set"
)
def test_one_posterior_beside_every_peer(tmp_path):
    missing = {name for peer in fresh.peers() for name in fresh.absent(peer)}
    if missing:
        pytest.skip(f"{', '.join(sorted(missing))} not installed: pip install -e '.[peers]'")
    main(["run", "posteriordb", "--only", "nes1980-nes", "--draws", "1000", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "posteriordb" / "claims.json").read_text())
    assert len(found) == 8
    table = (tmp_path / "posteriordb" / "beside.md").read_text()
    assert not any(word in table for word in ("WRONG", "failed", "refused", "not measured"))
