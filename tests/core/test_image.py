"""How an image of any mode is read."""

import io

import numpy as np
import pytest
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.core.image import ORIENTATION, to_rgb
from promptroute.scorers.nima import to_pixels


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grey_is_scaled(mode: str) -> None:
    grey = np.array([[0, 257, 32896, 65535]], np.uint16)
    kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    image = Image.frombytes(mode, (4, 1), grey.astype(kind).tobytes())
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 1, 128, 255]
    assert np.ptp(to_pixels(image, 4)) == pytest.approx(2)


def test_transparent_is_blended_with_white() -> None:
    image = Image.new("RGBA", (1, 3))
    for row, alpha in enumerate((0, 128, 255)):
        image.putpixel((0, row), (100, 0, 0, alpha))
    assert np.asarray(to_rgb(image))[:, 0].tolist() == [[255, 255, 255], [177, 127, 127], [100, 0, 0]]
    assert np.asarray(to_rgb(image, drop_alpha=True))[:, 0].tolist() == [[100, 0, 0]] * 3
    palette = Image.new("P", (1, 1))
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_turned_as_it_says() -> None:
    stored = Image.new("RGB", (2, 1), "red")
    stored.putpixel((1, 0), (0, 0, 255))
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    file = io.BytesIO()
    stored.save(file, "PNG", exif=tag)
    shown = to_rgb(Image.open(file))
    assert shown.size == (1, 2) and shown.getpixel((0, 1)) == (0, 0, 255)


@pytest.mark.parametrize("values", [np.float32([[0, 1]]), np.int32([[-1, 5]]), np.int32([[0, 65536]])])
def test_white_is_not_guessed(values: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected 8 or 16 bits a colour"):
        to_rgb(Image.fromarray(values))


def test_rgb_stays() -> None:
    image = Image.new("RGB", (2, 2), "red")
    assert to_rgb(image) is image
