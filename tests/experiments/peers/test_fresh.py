"""Fits in processes of their own, and what they write."""

import math

import numpy as np
import pytest

from experiments.peers import fresh
from experiments.peers.timing import TimedFit, failed, read, twice, write


def test_what_is_written_is_read(tmp_path):
    draws = {"mu": np.arange(8.0).reshape(4, 2), "beta": np.ones((4, 2, 3))}
    done = TimedFit(1.5, 0.25, draws, {"mu": -draws["mu"]}, {"divergent": [0, 3], "khat": -math.inf})
    write(tmp_path / "fit.npz", done)
    found = read(tmp_path / "fit.npz")
    assert (found.first_seconds, found.second_seconds, found.notes) == (1.5, 0.25, dict(done.notes))
    assert found.draws.keys() == draws.keys() and found.again.keys() == {"mu"}
    assert all(np.array_equal(found.draws[name], draws[name]) for name in draws)
    assert np.array_equal(found.again["mu"], -draws["mu"])
    assert [path.name for path in tmp_path.iterdir()] == ["fit.npz"]


def test_both_fits_are_timed_each_with_its_seed():
    seeds = []

    def fit(seed):
        seeds.append(seed)
        return {"mu": np.full((4, 5), seed)}

    done = twice(fit, 7)
    assert seeds == [7, 8] and done.draws["mu"].max() == 7 and done.again["mu"].min() == 8
    assert 0 < done.first_seconds < 5 and 0 < done.second_seconds < 5


def test_peers_are_found_and_named():
    assert fresh.peers() == ["numpyro_nuts", "numpyro_svi", "nutpie"]
    assert len({fresh.title(peer) for peer in (*fresh.peers(), fresh.OURS)}) == 4
    with pytest.raises(ValueError, match="peer: expected one of .*nutpie.*got 'stan'"):
        fresh.title("stan")


def test_a_peer_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(fresh.importlib.util, "find_spec", lambda name: None)
    assert fresh.absent("numpyro_svi") == ["jax", "numpyro"]
    with pytest.raises(ValueError, match=r"numpyro_svi needs jax, numpyro: pip install -e '.\[peers\]'"):
        fresh.fresh_run("numpyro_svi", "sblri-blr")


def test_a_failure_is_a_fit_that_never_ended(monkeypatch):
    monkeypatch.setenv("PDB_PATH", "/nowhere")
    done = fresh.fresh_run(fresh.OURS, "sblri-blr")
    assert math.isinf(done.first_seconds) and math.isinf(done.second_seconds) and not done.draws
    assert "PDB_PATH" in done.notes["failed"]


def test_a_fit_that_takes_too_long_is_ended():
    done = fresh.fresh_run(fresh.OURS, "sblri-blr", limit=0.05)
    assert done.notes == failed("took longer than 0 s").notes and math.isinf(done.first_seconds)


def test_caches_on_disk_are_empty(monkeypatch):
    monkeypatch.setenv("PYTENSOR_FLAGS", "floatX=float64")
    found = fresh._without_caches("/some/folder")
    assert found["PYTENSOR_FLAGS"] == "floatX=float64,base_compiledir=/some/folder/pytensor"
    assert found["TORCHINDUCTOR_CACHE_DIR"].startswith("/some/folder/")
