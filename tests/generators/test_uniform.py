"""Batches of one size: filled up, checked once, given up where an image's place matters."""

import numpy as np
import pytest

from promptroute.generators.base import Generated
from promptroute.generators.uniform import UniformBatches
from tests.generators.conftest import Fake

ITEMS = (["a", "b", "c", "d", "e"], [0, 1, 2, 3, 4])


def test_every_batch_has_one_size() -> None:
    fake = Fake(device="cpu")
    images = UniformBatches(fake, 3).generate(*ITEMS)
    first, moved, last = sorted(["".join(prompt for prompt, _ in batch) for batch in fake.batches])
    assert (first, moved, last) == ("abc", "cab", "dee"), "the first also with each image moved up by one"
    np.testing.assert_array_equal(images, np.stack([fake.image(*item) for item in zip(*ITEMS, strict=True)]))


def test_place_that_matters(caplog: pytest.LogCaptureFixture) -> None:
    class Placed(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            images = super().generate(prompts, seeds)
            return [*images[:2], *(np.nextafter(image, np.float32(2)) for image in images[2:])]

    fake = Placed(device="cpu")
    batches = UniformBatches(fake, 3)
    images = batches.generate(*ITEMS)
    assert batches.size == 1
    np.testing.assert_array_equal(images, np.stack([fake.image(*item) for item in zip(*ITEMS, strict=True)]))
    assert "one image at a time instead of 3" in caplog.text


def test_no_memory_for_a_batch() -> None:
    class Small(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            if len(prompts) > 1:
                raise RuntimeError(
                    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
                )
            return super().generate(prompts, seeds)

    fake = Small(device="cpu")
    assert len(UniformBatches(fake, 4).generate(*ITEMS)) == 5
    assert [len(batch) for batch in fake.batches] == [1] * 5


def test_other_errors_pass() -> None:
    class Broken(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        UniformBatches(Broken(), 2).generate(*ITEMS)
