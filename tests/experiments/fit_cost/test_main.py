"""The phases of a fit, which a profile knows by file and function, are where the script looks for them."""

import ast
from pathlib import Path

import pytest

import inference
from experiments.fit_cost.__main__ import PHASES


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_is_one_function_of_one_file(phase):
    file, function = PHASES[phase]
    (path,) = Path(inference.__file__).parent.rglob(file)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
