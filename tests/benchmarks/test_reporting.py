"""Command lines, results files and tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.reporting import markdown, options, run, speedup, spread


def test_spread() -> None:
    assert spread(pd.Series([0.1, 0.3]), "+.1f", 100) == "+20.0 ± 14.1"
    assert spread(pd.Series([0.1, np.nan]), "+.1f", 100) == "+10.0 (1 of 2)"
    assert spread(pd.Series([np.nan]), ".1f") == "never"


def test_speedup() -> None:
    assert speedup(pd.Series([2.0, 6.0, 9.0]), pd.Series([1.0, 2.0, 1.0]), 1) == "3.0 × (2.0 to 9.0)"
    assert speedup(pd.Series([2.0]), pd.Series([1.0]), 0, ", alone") == "2 × (2 to 2, alone)"


def test_markdown() -> None:
    assert markdown("a | b", [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_run(tmp_path: Path) -> None:
    results = tmp_path / "results" / "it.csv"

    def go(*arguments: str, value: float = 1.0) -> str:
        parser = options("it", "about", quick="less")
        return run(
            parser, arguments, results, lambda _: [{"x": value}], lambda rows: f"x is {rows['x'][0]:g}"
        )

    assert go("--quick") == "x is 1" and not results.exists()
    assert go(value=1 / 3) == "x is 0.333333" and results.read_text() == "x\n0.333333\n"
    assert go("--table", value=7) == "x is 0.333333"
    assert go("--quick", value=7) == "x is 7" and go("--table") == "x is 0.333333"
