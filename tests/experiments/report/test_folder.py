"""Run folders: nothing that a user had is lost, whatever happens."""

import json
import math

import pytest

from experiments.report.errors import InputError
from experiments.report.folder import RunFolder, write_json, write_text


def finished(out, content, name="run"):
    folder = RunFolder(out, name)
    write_json(folder.partial / "config.json", {})
    write_text(folder.partial / "result.txt", content)
    folder.publish()
    return folder


def test_a_run_appears_only_when_it_is_published(tmp_path):
    folder = RunFolder(tmp_path / "new" / "results", "run")
    write_text(folder.partial / "result.txt", "half")
    assert not folder.final.exists()
    assert folder.partial.parent == folder.final.parent
    folder.publish()
    assert [path.name for path in folder.final.parent.iterdir()] == ["run"]
    assert (folder.final / "result.txt").read_text() == "half"


def test_every_earlier_run_is_kept(tmp_path):
    folders = [finished(tmp_path, content) for content in ("first", "second", "third")]
    assert [folder.previous is None for folder in folders] == [True, False, False]
    contents = {path.name: (path / "result.txt").read_text() for path in tmp_path.iterdir()}
    assert contents["run"] == "third"
    assert contents[folders[1].previous.name] == "first"
    assert contents[folders[2].previous.name] == "second"
    assert len(contents) == 3


def test_a_users_own_file_in_a_run_folder_survives_a_second_run(tmp_path):
    first = finished(tmp_path, "first")
    (first.final / "my notes.md").write_text("kept")
    second = finished(tmp_path, "second")
    assert (second.previous / "my notes.md").read_text() == "kept"


def test_an_abandoned_run_leaves_the_earlier_one_and_its_own_files(tmp_path):
    finished(tmp_path, "first")
    folder = RunFolder(tmp_path, "run")
    write_text(folder.partial / "result.txt", "half")
    assert folder.abandon() == folder.partial
    assert (tmp_path / "run" / "result.txt").read_text() == "first"
    assert (folder.partial / "result.txt").read_text() == "half"


def test_an_abandoned_run_without_files_leaves_nothing(tmp_path):
    folder = RunFolder(tmp_path, "run")
    write_json(folder.partial / "config.json", {})
    assert folder.abandon() is None
    assert list(tmp_path.iterdir()) == []


def test_the_earlier_run_comes_back_when_the_swap_fails(tmp_path):
    first = finished(tmp_path, "first")
    folder = RunFolder(tmp_path, "run")
    folder.partial.rmdir()
    with pytest.raises(FileNotFoundError):
        folder.publish()
    assert (first.final / "result.txt").read_text() == "first"


def test_a_folder_that_no_run_has_written_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files that no run has written"):
        RunFolder(tmp_path, "run")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "thesis.tex"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "run").mkdir()
    assert finished(tmp_path, "first").previous is None


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        RunFolder((tmp_path / name).parent, (tmp_path / name).name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \udce9")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"khat": math.nan, "path": tmp_path, "é": [1, 2.5, None, True]})

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert read == {"khat": "nan", "path": str(tmp_path), "é": [1, 2.5, None, True]}
