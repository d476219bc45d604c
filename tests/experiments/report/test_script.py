"""Experiments are found without executing them."""

import inspect
import sys

import pytest

from experiments.report.errors import InputError
from experiments.report.script import beside, import_file, load, name_of, scan

EXPERIMENT = '"""{}"""\nraise SystemError("executed")\ndef main({}): pass\n'


def test_experiments_are_found_by_their_main_and_not_executed(tmp_path):
    (tmp_path / "b.py").write_text(EXPERIMENT.format("Is it b?\n\nMore.", "run"))
    (tmp_path / "a.py").write_text(EXPERIMENT.format("\nIs it a?", "run, extra=1"))
    (tmp_path / "cli.py").write_text(EXPERIMENT.format("A command.", "argv=None"))
    (tmp_path / "room.py").write_text('"""No main."""\n')
    (tmp_path / "plain.py").write_text("def main(run): pass\n")
    found = [(script.name, script.question) for script in scan(tmp_path)]
    assert found == [("a", "Is it a?"), ("b", "Is it b?"), ("plain", "plain")]


def test_an_experiment_with_helpers_is_a_folder_of_its_name(tmp_path):
    for name, text in {"b": EXPERIMENT.format("Is it b?", "run"), "room": "def main(): pass\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__main__.py").write_text(text)
        (tmp_path / name / "helper.py").write_text(EXPERIMENT.format("A helper's own.", "run"))
    (tmp_path / "c.py").write_text(EXPERIMENT.format("Is it c?", "run"))
    (tmp_path / "a.py").write_text(EXPERIMENT.format("Is it a?", "run"))
    found = [(script.name, script.question, script.path) for script in scan(tmp_path)]
    assert found == [
        ("a", "Is it a?", tmp_path / "a.py"),
        ("b", "Is it b?", tmp_path / "b" / "__main__.py"),
        ("c", "Is it c?", tmp_path / "c.py"),
    ]


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "a.py", tmp_path / "a" / "__main__.py"):
        path.write_text(EXPERIMENT.format("Is it a?", "run"))
    with pytest.raises(InputError, match="two experiments are called a: "):
        scan(tmp_path)


def test_the_projects_experiments_are_found_and_its_commands_and_rooms_are_not():
    names = {script.name for script in scan()}
    assert {"bayes_inversion", "mean_field_bias"} <= names
    assert not names & {"cli", "peers", "report", "truth", "compare", "training", "commands", "__main__"}


@pytest.mark.parametrize("name", ["bayes_inversion", "mean_field_bias"])
def test_an_experiment_is_loaded_by_its_modules_name_in_both_forms(name):
    (script,) = [script for script in scan() if script.name == name]
    module = load(f"experiments.{name}")
    assert module.__file__ == str(script.path)
    assert list(inspect.signature(module.main).parameters) == ["run"]
    assert module.__name__ == f"experiments.{name}" + ("" if script.path.stem == name else ".__main__")


def test_a_room_is_no_experiment():
    with pytest.raises(InputError, match="is not an experiment"):
        load("experiments.truth")


def test_the_name_of_a_folders_script_does_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    (tmp_path / "coin" / "sub").mkdir(parents=True)
    for place, path in (("coin", "__main__.py"), ("coin/sub", "../__main__.py"), (".", "coin/__main__.py")):
        monkeypatch.chdir(tmp_path / place)
        assert name_of(path) == "coin"


def test_two_files_of_one_name_stay_apart(tmp_path):
    modules = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "random.py").write_text(f"where = {folder!r}\n")
        modules.append(import_file(tmp_path / folder / "random.py"))
    import random

    assert [module.where for module in modules] == ["a", "b"]
    assert not hasattr(random, "where")


def test_a_file_that_fails_leaves_no_module_behind(tmp_path):
    path = tmp_path / "broken_on_import.py"
    path.write_text("raise RuntimeError('no')\n")
    with pytest.raises(RuntimeError, match="no"):
        import_file(path)
    assert not [name for name in sys.modules if name.startswith("broken_on_import")]


def test_a_file_sees_its_neighbours_only_while_it_runs(tmp_path):
    (tmp_path / "neighbour_of_test.py").write_text("x = 5\n")
    (tmp_path / "own.py").write_text("from neighbour_of_test import x\ndef main(run): pass\n")
    before = list(sys.path)
    with beside(tmp_path / "own.py"):
        assert load(tmp_path / "own.py").x == 5
    assert sys.path == before
    del sys.modules["neighbour_of_test"]


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"\xff\xfe\x00", b"def (", b"PK\x03\x04"])
def test_what_is_not_python_is_said_in_one_line(tmp_path, content):
    path = tmp_path / "data.py"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a Python file") as caught:
        load(path)
    assert "\n" not in str(caught.value)
