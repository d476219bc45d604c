"""Every experiment runs with tiny settings and writes its report, also those added later."""

import json
import math
import os

import pytest

from experiments.cli import main
from experiments.report.script import scan

# bayes_inversion has a smoke run of its own, with more to look at.
NAMES = [script.name for script in scan() if script.name != "bayes_inversion"]
# What an experiment cannot do without: the environment variable that says where its data lie.
NEEDS = {"posteriordb": "PDB_PATH"}


@pytest.mark.parametrize("name", NAMES)
def test_smoke_run(name, tmp_path, capsys):
    if name in NEEDS and not os.environ.get(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is not set; the message is tested in {name}/test_main.py")
    assert main(["run", name, "--smoke", "--out", str(tmp_path)]) == 0
    assert "not judged" in capsys.readouterr().out
    folder = tmp_path / name
    page = (folder / "report.html").read_text()
    claims = json.loads((folder / "claims.json").read_text())
    assert claims, "an experiment ends with its claims"
    assert all(math.isfinite(claim["known"]) for claim in claims)
    assert list(folder.glob("*.png")), "an experiment has a figure that makes its point"
    assert "data:image" in page and "src=http" not in page
