"""The benchmark of latency, on a router small enough for a test."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import latency
from promptroute.core.errors import UserError
from tests.service.conftest import make_router


def test_ways_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_router(tmp_path)
    asked: list[tuple[str, int]] = []
    seconds = latency.Way.seconds

    def watched(self: latency.Way, prompts: list[str]) -> tuple[float, float]:
        asked.append((self.name, len(prompts)))
        return seconds(self, prompts)

    monkeypatch.setattr(latency.Way, "seconds", watched)
    ways = [latency.Way("router", folder), latency.Way("before", folder)]
    rows: list[dict[str, Any]] = latency.measure(ways, ["a robot", "a logo"], alone=2, repeats=1)
    assert asked == [
        ("router", 2),
        ("before", 2),
        *[("router", 1), ("before", 1)] * 2,
        ("router", 2),
        ("before", 2),
    ]
    assert [row["way"] for row in rows] == ["router", "before"] and rows[0]["ratio"] == 1
    for row in rows:
        assert set(row) == set(latency.COLUMNS)
        assert all(row[name] > 0 for name in latency.COLUMNS[2:])
        assert row["memory_mb"] > 20 and row["p50_ms"] <= row["p95_ms"]


def test_other_code_that_fails(tmp_path: Path) -> None:
    with (
        latency.Way("before", tmp_path / "no-router") as way,
        pytest.raises(UserError, match="no-router: can't be routed with by the code in"),
    ):
        way.seconds(["a robot"])


def test_no_prompts(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n \n")
    with pytest.raises(UserError, match="no prompt; give at least one"):
        latency.read_prompts(tmp_path / "prompts.txt", 3)
    with pytest.raises(UserError, match="no such file"):
        latency.read_prompts(tmp_path / "absent.txt", 3)
