"""What a profile counts and measures."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from promptroute.generators.base import Generated
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.profiling import count_gflops, profile
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
    found = profile(slow, ["a", "b"], images=5)
    assert found["seconds"] == pytest.approx(0.02) and found["seconds_std"] == pytest.approx(0, abs=1e-9)
    assert found["best_batch"] == 4 and set(found["images_per_second"]) == {1, 2, 4, 8}
    assert found["images_per_second"][4] == pytest.approx(200)
    assert 0.01 < found["memory_gb"] < 100 and found["images"] == 5 and found["measured_on"]
    assert all(len(batch) == 1 for batch in slow.batches[:7]), "two to warm up, five that count"
