"""Experiments are found without executing them."""

import sys

import pytest

from experiments.report.errors import InputError
from experiments.report.script import beside, import_file, load, scan

EXPERIMENT = '"""{}"""\nraise SystemError("executed")\ndef main({}): pass\n'


def test_experiments_are_found_by_their_main_and_not_executed(tmp_path):
    (tmp_path / "b.py").write_text(EXPERIMENT.format("Is it b?\n\nMore.", "run"))
    (tmp_path / "a.py").write_text(EXPERIMENT.format("\nIs it a?", "run, extra=1"))
    (tmp_path / "cli.py").write_text(EXPERIMENT.format("A command.", "argv=None"))
    (tmp_path / "room.py").write_text('"""No main."""\n')
    (tmp_path / "plain.py").write_text("def main(run): pass\n")
    found = [(script.name, script.question) for script in scan(tmp_path)]
    assert found == [("a", "Is it a?"), ("b", "Is it b?"), ("plain", "plain")]


def test_the_projects_experiments_are_found_and_its_commands_are_not():
    names = {script.name for script in scan()}
    assert "bayes_inversion" in names
    assert "cli" not in names


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
