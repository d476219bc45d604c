"""Where experiments stand: a script keeps its helpers to itself, and rooms know no script."""

import ast
from pathlib import Path

import pytest

import experiments
from experiments.report.script import scan

ROOT = Path(experiments.__file__).parent
SCRIPTS = {script.name: script.path for script in scan()}
SOURCES = sorted(ROOT.rglob("*.py"))
MOST = 20  # files in a folder; the scripts without helpers, which stand beside each other, are not counted


def imported(path):
    """Names below ``experiments`` that a file imports, as ``room.module`` or ``script.helper``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.partition(".")[2] for name in found if name.startswith("experiments.")}


def owner(path):
    """The script or the room that a file belongs to."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_imports_a_script_or_its_helpers_but_itself(path):
    known = {name.partition(".")[0] for name in imported(path)}
    assert known & set(SCRIPTS) <= {owner(path)}


def test_the_training_room_imports_no_other_room():
    for path in (ROOT / "training").glob("*.py"):
        assert {name.partition(".")[0] for name in imported(path)} <= {"training"}


def test_a_folder_holds_few_files():
    folders = {path.parent for path in SOURCES} - {ROOT}
    counts = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MOST} == {}


def test_a_script_with_helpers_has_a_page_that_names_them():
    """And no code, so that a child process that imports a helper loads no script."""
    for name, path in SCRIPTS.items():
        if path.stem == "__main__":
            (page,) = ast.parse((path.parent / "__init__.py").read_text(encoding="utf-8")).body
            helpers = {p.stem for p in path.parent.glob("*.py")} - {"__init__", "__main__"}
            assert helpers, f"{name} needs no folder"
            assert [helper for helper in helpers if f"``{helper}``" not in page.value.value] == []
