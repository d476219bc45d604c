"""The command `ppl`: its exit statuses, its messages, and what it loads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import main

ROOT = Path(__file__).parents[2]

STORY = '''
import pyro, torch
import pyro.distributions as dist


def line(n, covariates):
    """A line through points, with known noise."""
    slope = pyro.sample("slope", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("y", dist.Normal(covariates @ slope, 0.5))


def coin(n):
    bias = pyro.sample("bias", dist.Beta(2.0, 2.0))
    with pyro.plate("toss", n, dim=-1):
        pyro.sample("heads", dist.Bernoulli(bias))


def broken(n):
    with pyro.plate("toss", n, dim=-1):
        pyro.sample("heads", dist.Bernoulli(torch.ones(3)))


def nothing(n):
    return n


EXAMPLE = ((4, torch.tensor([[1.0, 2.0], [0.5, -1.0], [-2.0, 0.3], [1.5, 1.5]])),
           {"y": torch.tensor([1.1, -0.7, 2.0, 0.3])})
'''

EXPERIMENT = '''"""Is one more than zero?"""

from experiments.report import launch
from beside_experiment import ONE


def options(parser):
    parser.add_argument("--known", type=float, default=1.0, help="what is known")


def main(run):
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots()
    axis.plot([0, ONE])
    run.figure("line", figure, "From zero to one.")
    run.claim("one", ONE + run.seed, run.options.known)


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("line.py").write_text(STORY)
    Path("one.py").write_text(EXPERIMENT)
    Path("beside_experiment.py").write_text("ONE = 1.0\n")
    yield tmp_path
    sys.modules.pop("beside_experiment", None)


@pytest.fixture
def ppl(capsys):
    """Run the command in this process: its exit status, output and errors."""

    def call(*argv):
        capsys.readouterr()
        status = main([str(argument) for argument in argv])
        return status, *capsys.readouterr()

    return call


def refused(result):
    """The one line of a refusal, which must be all that was said."""
    status, out, err = result
    assert status == 2
    assert out == ""
    assert err.startswith("ppl: error: ")
    assert err.count("\n") == 1
    return err


def in_a_new_process(*argv, names=()):
    code = (
        "import sys\nfrom experiments.cli import main\n"
        f"try:\n    status = main({list(argv)!r})\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        f"print(status, sorted({set(names)!r} & set(sys.modules)), file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["list"], [], ["run", "--help"], ["check", "--help"],
             ["fit", "--help"], ["run", "no_such_experiment"]],
)  # fmt: skip
def test_what_needs_no_torch_does_not_load_it(argv):
    heavy = ["torch", "pyro", "arviz", "matplotlib", "seaborn", "sklearn", "pandas", "numpy"]
    done = in_a_new_process(*argv, names=heavy)
    status = 2 if "no_such_experiment" in argv else 0
    assert done.stderr.splitlines()[-1] == f"{status} []"


def test_help_has_examples_and_exit_statuses(ppl):
    status, out, _ = ppl()
    assert status == 0
    for words in ("ppl run bayes_inversion", "ppl check", "ppl fit", "exit status"):
        assert words in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("fit", ["__mask", "--data", "--guide", "3 if it was fitted"]),
        ("check", ["EXAMPLE", "--args"]),
    ],
)
def test_a_command_documents_its_input(capsys, command, words):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert [word for word in words if word not in out] == []


def test_list_has_one_line_for_each_experiment(ppl):
    status, out, _ = ppl("list")
    assert status == 0
    for name in ("bayes_inversion", "mean_field_bias"):  # a folder and a file
        (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert len(line.split(maxsplit=1)[1]) > 20
    assert "__main__" not in out
    assert not [line for line in out.splitlines() if line.startswith(("cli", "report", "commands"))]


def test_a_script_of_ones_own_runs(folder, ppl):
    status, out, _ = ppl("run", "one.py", "--out", "runs")
    assert status == 0
    assert "1 of 1 claims met" in out
    assert {path.name for path in Path("runs/one").iterdir()} >= {"report.html", "line.png"}
    config = json.loads(Path("runs/one/config.json").read_text())
    assert config["command line"] == "ppl run one.py --out=runs"


@pytest.mark.parametrize("target", ["mine/three/__main__.py", "mine/three"])
def test_a_script_with_helpers_runs_by_its_file_and_by_its_folder(folder, ppl, capsys, target):
    Path("mine/three").mkdir(parents=True)
    Path("one.py").rename("mine/three/__main__.py")
    Path("beside_experiment.py").rename("mine/three/beside_experiment.py")
    status, out, _ = ppl("run", target, "--out", "runs")
    assert status == 0
    assert "1 of 1 claims met" in out
    config = json.loads(Path("runs/three/config.json").read_text())
    assert (config["name"], config["command line"]) == ("three", "ppl run mine/three --out=runs")
    with pytest.raises(SystemExit):
        main(["run", target, "--help"])
    assert capsys.readouterr().out.startswith("usage: ppl run mine/three [-h]")
    assert "see ppl run mine/three --help" in refused(ppl("run", target, "--knwon", "2"))


@pytest.mark.parametrize("name", ["way_back", "overfitting"])
def test_both_forms_of_the_projects_experiments_run_by_name(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", name, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: ppl run {name} [-h]")
    assert "__main__" not in out


def test_flags_may_stand_before_the_name_too(folder, ppl):
    assert ppl("run", "--seed", "1", "one.py", "--known", "2")[0] == 0
    assert ppl("run", "--smoke", "--seed=1", "one.py")[0] == 0
    assert ppl("run", "one.py", "--seed", "1")[0] == 1
    assert len(list(Path("results").glob("one.before-*"))) == 2


def test_run_help_shows_the_experiments_own_flags(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "one.py", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "Is one more than zero?" in out
    assert "--known" in out


def test_a_bug_in_an_experiment_keeps_its_traceback(folder):
    Path("one.py").write_text(EXPERIMENT.replace("ONE + run.seed", "1 / 0"))
    with pytest.raises(ZeroDivisionError):
        main(["run", "one.py"])


def test_ctrl_c_is_130_and_one_line(folder, ppl):
    Path("one.py").write_text(EXPERIMENT.replace("import matplotlib", "raise KeyboardInterrupt\n    #"))
    assert ppl("run", "one.py") == (130, "", "ppl: interrupted\n")
    assert list(Path("results").iterdir()) == []


def test_an_unknown_experiment_suggests_the_closest(ppl):
    assert "no experiment bayes_invertion; did you mean bayes_inversion?" in refused(
        ppl("run", "bayes_invertion")
    )
    assert "ppl list shows them all" in refused(ppl("run", "zzzzzz"))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run"], "run: expected an experiment"),
        (["runn"], "invalid choice"),
        (["list", "--all"], "unrecognized arguments: --all"),
        (["run", "none.py"], "cannot read none.py: No such file"),
        (["run", "line.py"], "is not an experiment"),
        (["run", "one.py", "--out", "line.py"], "cannot write to line.py/one"),
        (["run", "one.py", "--known", "much"], "argument --known: invalid float value"),
        (["check"], "arguments are required: FILE:STORY"),
        (["check", "none.py:f"], "cannot read none.py"),
        (["check", "line.py:lines"], "did you mean line?"),
        (["check", "line.py:nothing", "--args", "[1]"], "nothing is not a story"),
        (["check", "line.py:coin", "--args", "[1"], "--args is not JSON"),
        (["check", "line.py:coin", "--args", "[1, 2, 3]"], "cannot be called with 3 positional"),
        (["check", "data.npz:f"], "is not a Python file"),
        (["check", "line.py:coin", "--args", "[3]", "--out", "one.py"], "cannot write to one.py"),
        (["fit", "line.py:line"], "arguments are required: --data"),
        (["fit", "line.py:line", "--data", "none.npz"], "cannot read none.npz"),
        (["fit", "line.py:line", "--data", "line.py"], "line.py is not an npz file"),
        (["fit", "line.py:none", "--data", "data.npz"], "has no story none"),
        (["fit", "line.py:line", "--data", "data.npz", "--draws", "0"], "at least 1, got 0"),
        (["fit", "line.py:coin", "--data", "data.npz"], "'y' is not a sample site of coin"),
        (["fit", "line.py:line", "--data", "data.npz", "--guide", "wide"], "guide: "),
        (["fit", "line.py:line", "--data", "nan.npz"], "data['y']: expected finite numbers"),
        (["fit", "line.py:line", "--data", "data.npz", "--args", "[3]"], "line cannot be run with"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_status_two(folder, ppl, argv, words):
    covariates = np.ones((5, 2))
    np.savez("data.npz", y=np.zeros(5), covariates=covariates)
    np.savez("nan.npz", y=np.full(5, np.nan), covariates=covariates)
    before = sorted(path.name for path in folder.iterdir())
    result = ppl(*argv)
    if argv[0] == "check" and "--out" in argv:
        # What was found is printed before anything is written.
        result = (result[0], "", result[2])
    assert words in refused(result)
    after = {path.name for path in folder.iterdir()} - {"__pycache__", "results"}
    assert sorted(after) == before
    assert not list(folder.glob("results/*"))


def test_check_of_a_story_with_an_example(folder, ppl):
    status, out, err = ppl("check", "line.py:line", "--out", "checks")
    assert (status, err) == (0, "")
    assert "line is well formed" in out
    assert "finite at 5 of 5 draws of the prior" in out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "latent" in lines["slope"]
    assert "data" in lines["y"]
    assert "4 |" in lines["y"]
    made = {path.name for path in Path("checks/check_line").iterdir()}
    assert made >= {"prior_predictive.png", "sites.csv", "report.html"}


def test_check_of_a_module_by_its_name(folder, ppl):
    status, out, _ = ppl("check", "ppl_models.linear_regression:linear_regression")
    assert status == 0
    assert "linear_regression is well formed" in out


def test_check_of_a_story_that_fails_is_exit_status_one(folder, ppl):
    status, out, err = ppl("check", "line.py:broken", "--args", "[4]")
    assert (status, err) == (1, "")
    assert "Shape mismatch inside plate('toss')" in out
    assert "(line.py, line " in out
    assert out.endswith("broken is NOT well formed\n")
    assert not Path("results").exists()


@pytest.fixture
def data(folder):
    generator = np.random.default_rng(5)
    covariates = generator.normal(size=(40, 2))
    y = covariates @ [1.0, -2.0] + 0.5 * generator.normal(size=40)
    np.savez("data.npz", y=y, covariates=covariates)
    return covariates, y


def exact_slope(covariates, y):
    """Mean and covariance of the slopes: noise .5, prior standard deviation 10."""
    covariance = np.linalg.inv(covariates.T @ covariates / 0.25 + np.eye(2) / 100)
    return covariance @ covariates.T @ y / 0.25, covariance


def test_fit_prints_saves_and_is_trusted(data, ppl):
    status, out, err = ppl("fit", "line.py:line", "--data", "data.npz", "--out", "fits")
    assert (status, err) == (0, "")
    assert out.startswith("TRUSTED")
    assert "slope[0]" in out
    made = {path.name for path in Path("fits/fit_line").iterdir()}
    assert made >= {"report.html", "line.nc", "line_summary.csv", "posterior.png", "data.csv"}
    report = Path("fits/fit_line/report.html").read_text(encoding="utf-8")
    assert "What does data.npz say about line?" in report
    assert "def line(n, covariates):" in report


def test_the_saved_posterior_is_the_exact_one(data, ppl):
    import arviz

    import inference
    from experiments.report.script import import_file

    ppl("fit", "line.py:line", "--data", "data.npz")
    mean, covariance = exact_slope(*data)
    stddev = np.sqrt(np.diag(covariance))
    idata = arviz.from_netcdf("results/fit_line/line.nc")
    loaded = inference.load(Path("results/fit_line/posterior"), import_file(Path("line.py")).line)
    for slope in (np.asarray(idata["posterior"]["slope"]), loaded.draws["slope"].numpy()):
        draws = slope.reshape(-1, 2)
        # Importance-resampled draws are nearly independent: 4 Monte Carlo standard errors.
        error = 4 * stddev / np.sqrt(len(draws))
        assert np.all(np.abs(draws.mean(0) - mean) < error)
        assert np.all(np.abs(draws.std(0) - stddev) < error)


def test_missing_values_are_said_with_a_mask(data, ppl):
    covariates, y = data
    missing = np.arange(40) < 30
    spoilt = np.where(missing, 1e6, y)
    np.savez("half.npz", y=spoilt, y__mask=missing, covariates=covariates)
    status, _, _ = ppl("fit", "line.py:line", "--data", "half.npz")
    assert status == 0
    import arviz

    mean, covariance = exact_slope(covariates[~missing], y[~missing])
    slope = np.asarray(arviz.from_netcdf("results/fit_line/line.nc")["posterior"]["slope"])
    error = 4 * np.sqrt(np.diag(covariance)) / np.sqrt(slope[..., 0].size)
    assert np.all(np.abs(slope.reshape(-1, 2).mean(0) - mean) < error)
    assert "y,40,30" in Path("results/fit_line/data.csv").read_text()


def test_a_fit_that_is_not_trusted_is_exit_status_three(data, ppl):
    status, out, _ = ppl("fit", "line.py:line", "--data", "data.npz", "--restarts", "1")
    assert status == 3
    assert out.startswith("NOT TRUSTED")
    assert "This posterior is NOT TRUSTED" in out.splitlines()[-1]
    assert Path("results/fit_line/report.html").is_file()


def test_an_argument_may_come_from_args(data, ppl):
    covariates, y = data
    np.savez("short.npz", y=y[:3])
    text = json.dumps({"covariates": covariates[:3].tolist()})
    assert ppl("fit", "line.py:line", "--data", "short.npz", "--args", text)[0] in (0, 3)
    np.savez("both.npz", y=y[:3], covariates=covariates[:3])
    assert "covariates is given by --args and in the data file" in refused(
        ppl("fit", "line.py:line", "--data", "both.npz", "--args", text)
    )
