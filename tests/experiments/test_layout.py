"""A script with helpers is a folder whose page names them."""

import ast

from experiments.report.script import scan

SCRIPTS = {script.name: script.path for script in scan()}


def test_a_script_with_helpers_has_a_page_that_names_them():
    """And no code, so that a child process that imports a helper loads no script."""
    for name, path in SCRIPTS.items():
        if path.stem == "__main__":
            (page,) = ast.parse((path.parent / "__init__.py").read_text(encoding="utf-8")).body
            helpers = {p.stem for p in path.parent.glob("*.py")} - {"__init__", "__main__"}
            assert helpers, f"{name} needs no folder"
            assert [helper for helper in helpers if f"``{helper}``" not in page.value.value] == []
