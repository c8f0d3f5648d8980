"""Figures as people write them."""

import pytest

from promptroute.report.format import interval, less_or_more, number, percent, way


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (1234.5678, {"digits": 2}, "1,234.57"),
        (-0.25, {"digits": 2}, "−0.25"),
        (0.25, {"digits": 2, "signed": True}, "+0.25"),
        (-0.0001, {"digits": 2, "signed": True}, "0.00"),
        (None, {"digits": 2}, "–"),
        (float("nan"), {"digits": 2, "missing": "never"}, "never"),
    ],
)
def test_number(value: float | None, options: dict[str, object], text: str) -> None:
    assert number(value, **options) == text  # type: ignore[arg-type]


def test_percent_and_interval() -> None:
    assert percent(-0.1183, 1, signed=True) == "−11.8\u00a0%"
    assert percent(None) == "–"
    ends = {"estimate": -0.118, "low": -0.276, "high": None}
    assert (
        interval(ends, 1, share=True, signed=True, missing="not reached")
        == "−11.8\u00a0% [−27.6\u00a0%, not reached]"
    )
    assert interval({"estimate": 1.5, "low": 1.0, "high": 2.0}, 2) == "1.50 [1.00, 2.00]"


def test_a_way_that_hardly_is_one_has_no_shares() -> None:
    assert way({"estimate": 0.304, "low": -0.15, "high": 0.543}) == "30.4\u00a0% [−15.0\u00a0%, 54.3\u00a0%]"
    assert way({"estimate": -169.2, "low": -4e17, "high": None}) == "– [–, –]"


def test_less_or_more() -> None:
    assert less_or_more(-0.25) == "25\u00a0% less money"
    assert less_or_more(0.031) == "3\u00a0% more money"
    assert less_or_more(0.001) == "the same money"
