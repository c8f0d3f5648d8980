"""Scenes: their rendering, places and relations."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini.captions import (
    LAYOUTS,
    Caption,
    caption_from_plain,
)
from mini.scenes import (
    BACKGROUNDS,
    COLOURS,
    JITTER,
    SHAPES,
    SIZES,
    Scene,
    mask,
    place_of,
    random_objects,
    relation_of,
    render,
)
from tests.mini.helpers import RED_CIRCLE, any_caption


def test_circle_pixels() -> None:
    image = render(Scene((RED_CIRCLE,), "white", "plain"))
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert tuple(image[32, 32]) == COLOURS["red"]
    assert tuple(image[0, 0]) == BACKGROUNDS["white"][0]
    assert mask("circle", 32, 32, 14).sum() == pytest.approx(np.pi * 14**2, rel=0.01)
    assert tuple(image[32, 32 + 12]) == COLOURS["red"]
    assert tuple(image[32, 32 + 16]) == BACKGROUNDS["white"][0]


def test_square_area_and_soft_edges() -> None:
    cover = mask("square", 32.3, 31.8, 10)
    assert cover.sum() == pytest.approx(2 * 12**2, rel=0.03)  # half the diagonal is 1.2 radii
    assert set(np.unique(cover)) - {0.0, 1.0}, "edges that fall between pixels are soft"


def test_shapes_differ() -> None:
    covers = {shape: mask(shape, 32, 32, 14) > 0.5 for shape in SHAPES}
    for first in SHAPES:
        for second in SHAPES:
            if first < second:
                overlap = (covers[first] & covers[second]).sum() / (covers[first] | covers[second]).sum()
                assert overlap < 0.9, (first, second)


@given(any_caption)
@settings(max_examples=40, deadline=None)
def test_rendering_is_deterministic(caption: Caption) -> None:
    again = caption_from_plain(json.loads(json.dumps(asdict(caption))))
    assert again == caption
    np.testing.assert_array_equal(render(again.scene), render(caption.scene))


@given(st.integers(1, 4), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_objects_never_touch(count: int, seed: int, arranged: bool) -> None:
    rng = np.random.default_rng(seed)
    objects = random_objects(
        count, rng, LAYOUTS[count] if arranged else None, jitter=0 if arranged else JITTER
    )
    covers = [mask(item.shape, item.x, item.y, SIZES[item.size]) > 0 for item in objects]
    assert len(objects) == count
    assert np.sum(covers, axis=0).max() == 1
    off = [abs(value - 16 * round(value / 16)) for item in objects for value in (item.x, item.y)]
    assert max(off) <= (0 if arranged else JITTER)
    if arranged:
        assert tuple(place_of(item.x, item.y) for item in objects) == LAYOUTS[count]


def test_places_and_relations() -> None:
    assert place_of(16, 48) == "bottom left" and place_of(32, 32) == "centre" and place_of(50, 30) == "right"
    left, right = replace(RED_CIRCLE, x=16, y=20), replace(RED_CIRCLE, x=48, y=32)
    assert relation_of(left, right) == "left of" and relation_of(right, left) == "right of"
    assert relation_of(replace(left, y=0), replace(left, y=30)) == "above"
    assert relation_of(left, replace(left, x=30, y=36), margin=6) is None, "14 against 16 pixels: not clear"
    assert relation_of(left, left) is None
