"""`ppl` under limits on the size of files: one line says what was not written, the earlier run stands."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="resource limits are of POSIX")

ROOT = Path(__file__).parents[3]

SCRIPT = '''"""Does everything get written?"""

import matplotlib.pyplot as plt
import numpy as np


class Fitted:
    class certificate:
        trusted, reasons = True, ()

    def to_arviz(self):
        from inference.arviz_groups.build import build

        return build({"posterior": {"mu": np.random.default_rng(0).normal(size=(2, 500))}}, {}, {}, {})


def main(run):
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    run.figure("line", figure, "A line.")
    run.table("rows", [{"a": 1}], "A row.")
    run.posterior("fit", Fitted())
    run.claim("one", 1.0, 1.0)
'''

STORY = """
import pyro
import pyro.distributions as dist


def height(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, 2.0))
"""

# Runs a command once freely, then under every limit; prints the exit status and what lies there.
CHILD = """
import resource, sys
from pathlib import Path
import matplotlib.pyplot
from experiments.cli import main

out, limits, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
command += ["--out", str(out)]
first = main(command)
(name,) = [folder.name for folder in out.iterdir()]
files = lambda: {file: file.read_bytes() for file in (out / name).rglob("*") if file.is_file()}
before = files()
most = max(map(len, before.values()))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for tenth in map(int, limits.split(",")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most * tenth // 10, hard))
    status = main(command)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    hidden = [str(file) for file in out.rglob(".*")]
    print("RESULT", first, status, files() == before, hidden)
"""


def limited(tmp_path, limits, *command):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path / "out"), limits, *command],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    errors = [line for line in done.stderr.splitlines() if ": error: " in line]
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert len(errors) == len(results) == len(limits.split(","))
    assert all("could not be" in line and "File too large" in line for line in errors)
    assert all(str(tmp_path / "out") in line for line in errors)
    return results


def test_ten_limits_for_a_run(tmp_path):
    (tmp_path / "all.py").write_text(SCRIPT)
    limits = ",".join(map(str, range(10)))
    results = limited(tmp_path, limits, "run", str(tmp_path / "all.py"))
    assert results == ["RESULT 0 2 True []"] * 10


def test_a_limit_for_a_fit(tmp_path):
    (tmp_path / "height.py").write_text(STORY)
    np.savez(tmp_path / "data.npz", x=np.array([3.0, 5.0, 4.0, 8.0]))
    command = ["fit", str(tmp_path / "height.py"), "--data", str(tmp_path / "data.npz"), "--draws", "100"]
    assert limited(tmp_path, "0,2", *command) == ["RESULT 0 2 True []"] * 2
