"""What people said, on the page."""

from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.io.files import write_json
from promptroute.report.people import people_cells, read_people

INTERVAL = {"estimate": 0.75, "low": 0.6, "high": 0.9, "undefined": 0.0}
FOUND = {
    "mode": "pairs",
    "answers": 1200,
    "raters": 3,
    "models": {
        "b": {"rank": 2, "rank_low": 1, "rank_high": 2, "share": INTERVAL},
        "a": {"rank": 1, "rank_low": 1, "rank_high": 2, "share": INTERVAL},
    },
    "pairs": {
        "a / b": {"wins": 1000, "losses": 20, "ties": 3, "votes_until_apart": 0},
        "a / c": {"wins": 4, "losses": 4, "ties": 0, "votes_until_apart": None},
        "b / c": {"wins": 4, "losses": 3, "ties": 0, "votes_until_apart": 1234},
    },
    "scores": {"nima.mean": {"pairs": 40, "agreement": INTERVAL}},
    "raters_agree": {"figures": {"alpha_nominal": INTERVAL}},
}


def test_votes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", FOUND)
    cells = people_cells(read_people(tmp_path / "a.json"), {"a": "Model <A>"}, {"nima.mean": "NIMA"})
    assert cells is not None and "1,200 votes by 3 people" in str(cells["about"])
    assert [row["name"] for row in cells["models"]] == ["Model <A>", "b"]  # type: ignore[attr-defined]
    assert cells["scores"][0]["pairs"] == "40"  # type: ignore[index]
    assert [(row["names"], row["counts"], row["more"]) for row in cells["pairs"]] == [  # type: ignore[attr-defined]
        (["Model <A>", "b"], ["1,000", "3", "20"], "apart"),
        (["Model <A>", "c"], ["4", "0", "4"], "no lead yet"),
        (["b", "c"], ["4", "0", "3"], "about 1,234 more"),
    ]


def test_one_person(tmp_path: Path) -> None:
    nothing = {"alpha_nominal": {"estimate": None, "low": None, "high": None}}
    write_json(tmp_path / "a.json", {**FOUND, "raters": 1, "raters_agree": {"figures": nothing}})
    cells = people_cells(read_people(tmp_path / "a.json"), {}, {})
    assert cells is not None and cells["about"] == "1,200 votes by 1 person on blind pairs."


@pytest.mark.parametrize(
    "found", [{"answers": 0}, {"answers": 9, "mode": "ratings", "models": {"a": {"mean": 3}}}]
)
def test_nothing_to_show(tmp_path: Path, found: dict[str, object]) -> None:
    write_json(tmp_path / "a.json", found)
    assert read_people(tmp_path / "a.json") is None and people_cells(None, {}, {}) is None


def test_another_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {**FOUND, "models": {"a": 3}})
    with pytest.raises(UserError, match=r"a\.json: models\.a: .*measure the votes again"):
        read_people(tmp_path / "a.json")
