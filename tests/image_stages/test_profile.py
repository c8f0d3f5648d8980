"""What a model's images cost, by a clock of our own: no test times a processor."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from promptroute.generators import profiling
from tests.image_stages.conftest import TEXTS
from tests.stages.small import run


def test_profile_of_a_model(study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, calls = study(TEXTS[:2], seeds=[0]), itertools.count()
    # Each of the 2 + 6 single images takes a second, whatever comes after them ten.
    clock = SimpleNamespace(perf_counter=lambda: (call := next(calls)) * (1 if call < 16 else 10))
    monkeypatch.setattr(profiling, "time", clock)
    ran = run(folder, "profile", "sd")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("profile: sd on ") and ran.out.endswith("1.00 images/s in batches of 1\n")
    found = json.loads((folder / "data/profile/sd.json").read_text())
    assert found["seconds"] == found["seconds_low"] == found["seconds_high"] == 1 and found["images"] == 6
    assert found["images_per_second"] == {"1": 1.0, "2": 0.2} and found["best_batch"] == 1
    assert found["gflops"] > 0 and found["memory_gb"] > 0 and found["measured_on"]
