"""FILE.py:STORY, and all that can be wrong with it."""

import sys

import pytest
import torch

from experiments.commands.story_file import first_line, parse_arguments, story_file
from experiments.report.errors import InputError

SOURCE = """
import pyro, torch
import pyro.distributions as dist
from neighbour_of_story import SPREAD

def line(n):
    pyro.sample("x", dist.Normal(0.0, SPREAD).expand([n]).to_event(1))

def plane(n):
    pass

class Net(torch.nn.Module):
    pass

class Sized(torch.nn.Module):
    def __init__(self, size):
        super().__init__()

class Plain:
    pass

net = Net()
number = 3
EXAMPLE = ((4,), {"x": torch.ones(4)})
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "line.py").write_text(SOURCE)
    (tmp_path / "neighbour_of_story.py").write_text("SPREAD = 2.0\n")
    yield tmp_path
    sys.modules.pop("neighbour_of_story", None)


@pytest.mark.parametrize("name", ["line", "plane", "net"])
def test_a_story_is_found_in_a_file_and_sees_its_neighbours(folder, name):
    with story_file(f"{folder / 'line.py'}:{name}") as found:
        assert found.name == name
        assert found.args == (4,)
        assert found.data["x"].shape == (4,)


def test_without_a_name_the_story_bears_that_of_its_file(folder):
    with story_file(str(folder / "line.py")) as found:
        assert found.story.__name__ == "line"


@pytest.mark.parametrize(
    "where", ["ppl_models.linear_regression:linear_regression", "ppl_models.linear_regression"]
)
def test_a_module_by_its_name(where):
    with story_file(where) as found:
        assert found.name == "linear_regression"
        assert set(found.data) == {"y"}


def test_a_class_is_constructed_and_the_random_state_stays(folder):
    state = torch.random.get_rng_state()
    with story_file(f"{folder}/line.py:Net") as found:
        assert isinstance(found.story, found.written) and found.name == "Net"
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_module_in_the_present_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with story_file("line:plane") as found:
        assert found.name == "plane"
    sys.modules.pop("line")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("{}/none.py:line", "cannot read .*none.py: No such file"),
        ("{}/line.py:lime", "has no story lime; did you mean line?"),
        ("{}/line.py:other", "has no story other; it has line, plane, Net, Sized, net"),
        ("{}/line.py:number", "number is not a story: it is of type int"),
        ("{}/line.py:Sized", r"Sized\(\) cannot be constructed without arguments: .* Name an inst"),
        ("{}/line.py:Plain", "Plain is a class, but no PyroModule"),
        ("{}/broken.py:f", "broken.py is not a Python file, line 1"),
        ("{}/fails.py:f", r"cannot be loaded: ZeroDivisionError: .* \(fails.py, line 2\)"),
        ("{}/leaves.py:f", "cannot be loaded: SystemExit: 7"),
        ("{}/lacks.py:f", "cannot be loaded: ModuleNotFoundError: No module named 'no_such'"),
        ("{}/example.py:f", r"expected EXAMPLE = \(args, data\), got list"),
        ("no.such.module:f", "no file and no module no.such.module"),
        ("ppl_models.none:f", "no file and no module ppl_models.none"),
    ],
)
def test_what_is_no_story_is_said_in_one_line(folder, where, words):
    (folder / "broken.py").write_text("def (\n")
    (folder / "fails.py").write_text("\nx = 1 / 0\n")
    (folder / "leaves.py").write_text("raise SystemExit(7)\n")
    (folder / "lacks.py").write_text("import no_such\n")
    (folder / "example.py").write_text("def f(): pass\nEXAMPLE = [1]\n")
    with pytest.raises(InputError, match=words) as caught, story_file(where.format(folder)):
        pass
    assert "\n" not in str(caught.value)


def test_arguments_from_json():
    args, kwargs = parse_arguments('[100, [[1, 2], [3, 4]], "a", null, true]')
    assert args[0] == 100
    assert torch.equal(args[1], torch.tensor([[1, 2], [3, 4]]))
    assert args[2:] == ("a", None, True)
    assert kwargs == {}
    assert parse_arguments('{"n": 3}') == ((), {"n": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[100", "--args is not JSON"),
        ("100", r"expected a JSON list such as '\[100\]' or an object, got 100"),
        ("[[1, [2]]]", "cannot be made a tensor"),
    ],
)
def test_other_arguments_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        parse_arguments(text)


def test_an_error_in_one_line_has_its_place():
    try:
        torch.ones(2) + torch.ones(3)
    except RuntimeError as error:
        line = first_line(error)
    assert line.startswith("RuntimeError: The size of tensor a")
    assert "(test_story_file.py, line " in line
    assert "\n" not in line
