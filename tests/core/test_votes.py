"""What people may say, and what is refused."""

import pytest

from promptroute.core.errors import UserError
from promptroute.core.votes import (
    Answer,
    Marks,
    Subject,
    check_milliseconds,
    check_rater,
    check_time,
    check_value,
)


class TestRater:
    def test_any_name(self) -> None:
        assert check_rater(" <b>Ann</b> & 李 ") == "<b>Ann</b> & 李"

    @pytest.mark.parametrize("name", ["", "   ", None, 7, "x" * 61, "a\nb", "a\x1b[31mb", "\ud800"])
    def test_refused(self, name: object) -> None:
        with pytest.raises(UserError, match="rater"):
            check_rater(name)


class TestValue:
    def test_allowed(self) -> None:
        assert check_value("left", "pairs", 3) == "left" and check_value("skip", "ratings", 3) == "skip"
        assert check_value(5, "ratings", 3) == 5
        marks = check_value({"points": [[0, 1], [0.5, 0.25]], "words": [2, 0, 2]}, "marks", 3)
        assert marks == Marks(((0.0, 1.0), (0.5, 0.25)), (0, 2))

    @pytest.mark.parametrize(
        ("value", "mode"),
        [
            ("up", "pairs"),
            (3, "pairs"),
            (None, "pairs"),
            (0, "ratings"),
            (6, "ratings"),
            (True, "ratings"),
            (2.5, "ratings"),
            ("left", "ratings"),
            ({"points": [[0.5, 1.5]]}, "marks"),
            ({"points": [[0.5]]}, "marks"),
            ({"points": [[float("nan"), 0]]}, "marks"),
            ({"points": "x"}, "marks"),
            ({"words": [3]}, "marks"),
            ({"words": [-1]}, "marks"),
            ({"other": []}, "marks"),
        ],
    )
    def test_refused(self, value: object, mode: str) -> None:
        with pytest.raises(UserError, match="expected"):
            check_value(value, mode, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "2026-01-01",
        "2026-01-01T10:00:00",
        "2026-13-01T10:00:00Z",
        "2026-01-01T10:00:00+99:99",
        "٢٠٢٦-01-01T10:00:00Z",
        None,
        5,
    ],
)
def test_time_needs_an_offset(time: object) -> None:
    with pytest.raises(UserError, match="ISO 8601"):
        check_time(time)


@pytest.mark.parametrize("value", [-1, 1.5, "3", True, None, 2**63, 10**40])
def test_milliseconds(value: object) -> None:
    with pytest.raises(UserError, match="whole number"):
        check_milliseconds(value)


@pytest.mark.parametrize(
    ("value", "swapped", "lead"),
    [("left", False, 1), ("left", True, -1), ("right", False, -1), ("right", True, 1), ("tie", True, 0)],
)
def test_lead(value: str, swapped: bool, lead: int) -> None:
    assert Answer("t", "x", value, swapped, 1, "2026-01-01T00:00:00Z").lead == lead


def test_task_names_tell_nothing() -> None:
    subject = Subject("p1", ("sdxl", "sd21"), (0,))
    name = subject.task("study")
    assert (
        len(name) == 16
        and name != subject.task("another")
        and subject.task("study", again=True) == f"{name}-again"
    )
