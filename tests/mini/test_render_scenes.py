"""Training scenes as files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mini import render_scenes
from mini.render_scenes import read_scenes, write_scenes
from tests.mini.helpers import CAPTIONS


def test_round_trip(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    write_scenes(tmp_path / "scenes", CAPTIONS)
    read, captions = read_scenes(tmp_path / "scenes")
    assert captions == CAPTIONS
    np.testing.assert_array_equal(read, images)


def test_scene_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        render_scenes, "load_settings", lambda _: {"free": 3, "arranged": 6, "multiple": 6, "seed": 1}
    )
    render_scenes.main()
    _, arranged = read_scenes(render_scenes.ARRANGED)
    images, multiple = read_scenes(render_scenes.MULTIPLE)
    assert len(images) == len(multiple) >= 6, "all of `relations` have two"
    assert min(len(caption.scene.objects) for caption in multiple) >= 2
    assert {len(caption.scene.objects) for caption in arranged} >= {1, 2}
    assert not {caption.scene for caption in arranged} & {caption.scene for caption in multiple}
