"""The house keeps its shape: short functions, thin stages, docstrings that say what to do."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "promptroute").rglob("*.py"))
STAGES = sorted(path for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
QUESTIONS = {"What", "How", "Whether", "Where", "Which", "Who", "Why"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines below the signature and the docstring."""
    first = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - first[0].lineno + 1 if first else 0


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": body_lines(node)
        for path in (*LIBRARY, *STAGES)
        for node in functions(path)
        if body_lines(node) > 60
    }
    assert not long


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_stages_are_thin(path: Path) -> None:
    """A stage fits on a screen, says what it is, and has one entry."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert ast.get_docstring(ast.parse(text)) and text.rstrip().splitlines()[-1].startswith(
        "    run_stage(main"
    )


def test_docstrings_are_imperative() -> None:
    asking = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in (*LIBRARY, *STAGES)
        for node in functions(path)
        if (ast.get_docstring(node) or "").split(" ")[0] in QUESTIONS
    ]
    assert not asking
