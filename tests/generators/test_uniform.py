"""Batches of one size: filled up, checked once, given up where an image's place matters."""

import numpy as np
import pytest

from promptroute.generators.uniform import UniformBatches
from tests.generators.conftest import Fake

ITEMS = (["a", "b", "c", "d", "e"], [0, 1, 2, 3, 4])


def test_every_batch_has_the_same_size_and_the_first_is_checked() -> None:
    fake = Fake(device="cpu")
    drawn = UniformBatches(fake, 3).generate(*ITEMS)
    first, moved, last = sorted(["".join(prompt for prompt, _ in batch) for batch in fake.batches])
    assert (first, moved, last) == ("abc", "cab", "dee"), "the first also with each image moved up by one"
    np.testing.assert_array_equal(drawn, np.stack([fake.picture(*item) for item in zip(*ITEMS, strict=True)]))


def test_where_the_place_matters_images_are_drawn_singly(capsys: pytest.CaptureFixture[str]) -> None:
    class Placed(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
            pictures = super().generate(prompts, seeds)
            pictures[2:] = np.nextafter(pictures[2:], np.float32(2))
            return pictures

    fake = Placed(device="cpu")
    batches = UniformBatches(fake, 3)
    drawn = batches.generate(*ITEMS)
    assert batches.size == 1
    np.testing.assert_array_equal(drawn, np.stack([fake.picture(*item) for item in zip(*ITEMS, strict=True)]))
    assert "one image at a time instead of 3" in capsys.readouterr().err


def test_without_memory_for_a_batch_images_are_drawn_singly() -> None:
    class Small(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
            if len(prompts) > 1:
                raise RuntimeError(
                    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
                )
            return super().generate(prompts, seeds)

    fake = Small(device="cpu")
    assert len(UniformBatches(fake, 4).generate(*ITEMS)) == 5
    assert [len(batch) for batch in fake.batches] == [1] * 5


def test_another_error_passes() -> None:
    class Broken(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        UniformBatches(Broken(), 2).generate(*ITEMS)
