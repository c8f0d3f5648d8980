"""Sharing out shards: hand-worked cases."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.cluster import plot, shared_out, simulate, table
from tests.benchmarks.test_generation import PLACE


def rows() -> pd.DataFrame:
    measured = {"start": [4.0, 4.0], "shard": [2.0, 2.0, 2.0], "overhead": [0.5], "driver": [0.0]}
    return pd.DataFrame(
        [
            {"what": what, "images": 8, "seconds": one, **PLACE}
            for what, all_ in measured.items()
            for one in all_
        ]
    )


class TestSharedOut:
    def test_overhead(self) -> None:
        found = shared_out(2, np.full(4, 10.0), np.zeros(2), np.ones(4), 0.0)
        assert found == pytest.approx((22, 40 / 44, 40 / 44))

    def test_a_driver_that_is_busy(self) -> None:
        # One works from 1 to 11 and 12 to 22, the other from 2 to 12 and 13 to 23; at 22 there is nothing left to take.
        found = shared_out(2, np.full(4, 10.0), np.zeros(2), np.zeros(4), 1.0)
        assert found == pytest.approx((23, 40 / 46, 39 / 44))

    def test_a_start_and_a_tail(self) -> None:
        found = shared_out(2, np.full(3, 10.0), np.array([5.0, 5.0]), np.zeros(3), 0.0)
        assert found == pytest.approx((25, 30 / 50, 20 / 30))


def test_simulate() -> None:
    # 40 images take 10 s: start 4, then (0.5 + 10) each.
    ((_, seconds, whole, until),) = simulate(rows(), [1], shards=2, images=40)
    assert (seconds, whole, until) == pytest.approx((25, 20 / 25, 20 / 25))


def test_table_and_figure(tmp_path: Path) -> None:
    assert "| shard | 3 | 2.000 | 2.000 | 2.000 |" in table(rows())
    assert "| 64 | 0.67 | 97.2% | 99.5% |" in table(rows())
    for name in ("one.svg", "two.svg"):
        plot(rows(), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "until shards run out" in (tmp_path / "one.svg").read_text()
