"""The page that walks one fit is true: its code runs, and what it names is there, and runs in that order."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "one_fit.md").read_text(encoding="utf-8")
WINGS = (
    "runtime", "story", "compiler", "density", "guides", "hmc", "checks", "answers", "arviz_groups",
    "posterior", "svi",
)  # fmt: skip
ROOT_PAGES = ("fitting", "ladder", "many", "reference_chains")
# A path in backticks, and behind it, in parentheses, the names that are defined in it.
NAMED = re.compile(r"`([\w/]+\.py)`(?:\s+\(((?:`[\w.]+`,?\s*)+)\))?")
STOPS = re.findall(r"^### (\d+)\. (.*?)\n(.*?)(?=^##)", PAGE, flags=re.MULTILINE | re.DOTALL)


def named(text):
    """Paths with the names given behind them."""
    return [(path, re.findall(r"`([\w.]+)`", names)) for path, names in NAMED.findall(text)]


@cache
def definitions(path):
    """Name, or class and method -> line of its definition."""
    found = {}
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef):
                found[f"{node.name}.{inner.name}"] = inner
    return {
        name: min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        for name, node in found.items()
    }


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("path", sorted({path for path, _ in named(PAGE)}))
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    ("path", "name"), sorted({(path, name) for path, names in named(PAGE) for name in names})
)
def test_every_function_that_is_named_is_defined_there(path, name):
    assert name in definitions(path)


def test_there_are_ten_stops_with_their_wing_and_what_goes_in_and_out():
    assert [int(number) for number, _, _ in STOPS] == list(range(1, 11))
    for _, title, text in STOPS:
        wings = re.findall(r"`(\w+)/`", re.search(r"^Wings?: (.*?)\. Read:", text, flags=re.MULTILINE)[1])
        files = [path.split("/") for path, names in named(text) if names]
        assert files, title
        homes = [parts[1] if len(parts) == 3 else "root" for parts in files]
        assert homes[0] == (wings or ["root"])[0], title
        assert set(wings) <= set(homes), title
        assert "\n- In: " in text and "\n- Out: " in text, title


def test_all_wings_and_all_pages_at_the_root_occur_in_their_order():
    assert sorted(p.name for p in (ROOT / "inference").iterdir() if (p / "__init__.py").exists()) == sorted(
        WINGS
    )
    before = PAGE.split("## Ten stops")[0]
    assert tuple(re.findall(r"`(\w+)/`", before.split("A\nwing imports")[1])) == WINGS
    in_map = section("From the smallest version to the house")
    assert all(f"`{wing}/`: `inference/{wing}/" in in_map for wing in WINGS)
    assert all(f"`inference/{page}.py`" in in_map for page in ROOT_PAGES)


def test_every_function_of_the_smallest_version_is_on_the_map():
    table = section("From the smallest version to the house").strip().splitlines()[2:]
    left = "\n".join(row.split("|")[1] for row in table)
    own = [name for name in definitions("docs/smallest.py") if name != "bioassay"]
    assert own and all(f"`{name}`" in left for name in own)


def test_a_story_a_guide_and_an_experiment_are_shown():
    shown = [path for path, _ in named(section("Three files to imitate"))]
    assert [path.rpartition("/")[0] for path in shown] == ["ppl_models", "inference/guides", "experiments"]


@pytest.fixture(scope="module")
def calls():
    """Run the example; (file, first line) of every function of ours -> when it was first called."""
    import arviz  # noqa: F401  (beforehand: an import calls much that need not be watched)

    seen, house = {}, str(ROOT / "inference")

    def watch(frame, event, argument):
        seen.setdefault(frame.f_code, len(seen))

    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert source.count("assert") >= 3
    code, before = compile(source, "one_fit.md", "exec"), sys.gettrace()
    sys.settrace(watch)  # it returns None, so that calls are reported and lines are not
    try:
        exec(code, {"__name__": "one_fit"})
    finally:
        sys.settrace(before)
    ours = [code for code in seen if code.co_filename.startswith(house)]
    return {(code.co_filename, code.co_firstlineno): seen[code] for code in reversed(ours)}


def test_the_example_calls_what_the_stops_name_in_their_order(calls):
    """Of each stop the first function decides; a class is called when it is constructed."""
    when = []
    for _, title, text in STOPS:
        for path, names in named(text):
            lines = definitions(path)
            functions = [f"{n}.__init__" if f"{n}.__init__" in lines else n for n in names]
            moments = [calls.get((str(ROOT / path), lines[name])) for name in functions]
            assert None not in moments, (title, path, dict(zip(functions, moments, strict=True)))
            if (path, names) == named(text)[0]:
                when.append(moments[0])
    assert when == sorted(when)


def test_the_example_is_short():
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    story = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef))
    assert story.end_lineno - story.lineno < 10
