"""The house stands as CONTRIBUTING.md says: its tables are read here, and held against the code."""

import ast
import graphlib
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from experiments.report.script import scan

ROOT = Path(__file__).parents[1]
PACKAGES = ("inference", "ppl_models", "experiments")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LONGEST_FILE, LONGEST_FUNCTION, LARGEST_FOLDER = 400, 60, 20
SCRIPTS = {script.name for script in scan()}


def name_of(path):
    """Of the module in a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in SOURCES}


def table(heading):
    """The rows of the first table under a heading, each a list of cells."""
    text = PAGE.partition(f"{heading}\n")[2]
    assert text, f"CONTRIBUTING.md has no heading {heading!r}"
    lines = text[text.index("|") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


WINGS = [re.fullmatch(r"`(\w+)/`", row[0])[1] for row in table("### The wings of `inference/`")]
ROOMS = [re.fullmatch(r"`(\w+)/`", row[0])[1] for row in table("### The rooms of `experiments/`")]
GLOSSARY = table("## Names, types, errors, comments")


def imports(path):
    """What a file imports of ours: pairs of a module's name, and whether that happens inside a function."""
    found = set()

    def look(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                found.update((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                # A relative import keeps its dots, which no name of ours has: `test_imports_are_absolute`.
                module = "." * child.level + (child.module or "")
                for alias in child.names:
                    whole = f"{module}.{alias.name}"
                    found.add((whole if whole in MODULES else module, inside))
            look(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    look(ast.parse(path.read_text(encoding="utf-8"), str(path)), False)
    return {(name, inside) for name, inside in found if name.split(".")[0] in (*PACKAGES, "tests", "")}


IMPORTS = {path: imports(path) for path in SOURCES}
FILES = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def place(name, order, package):
    """Where a module stands in an order of folders; what stands at the root comes after all of them."""
    parts = name.split(".")
    return (
        order.index(parts[1]) if parts[0] == package and len(parts) > 1 and parts[1] in order else len(order)
    )


def test_imports_are_read_from_every_kind_of_statement(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import inference.many\n"
        "def f():\n    from inference import ladder\n    from inference.fitting import fit\n    import json\n"
    )
    expected = {("inference.many", False), ("inference.ladder", True), ("inference.fitting", True)}
    assert imports(path) == expected


@FILES
def test_imports_are_absolute(path):
    assert {name for name, _ in IMPORTS[path] if name.startswith(".")} == set()


@FILES
def test_arrows_between_the_packages(path):
    """Experiments know inference and stories; those two know neither each other nor experiments."""
    forbidden = {
        "inference": {"ppl_models", "experiments", "tests"},
        "ppl_models": {"inference", "experiments", "tests"},
        "experiments": {"tests"},
    }[path.relative_to(ROOT).parts[0]]
    assert {name for name, _ in IMPORTS[path] if name.split(".")[0] in forbidden} == set()


def folders(package):
    return {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}


def test_the_tables_of_wings_and_rooms_are_complete():
    for listed, found in ((WINGS, folders("inference")), (ROOMS, folders("experiments") - SCRIPTS)):
        assert len(set(listed)) == len(listed)
        assert found - set(listed) == set(), "folders that CONTRIBUTING.md does not list"
        assert set(listed) - found == set(), "listed in CONTRIBUTING.md, and not there"


@FILES
def test_a_wing_or_a_room_imports_only_those_before_it(path):
    package, order = path.relative_to(ROOT).parts[0], {"inference": WINGS, "experiments": ROOMS}
    if package not in order:
        return
    own = place(name_of(path), order[package], package)
    later = {
        name
        for name, _ in IMPORTS[path]
        if name.startswith(f"{package}.") and place(name, order[package], package) > own
    }
    assert later == set(), (
        f"{path.relative_to(ROOT)} comes before what it imports, {', '.join(sorted(later))}: the order is "
        f"{', '.join(order[package])}. Move down what is needed, or this file up."
    )


@FILES
def test_a_script_imports_no_commands_and_no_other_script(path):
    first = name_of(path).split(".")[1:2]
    if path.relative_to(ROOT).parts[0] != "experiments" or first[:1] in ([], ["cli"], ["commands"]):
        return
    known = {name.split(".")[1] for name, _ in IMPORTS[path] if name.startswith("experiments.")}
    wrong = known & ({"commands", "cli"} | SCRIPTS) - set(first)
    assert wrong == set(), "what two scripts need moves into a room: report, compare, truth, training"


def test_no_circle_of_imports():
    """Also none that is hidden inside functions."""
    arrows = {
        name_of(path): {name for name, _ in found if name in MODULES and name != name_of(path)}
        for path, found in IMPORTS.items()
    }
    assert len(list(graphlib.TopologicalSorter(arrows).static_order())) == len(MODULES)


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if name_of(p).startswith("inference")], ids=lambda p: name_of(p)
)
def test_no_import_of_ours_hides_in_a_function(path):
    hidden = {name for name, inside in IMPORTS[path] if inside}
    assert hidden == set(), "import at the top; where that makes a circle, what both need is a third file"


def test_every_wing_has_a_page_that_names_its_files():
    for wing in WINGS:
        page = inspect.getdoc(import_module(f"inference.{wing}"))
        files = [path for path in (ROOT / "inference" / wing).glob("*.py") if path.stem != "__init__"]
        # A rung of the ladder is found by scanning, so that adding one touches one file.
        unnamed = [p.stem for p in files if f"``{p.stem}``" not in page and "NAME" not in defined(p)]
        assert unnamed == [], f"inference/{wing}/__init__.py names in its page every file but these"
        last = page.rsplit("May import: ", 1)[1]
        named = re.findall(r"``(\w+)``", last)
        before = WINGS[: WINGS.index(wing)]
        said = before if " to " not in last else WINGS[WINGS.index(named[0]) : WINGS.index(named[-1]) + 1]
        assert (said if " to " in last else named) == before, wing


def test_the_tests_mirror_wings_and_rooms():
    """Every wing and room has tests in a folder of its name, and no folder of tests has another name."""
    for package, order in (("inference", WINGS), ("experiments", ROOMS)):
        mirror = ROOT / "tests" / package
        tested = {path.parent.relative_to(mirror).parts[0] for path in mirror.rglob("*/test_*.py")}
        allowed = set(order) | (SCRIPTS if package == "experiments" else set())
        assert set(order) <= tested <= allowed
    for folder in {path.parent for path in (ROOT / "tests").rglob("test_*.py")}:
        inside = folder.relative_to(ROOT / "tests")
        assert (ROOT / inside).is_dir(), f"tests/{inside} mirrors no folder"


def test_a_large_folder_says_why():
    for folder in {path.parent for path in SOURCES} - {ROOT / "ppl_models", ROOT / "experiments"}:
        if len(list(folder.glob("*.py"))) > LARGEST_FOLDER:
            page = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
            assert re.search(rf"[Mm]ore than {LARGEST_FOLDER} files", page), f"{folder} gives no reason"


def lines_of_code(function):
    """Length of a function without its docstring."""
    first = function.body[0]
    docstring = 0
    if ast.get_docstring(function) is not None:
        docstring = first.end_lineno - first.lineno + 1
    return function.end_lineno - function.lineno + 1 - docstring


@FILES
def test_files_and_functions_stay_short(path):
    """A longer one has a second idea in it that wants a room of its own."""
    text = path.read_text(encoding="utf-8")
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    lengths = {function.name: lines_of_code(function) for function in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
    length = text.count("\n")
    assert length <= LONGEST_FILE, "split it by ideas, not by lines"


def defined(path):
    """Public names that a file defines at its top."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def test_a_name_means_one_thing():
    """But for the verbs that CONTRIBUTING.md lists, no two files of ``inference`` define a public name."""
    sentence = PAGE.partition("The same verb may stand in several files:")[2].partition("\n\n")[0]
    verbs = set(re.findall(r"`(\w+)`", sentence))
    homes = {}
    for path in (ROOT / "inference").rglob("*.py"):
        for name in defined(path) - verbs:
            homes.setdefault(name, []).append(name_of(path))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def arguments(path):
    """Names of files, classes, public functions and their arguments."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name
            yield from (a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])


def test_the_glossary_is_true():
    """What a term names is where the table says, and no name in ``inference`` is a word that is not said."""
    used = {}
    for path in (ROOT / "inference").rglob("*.py"):
        for name in arguments(path):
            used.setdefault(name.lower(), name_of(path))
    for term, _, instead, where in GLOSSARY:
        for word in re.findall(r"`(\w+)`", instead):
            assert word.lower() not in used, f"{word}, for which {term} is said, in {used[word.lower()]}"
        file, names = re.fullmatch(r"`([\w/]+\.py)` \((.+)\)", where).groups()
        assert set(re.findall(r"`(\w+)`", names)) <= defined(ROOT / file), term
