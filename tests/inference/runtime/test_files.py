"""A file is written whole or not at all, and an error says what could not be written, where and why."""

import errno
import os

import pytest

from inference.runtime.files import write_bytes


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a"
    for content in (b"first", bytearray(b"second"), memoryview(b"third")):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("sync"), sync(number))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths))[1])
    write_bytes(tmp_path / "a", b"content")
    assert done == ["sync", "rename", "sync"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_older_file_and_no_other(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    write_bytes(path, b"older")

    def fail(*_):
        raise OSError(errno.ENOSPC, "?")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="12,000 bytes could not be written: No space left on device") as caught:
        write_bytes(path, bytes(12000))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_that_cannot_sync_is_written_to_all_the_same(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.EINVAL, "?")

    monkeypatch.setattr(os, "fsync", refuse)
    write_bytes(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_the_kind_of_error_stays_what_it_was(tmp_path):
    with pytest.raises(FileNotFoundError, match="5 bytes could not be written: No such file") as caught:
        write_bytes(tmp_path / "none" / "a", b"12345")
    assert caught.value.filename == str(tmp_path / "none" / "a")
