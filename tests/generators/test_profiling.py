"""What a profile counts and measures."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import PrivateAttr

from promptroute.core.errors import UserError
from promptroute.generators.base import Generated
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.profiling import count_gflops, median_interval, profile
from tests.generators.conftest import Fake
from tests.generators.tiny import PIPELINES


def test_operations_by_hand() -> None:
    import torch

    class Product(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            torch.zeros(50, 20) @ torch.zeros(20, 10)  # 50 · 10 · 20 multiply-adds
            return super().generate(prompts, seeds)

    assert count_gflops(Product(device="cpu")) == pytest.approx(2 * 50 * 10 * 20 / 1e9)


def test_fused_attention_counts() -> None:
    import torch

    class Attention(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            queries, keys = torch.zeros(1, 3, 40, 8), torch.zeros(1, 3, 50, 8)
            torch.nn.functional.scaled_dot_product_attention(queries, keys, keys)
            return super().generate(prompts, seeds)

    # 3 heads · 40 queries · 50 keys · 8 numbers, once for the weights and once for the values.
    assert count_gflops(Attention(device="cpu")) == pytest.approx(2 * 2 * 3 * 40 * 50 * 8 / 1e9)


def test_operations_grow_with_steps(tiny: Callable[[str], Path]) -> None:
    counts = [
        count_gflops(DiffusersModel(model=str(tiny("amused")), **{**PIPELINES["amused"][1], "steps": steps}))
        for steps in (1, 2, 3)
    ]
    assert counts[2] - counts[1] == pytest.approx(counts[1] - counts[0]) and counts[1] > counts[0] > 0


def test_best_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Slow(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            if len(prompts) > 8:
                raise RuntimeError("out of memory")
            now[0] += 0.02 if len(prompts) < 8 else 0.1  # up to 4 at once cost as much as one
            return super().generate(prompts, seeds)

    slow = Slow(device="cpu")
    found = profile(slow, ["a", "b"])
    assert found["seconds"] == pytest.approx(0.02) and found["seconds_std"] == pytest.approx(0, abs=1e-9)
    assert found["best_batch"] == 4 and set(found["images_per_second"]) == {1, 2, 4, 8}
    assert found["images_per_second"][4] == pytest.approx(200)
    assert 0.01 < found["memory_gb"] < 100 and found["images"] == 6 and found["measured_on"]
    assert all(len(batch) == 1 for batch in slow.batches[:8]), "two to warm up, six that count"


class Clocked(Fake):
    """Takes the seconds of `takes`, in turn."""

    takes: list[float]
    _now: list[float] = PrivateAttr(default_factory=lambda: [0.0])

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
        self._now[0] += self.takes[len(self.batches) % len(self.takes)] * len(prompts)
        return super().generate(prompts, seeds)


class TestMedian:
    def measure(self, patch: pytest.MonkeyPatch, takes: list[float]) -> dict[str, Any]:
        model = Clocked(device="cpu", takes=takes)
        patch.setattr(time, "perf_counter", lambda: model._now[0])
        return profile(model, ["a"])

    def test_interval_by_hand(self) -> None:
        assert median_interval([1, 2, 3, 4, 5, 6]) == (1, 6)  # 1 - 2 / 2⁶ = 97 %
        assert median_interval(list(range(20))) == (5, 14)  # the 6th and 15th of 20: 95.9 %

    def test_outliers_are_outlived(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.measure(monkeypatch, [1, 1, 1, 9, 1, 1, 1.01, 1, 1, 1, 30, 1])
        assert found["seconds"] == pytest.approx(1) and 6 < found["images"] < 30
        assert found["seconds_low"] == pytest.approx(1) and found["seconds_high"] < 1.1

    def test_noise_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(
            UserError, match=r"takes .* after 60 images the median lies .* stop what else runs"
        ):
            self.measure(monkeypatch, [1, 2, 5, 9, 14, 20, 27])
