"""Sharing out shards: hand-worked cases."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import cluster
from benchmarks.cluster import Faults, _rate, efficiency_table, faults, plot, shared_out, simulate, table
from benchmarks.cluster_work import Done, InTurn
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


def test_faults_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: None)  # type: ignore[attr-defined]
    (tmp_path / "data").mkdir()
    (tmp_path / "cache" / "tmp").mkdir(parents=True)
    for number in range(cluster.NUMBERS):
        (tmp_path / "data" / str(number)).write_text(str(number * number))
    assert faults(tmp_path, 0, 0) == Faults()
    (tmp_path / "data" / "3").unlink()
    (tmp_path / "data" / "12").write_text("14")
    (tmp_path / "data" / ".5.host.1.a").touch()
    (tmp_path / "cache" / "tmp" / ".7.host.1.a").touch()
    assert faults(tmp_path, 1, 2) == Faults(1, 1, 1, 2, 1, 1)


class TestEfficiency:
    def test_rate(self) -> None:
        """Shards of half a second; the first second of a span, other workers and other spans don't count."""
        done = [Done("Ray", 0, 10 + 0.5 * n) for n in range(20)] + [
            Done("Ray", 1, 11.2),
            Done("plain", 0, 11.3),
        ]
        assert _rate(done, "Ray", 0, 10.0, 5.0) == pytest.approx(8 / 0.5)
        assert np.isnan(_rate(done, "Ray", 1, 10.0, 5.0))

    def test_table(self) -> None:
        rates = {"Ray": (10.0, 12.0, 19.8), "plain processes": (11.0, 11.0, 22.0)}
        rows = [
            {"cycle": cycle, "how": how, "workers": name, "images_per_second": speed * rate, **PLACE}
            for cycle, speed in enumerate((1.0, 0.5, 2.0))  # the machine wanders
            for how, each in rates.items()
            for name, rate in zip(("0", "1", "both"), each, strict=True)
        ]
        shown = efficiency_table(pd.DataFrame([*rows, {"how": "driver", "taken": 0.0123, **PLACE}]))
        assert "| Ray | 11.00 | 19.80 | 90.0% | 90.0% to 90.0% |" in shown
        assert "| plain processes | 11.00 | 22.00 | 100.0% | 100.0% to 100.0% |" in shown
        assert "| Ray against plain |  |  | 90.0% | 90.0% to 90.0% |" in shown and "driver 1.2%" in shown

    def test_turns(self, tmp_path: Path) -> None:
        work = object.__new__(InTurn)
        work.how, work._core, work.place, work.seconds = "Ray", 1, tmp_path, 0.05
        work.spans = [[("Ray", 0)], [("plain", 1)], *[[("Ray", 0), ("Ray", 1)]] * 10_000]
        assert work._wait(), "warms up"
        began = time.monotonic()
        (tmp_path / "begin").write_text(str(began))
        assert work._wait() and time.monotonic() - began >= 0.1
        work.seconds = 1e-6
        assert not work._wait(), "over"
