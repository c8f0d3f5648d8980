"""What the pages for people hold: links, paths, commands and code blocks."""

import importlib
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from promptroute.core.component import Component

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language, and the path that its first line names as a comment."""

    language: str
    path: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Read the fenced code blocks of a page."""
    for found in re.finditer(
        r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        named = re.match(r"# (\S+/\S+\.\w+)", found[2])
        yield Block(found[1], named[1] if named else "", found[2])


def prose(page: Path) -> str:
    """Return a page without its fenced code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a hub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def experiments(page: Path) -> Iterator[list[str]]:
    """Read the overrides of each `dvc exp run` of a page; a sweep's first value stands for all."""
    lines = [line for block in blocks(page) for line in block.text.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`(dvc exp run [^`]*)`", prose(page))]:
        if line.startswith("dvc exp run"):
            words = shlex.split(line.split("&&")[0], comments=True)
            given = [after for word, after in itertools.pairwise(words) if word == "-S"]
            swept = "--queue" in words
            yield [value.split(",")[0] if swept and "[" not in value else value for value in given]


def bases_of_readme() -> list[str]:
    """Read the classes that the README tells to subclass, as dotted paths."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return [f"promptroute.{path}" for path in re.findall(r"`(\w+\.\w+\.[A-Z]\w+)`", readme)]


def base_class(path: str) -> type[Component]:
    """Import a class to subclass."""
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert issubclass(found, Component), path
    return found
