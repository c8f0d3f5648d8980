"""Images are changed on threads, in order."""

import io

import numpy as np
from PIL import Image

from promptroute.runtime.decoding import each


def opened(seed: int) -> Image.Image:
    """Open an image whose pixels are not read yet."""
    pixels = np.random.default_rng(seed).integers(0, 256, (400, 400, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return Image.open(file)


class TestEach:
    def test_order(self) -> None:
        images = [opened(seed) for seed in range(8)]
        expected = [np.asarray(opened(seed)) for seed in range(8)]
        np.testing.assert_array_equal(each(np.asarray, images), expected)

    def test_one_image_twice(self) -> None:
        """Two threads that read one file at once would each get a part of it."""
        for _ in range(20):
            image, other = opened(1), opened(2)
            first, second, third = each(np.asarray, [image, other, image])
            np.testing.assert_array_equal(first, third)
            assert (first != second).any()

    def test_none(self) -> None:
        assert each(np.asarray, []) == []
