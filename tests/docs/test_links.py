"""The pages for people: what they link to, name and tell to type is there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, base_class, bases_of_readme, blocks, experiments, prose
from tests.stages.test_votes import vote

TOP = "conf|docs|hydra_plugins|stages|promptroute|mini|benchmarks|tests|metrics"
"""Folders whose files are in git; `data/`, `cache/` and `report/` are made."""
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
commanding = pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "bad_inputs.md"], ids=lambda page: page.name
)
"""All pages but the one that shows what goes wrong."""


def written(page: Path) -> set[str]:
    """Paths that a page's own code blocks make."""
    return {block.path for block in blocks(page)}


class TestLinks:
    @pages
    def test_target_exists(self, page: Path) -> None:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if target.startswith(("http://", "https://")):
                continue
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"

    @pages
    def test_named_path_exists(self, page: Path) -> None:
        for path in re.findall(rf"`((?:{TOP})/[\w./*-]*)`", prose(page)):
            placeholder = re.search(r"[A-Z]{2,}", path) and "README" not in path
            assert path in written(page) or placeholder or list(ROOT.glob(path.rstrip("/"))), (
                f"{page.name} names {path}"
            )


class TestCommands:
    @commanding
    def test_experiment_composes(
        self, page: Path, compose: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        vote(tmp_path / "votes.sqlite", 4)
        own = {Path(path).stem for path in written(page)}
        for overrides in experiments(page):
            overrides = [
                re.sub(r"=(prompts|scores)\.csv$", r"=tests/conf/table/\1.csv", one).replace(
                    "published.table.votes=", f"published.table.votes={tmp_path}/"
                )
                for one in overrides
            ]
            if not any(re.search(rf"=({'|'.join(own)})$", one) for one in overrides if own):
                # Whoever composes fills in what the page leaves to its reader.
                assert compose(*overrides, config="config"), f"{page.name}: {overrides}"

    @commanding
    def test_option_exists(self, page: Path) -> None:
        groups = "|".join(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())
        for group, option in re.findall(rf"\b({groups})=([a-z][\w-]*)", prose(page)):
            assert (ROOT / "conf" / group / f"{option}.yaml").is_file(), f"{page.name} names {group}={option}"

    @pages
    def test_module_exists(self, page: Path) -> None:
        for module in re.findall(
            r"python -m ((?:stages|mini|benchmarks|promptroute|tests)[\w.]*\w)", page.read_text()
        ):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), (
                f"{page.name}: {module}"
            )


class TestReadme:
    def test_length(self) -> None:
        assert len((ROOT / "README.md").read_bytes()) <= 6144

    def test_map_of_tree(self) -> None:
        (tree,) = [block.text for block in blocks(ROOT / "README.md") if "dvc.yaml" in block.text]
        for line in tree.splitlines():
            for name in re.findall(r"^ *((?:[\w.]+/? )+)", line)[0].split():
                assert (ROOT / ("promptroute" if line.startswith(" ") else "") / name).exists(), name
        rooms = {path.parent.name for path in (ROOT / "promptroute").glob("*/__init__.py")}
        assert rooms <= set(re.findall(r"(\w+)/", tree)), "the map lacks a room"

    def test_figures_of_results(self) -> None:
        readme, results = (ROOT / "README.md").read_text(), (ROOT / "docs" / "results.md").read_text()
        table = readme[readme.index("## Results") : readme.index("## Use")]
        figures = set(re.findall(r"[-+]?\d+\.\d+", table))
        assert len(figures) == 14
        assert all(figure in results for figure in figures)
        (shown,) = [block.text for block in blocks(ROOT / "README.md") if "strategy" in block.text]
        assert all(line in results for line in shown.splitlines())

    def test_base_for_each_kind(self) -> None:
        assert len({base_class(base) for base in bases_of_readme()}) == 8
