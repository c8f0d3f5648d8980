"""A little study with images of one colour each, that people look at."""

import io
from pathlib import Path

import pytest
from PIL import Image as Pillow

from promptroute.core.image import Image
from promptroute.io.images import write_shard

MODELS = {
    "sdxl": {"label": "SDXL <1>", "profile": {"seconds": 2.0, "memory_gb": 9.0}, "generator": {"secret": 1}},
    "amused": {},
    "taesd": {"label": "TAESD"},
}
"""Model → its section of the parameters."""
PROMPTS = {"p1": "a red car", "p2": "<img src=x onerror=document.title=1> & two sheep", "p3": "three birds"}


def png(red: int, green: int, blue: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (32, 32), (red, green, blue)).save(buffer, "PNG")
    return buffer.getvalue()


def write_study(data: Path) -> None:
    """Write two images of each prompt and model; `taesd` failed on p3's."""
    for place, model in enumerate(MODELS):
        rows = [
            Image(name, text, model, seed, "failed", "ran out of memory", None, None, None)
            if (model, name) == ("taesd", "p3")
            else Image(name, text, model, seed, "ok", None, 32, 32, png(80 * place, 60 * seed, 20 * row))
            for row, (name, text) in enumerate(PROMPTS.items())
            for seed in (0, 1)
        ]
        write_shard(data / "images" / model / "part-00000.parquet", rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_study(tmp_path / "data")
    return tmp_path / "data"
