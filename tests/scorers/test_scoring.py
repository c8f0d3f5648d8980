"""Pictures through several models at once: decoded once, in order, whatever the memory holds."""

import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image as Pillow

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.scorers import run as scoring
from promptroute.scorers.run import Ahead, over_images


def image(shade: int) -> Image:
    file = io.BytesIO()
    Pillow.new("RGB", (2, 2), (shade, 0, 0)).save(file, format="PNG")
    return Image(f"P{shade}", "a prompt", "some", 0, "ok", None, 2, 2, file.getvalue())


ROWS = [image(shade) for shade in range(23)]


def shades(pictures: Sequence[Pillow.Image]) -> np.ndarray:
    return np.array([picture.getpixel((0, 0))[0] for picture in pictures], float)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
def test_each_picture_is_decoded_once_for_all_models(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()
    decode = scoring.open_picture

    def counted(row: Image) -> Pillow.Image:
        decoded[row.prompt_id] += 1
        return decode(row)

    monkeypatch.setattr(scoring, "open_picture", counted)
    one, two = over_images(
        ROWS, [shades, lambda pictures: np.stack([shades(pictures), -shades(pictures)], 1)], batch_size
    )
    assert one.tolist() == list(range(23))
    assert two.tolist() == [[shade, -shade] for shade in range(23)]
    assert decoded == Counter({row.prompt_id: 1 for row in ROWS})


def test_out_of_memory_halves_the_batch_and_loses_nothing() -> None:
    sizes = []

    def greedy(pictures: Sequence[Pillow.Image]) -> np.ndarray:
        sizes.append(len(pictures))
        if len(pictures) > 5:
            raise MemoryError
        return shades(pictures)

    (found,) = over_images(ROWS, [greedy], 20)
    assert found.tolist() == list(range(23))
    assert sizes == [20, 10, 5, 5, 5, 5, 3]


def test_only_so_many_pictures_are_held() -> None:
    with ThreadPoolExecutor(1) as pool:
        ahead = Ahead(ROWS, pool, 4)
        for start in range(0, 20, 4):
            assert shades(ahead(range(start, start + 4))).tolist() == list(range(start, start + 4))
            assert len(ahead._under_way) <= 8


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda pictures: np.where(shades(pictures) == 7, np.nan, 1.0), "a value that is not finite"),
        (lambda pictures: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_the_picture_at_fault_is_named(model: object, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        over_images(ROWS, [shades, model], 4)  # type: ignore[list-item]
    assert ("prompt P7" if "finite" in said else "prompt P0") in str(error.value)


def test_a_torn_picture_is_named() -> None:
    torn = Image("P99", "a prompt", "some", 3, "ok", None, 2, 2, (ROWS[0].image or b"")[:30])
    with pytest.raises(UserError, match="prompt P99, seed 3 can't be read"):
        over_images([*ROWS, torn], [shades], 4)
