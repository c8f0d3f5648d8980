"""The list of bad inputs as a document for people."""

from pathlib import Path

from tests.bad_inputs.cases import CASES
from tests.bad_inputs.world import Case

PATH = Path(__file__).parents[2] / "docs" / "bad_inputs.md"
HEAD = """\
# Bad inputs, and what is said about them

Every stage answers a bad input with one line, `error: …`, and exit status 1; nothing is half-written. The line
says which file, row or key is wrong, what was expected, and, after the last semicolon, what to do. What shows a
traceback instead is a defect of ours.

Each row below is run by a test, and this page is written from the same list by `python -m tests.bad_inputs`.
`…` stands for what differs between machines, `CEMS` for the folder of the published data; *run* is a stage
with its arguments, as in `dvc.yaml`, or a command of `promptroute`; `-S` is an override of the `promptroute compose` before it.
"""


def render() -> str:
    """The document, in Markdown."""
    parts = [HEAD]
    for group, cases in CASES.items():
        parts.append(f"\n## {group}\n\n| input | run | message | what to do |\n|---|---|---|---|\n")
        parts += [_row(case) for case in cases]
    return "".join(parts)


def _row(case: Case) -> str:
    run = case.stage.encode("unicode_escape").decode() + "".join(f" -S {one}" for one in case.overrides)
    return f"| {case.what} | {_code(run)} | {_code(case.says)} | {case.fix} |\n"


def _code(text: str) -> str:
    """Code in a table's cell: a bar would end the cell."""
    return "`" + text.replace("|", "\\|") + "`"
