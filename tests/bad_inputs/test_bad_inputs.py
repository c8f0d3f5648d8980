"""Every bad input of the list gets its one-line error, and the document is the list."""

import re
from pathlib import Path

import pytest

from tests.bad_inputs.cases import CASES
from tests.bad_inputs.document import PATH, render
from tests.bad_inputs.world import Case, provoke
from tests.stages.small import copied

LISTED = [pytest.param(case, id=f"{group}: {case.what}") for group, cases in CASES.items() for case in cases]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("case", LISTED)
def test_bad_input(case: Case, finished: tuple[Path, object], tmp_path: Path) -> None:
    folder = copied(finished[0], tmp_path / "study")
    case.breaks(folder)
    kept = {path: path.read_bytes() for path in (folder / "data").rglob("*") if path.is_file()}
    said = provoke(case, folder)
    pattern = ".*".join(re.escape(part) for part in case.error.split("…"))
    assert re.fullmatch(pattern, said), f"\nsaid:     {said}\nexpected: {case.error}"
    assert len(said) < 700
    left = {path for path in (folder / "data").rglob("*") if path.is_file()}
    assert left <= set(kept), "something half-written was left behind"


def test_list_is_long_and_unique() -> None:
    for cases in CASES.values():
        assert len({case.what for case in cases}) == len(cases)
    assert len(LISTED) >= 100


def test_the_document_is_the_list() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run `python -m tests.bad_inputs`"
