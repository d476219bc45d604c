"""A full disk and a limit on the size of files: an error in words, and nothing that was there is lost.

The work is done in a process of its own, since what it must not do is end the process.
"""

import inspect
import subprocess
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, load

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="resource limits and mounts are of POSIX")

ROOT = Path(__file__).parents[3]
DATA = {"x": torch.tensor([3.0, 5.0, 4.0, 8.0])}


def height(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, 2.0))


HEAD = f"""
import resource, sys
from pathlib import Path
import pyro, torch
import pyro.distributions as dist
from inference import fit, load
from inference.arviz_groups.build import write_netcdf

path, data = Path(sys.argv[1]), {{"x": torch.tensor([3.0, 5.0, 4.0, 8.0])}}

{inspect.getsource(height)}
"""

# Saves where there is room, then ten times under a limit; a line for each error.
LIMITED = """
kept, other = (fit(height, data, restarts=2, draws=200, seed=seed) for seed in (0, 1))
idata = other.to_arviz(predictive=4)
kept.save(path / "posterior")
write_netcdf(kept.to_arviz(predictive=4), path / "idata.nc")
before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
most = (path / "posterior" / "posterior.nc").stat().st_size
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for tenth in range(10):
    for write in (lambda: other.save(path / "posterior"), lambda: write_netcdf(idata, path / "idata.nc")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most * tenth // 10, hard))
        try:
            write()
            said = "written"
        except OSError as error:
            said = f"{error}"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print(said, {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before)
again = load(path / "posterior", height)
assert all(torch.equal(again.draws[name], kept.draws[name]) for name in kept.draws)
"""

FULL = """
kept = fit(height, data, restarts=1, draws=500)
large = fit(height, data, restarts=1, draws=20000)
kept.save(path)
try:
    large.save(path)
except OSError as error:
    print(error)
again = load(path, height)
assert all(torch.equal(again.draws[name], kept.draws[name]) for name in kept.draws)
print(sorted(file.name for file in path.parent.iterdir()))
"""


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + code, *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if done.returncode:
        pytest.skip(f"a file system of 300 kB cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_ten_limits_on_the_size_of_a_file(tmp_path):
    lines = python(LIMITED, tmp_path)
    assert len(lines) == 20
    for number, line in enumerate(lines):
        what, file = (
            ("the posterior could not be saved", "posterior")
            if number % 2 == 0
            else ("bytes could not be written", "idata.nc")
        )
        assert f"{what}: File too large; what stood there before is as it was: '{tmp_path / file}'" in line
        assert line.endswith(" True")


def test_a_full_disk(small_disk):
    said, files = python(FULL, small_disk / "posterior")
    assert "the posterior could not be saved: No space left on device" in said
    assert str(small_disk / "posterior") in said
    assert files == "['posterior']"


@pytest.fixture(scope="module")
def posterior():
    return fit(height, DATA, restarts=1, draws=60)


@pytest.mark.parametrize("file", ["posterior.nc", "tensors.safetensors"])
def test_a_file_that_was_not_copied_whole_is_named(posterior, tmp_path, file):
    posterior.save(tmp_path / "p")
    path = tmp_path / "p" / file
    whole = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(ValueError, match=rf"^path: .*{file} is damaged, or was not copied whole: "):
            load(tmp_path / "p", height)
    path.unlink()
    with pytest.raises(ValueError, match=rf"^path: .*{file} is missing"):
        load(tmp_path / "p", height)
    path.write_bytes(whole)
    assert torch.equal(load(tmp_path / "p", height).draws["mu"], posterior.draws["mu"])
