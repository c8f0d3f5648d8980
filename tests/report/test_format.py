from types import SimpleNamespace
from typing import Any

import pytest

from promptroute.report.format import cost_comparison, interval, number, percent, visible


def ends(estimate: float | None, low: float | None, high: float | None) -> Any:
    return SimpleNamespace(estimate=estimate, low=low, high=high)


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
def test_number(value: float | None, options: dict[str, Any], text: str) -> None:
    assert number(value, **options) == text


def test_percent() -> None:
    assert percent(-0.1183, 1, signed=True) == "−11.8\u00a0%"
    assert percent(None) == "–"


def test_interval() -> None:
    assert (
        interval(ends(-0.118, -0.276, None), 1, share=True, signed=True, missing="not reached")
        == "−11.8\u00a0% [−27.6\u00a0%, not reached]"
    )
    assert interval(ends(1.5, 1.0, 2.0), 2) == "1.50 [1.00, 2.00]"
    assert interval(ends(0.0, None, None), 2) == "0.00", "nothing in brackets where no resample changes it"


def test_cost_comparison() -> None:
    assert cost_comparison(-0.25) == "25\u00a0% less than"
    assert cost_comparison(0.031) == "3\u00a0% more than"
    assert cost_comparison(0.001) == "as much as"


def test_visible() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x00\u200e\ud800x") == "‹U+0000›‹U+200E›‹U+D800›x"
