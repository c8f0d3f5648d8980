import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptroute.core.errors import UserError
from promptroute.core.image import Image as Row
from promptroute.report.images import load_images, small
from tests.report.conftest import FAILED, write_images
from tests.report.made import prompts_of


def test_any_shard(written: Path) -> None:
    write_images(written.parent)
    data = written.parent / "data"
    ids = prompts_of(written)["prompt_id"]
    wanted = {ids.iloc[0], ids.iloc[-1]}
    loaded = load_images(data / "images", data / "scores", ["m3"], ["nima"], wanted)
    assert set(loaded) == {(prompt_id, "m3") for prompt_id in wanted}
    for images in loaded.values():
        assert [image.seed for image in images] == [0, 1, 2]
        assert [image.data is None for image in images] == [seed == FAILED for seed in range(3)]
        assert images[2].scores == {"nima.mean": pytest.approx(8.2)}


def an_image(**save: Any) -> Row:
    file = io.BytesIO()
    Image.effect_noise((20, 20), 90).convert("RGB").save(file, **save)
    return Row("a", "a dog", "m", 0, "ok", None, 20, 20, file.getvalue())


def test_kinds() -> None:
    assert small(an_image(format="PNG"))[0] == "png"
    kind, data = small(an_image(format="WEBP"))  # as a service may give
    assert (kind, Image.open(io.BytesIO(data)).format) == ("jpeg", "JPEG")


def test_bytes_that_are_no_image() -> None:
    info = PngInfo()
    info.add_text("a", "x" * 5_000_000, zip=True)
    whole = an_image(format="PNG").image or b""
    for data in (
        b"",
        b"<svg/>",
        whole[:60],
        whole[:37] + b"xxxx" + whole[41:],
        an_image(format="PNG", pnginfo=info).image,
    ):
        with pytest.raises(UserError, match="the image of prompt a, seed 0 can't be read"):
            small(dataclasses.replace(an_image(format="PNG"), image=data))


def test_large_image_shrinks(written: Path) -> None:
    write_images(written.parent, ("m0",), side=512)
    data = written.parent / "data"
    first = prompts_of(written)["prompt_id"].iloc[0]
    (image, *_), *_ = load_images(data / "images", data / "scores", ["m0"], [], {first}).values()
    assert image.kind == "jpeg" and image.data is not None
    assert Image.open(io.BytesIO(image.data)).size == (192, 192)
