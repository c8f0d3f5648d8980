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


def test_functions_are_short() -> None:
    """Signature, docstring, body and what is nested in it."""
    lengths = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in (*LIBRARY, *STAGES)
        for node in functions(path)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 60}


def test_library_knows_no_stages() -> None:
    """How a file is made again is said by whoever runs stages."""
    runners = {"runtime/stage.py", "cli"}
    telling = [
        str(path.relative_to(ROOT))
        for path in LIBRARY
        if "dvc repro" in path.read_text(encoding="utf-8")
        and not runners & {str(path.relative_to(ROOT / "promptroute")), path.parent.name}
    ]
    assert not telling


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
