"""What an npz file may hold, and what becomes of it."""

import numpy as np
import pytest
import torch

from experiments.commands.arrays import argument_names, read_arrays, split, with_masks
from experiments.report.errors import InputError


def saved(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def test_arrays_come_back_as_they_were(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    read = read_arrays(saved(tmp_path, x=x, y=np.array([True, False])))
    np.testing.assert_array_equal(read["x"], x)
    assert list(read) == ["x", "y"]


def broken(tmp_path):
    path = saved(tmp_path, x=np.zeros(3))
    path.write_bytes(path.read_bytes()[:60])
    return path


def text_file(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("x,y\n1,2\n")
    return path


def single_array(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    return tmp_path / "x.npy"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "none.npz", "cannot read .*none.npz: No such file"),
        (lambda path: path, "cannot read .*: Is a directory"),
        (broken, "is not an npz file"),
        (text_file, "is not an npz file"),
        (single_array, "holds one array; save it by name"),
        (lambda path: saved(path), "holds no arrays"),
        (lambda path: saved(path, x=np.array(["a"])), "x holds <U1, expected numbers"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, make, words):
    with pytest.raises(InputError, match=words) as caught:
        read_arrays(make(tmp_path))
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_inside_is_never_executed(tmp_path, capsys):
    with pytest.raises(InputError, match="is not an npz file of numbers"):
        read_arrays(saved(tmp_path, x=np.array([Bomb()], dtype=object)))
    assert "executed" not in capsys.readouterr().out


def test_a_mask_says_what_is_missing():
    mask = np.array([True, False])
    found = with_masks({"x": np.array([1.0, 2.0]), "x__mask": mask, "y": np.zeros(2)})
    assert list(found) == ["x", "y"]
    np.testing.assert_array_equal(found["x"].mask, mask)
    assert not isinstance(found["y"], np.ma.MaskedArray)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x__mask": np.zeros(2, bool)}, "x__mask has no x beside it"),
        ({"x": np.zeros(2), "x__mask": np.zeros(3, bool)}, r"of the shape \(2,\) of x"),
        ({"x": np.zeros(2), "x__mask": np.zeros(2)}, "got float64"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(arrays, words):
    with pytest.raises(InputError, match=words):
        with_masks(arrays)


def test_arrays_are_arguments_or_data():
    def story(n, covariates, y=None, group=None):
        pass

    names = argument_names(story)
    assert names == {"n": True, "covariates": True, "y": False, "group": False}
    arrays = {
        "covariates": np.zeros((3, 2)),
        "y": np.zeros(3),
        "group": np.zeros(3, int),
        "n": np.array(3),
        "other": np.zeros(1),
    }
    given, data = split(arrays, names, sites=["slope", "y"])
    assert list(given) == ["covariates", "group", "n"]
    assert list(data) == ["y", "other"]
    assert given["n"] == 3
    assert isinstance(given["n"], int)
    assert isinstance(given["covariates"], torch.Tensor)


def test_an_argument_has_no_missing_values():
    masked = np.ma.MaskedArray(np.zeros(2), [True, False])
    with pytest.raises(InputError, match="covariates is an argument"):
        split({"covariates": masked}, {"covariates": True}, ())
