import io
from pathlib import Path

import pytest
from PIL import Image

from promptroute.report.images import load_images
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


def test_large_image_shrinks(written: Path) -> None:
    write_images(written.parent, ("m0",), side=512)
    data = written.parent / "data"
    first = prompts_of(written)["prompt_id"].iloc[0]
    (image, *_), *_ = load_images(data / "images", data / "scores", ["m0"], [], {first}).values()
    assert image.kind == "jpeg" and image.data is not None
    assert Image.open(io.BytesIO(image.data)).size == (192, 192)
