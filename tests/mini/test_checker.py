"""The checker: scenes detected in images, statements checked against scenes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mini.captions import PROMPT_SETS, Group, Statement, sample_captions
from mini.checker import UNKNOWN, check, read_scene
from mini.scenes import (
    COLOURS,
    Object,
    Scene,
    place_of,
    render,
)
from tests.mini.helpers import RED_CIRCLE


def test_check_by_hand() -> None:
    statement = Statement((Group(shape="circle", colour="red"), Group(shape="star")), "left of", "white")
    star = Object("star", "blue", "small", "solid", 48, 32)
    circle = replace(RED_CIRCLE, x=16, size="medium")

    def right(*objects: Object, background: str = "white") -> dict[str, list[bool]]:
        found: dict[str, list[bool]] = {}
        for claim in check(statement, Scene(objects, background, "plain")):
            found.setdefault(claim.kind, []).append(claim.correct)
        return found

    everything = {
        "count": [True],
        "shape": [True, True],
        "colour": [True],
        "relation": [True],
        "background": [True],
    }
    assert right(circle, star) == everything
    assert right(star, circle) == everything, "order doesn't matter"
    assert right(circle) == {**everything, "count": [False], "shape": [True, False], "relation": [False]}
    mirrored = right(replace(circle, x=48), replace(star, x=16), background="sky")
    assert mirrored == {**everything, "relation": [False], "background": [False]}
    assert right(replace(circle, shape=UNKNOWN), star)["shape"] == [False, True]
    assert right() == {key: [False] * len(value) for key, value in everything.items()} | {
        "background": [True]
    }


def test_whole_group_must_fit() -> None:
    statement = Statement((Group(count=2, shape="circle", colour="red"),))
    objects = (
        replace(RED_CIRCLE, x=16, size="small"),
        replace(RED_CIRCLE, x=48, size="small", colour="blue"),
    )
    kinds = {claim.kind: claim.correct for claim in check(statement, Scene(objects, "white", "plain"))}
    assert kinds == {"count": True, "shape": True, "colour": False}


@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_read_scene_accuracy(noise: float) -> None:
    """At least 99 % of every attribute, without and with noise of 8 grey levels."""
    rng = np.random.default_rng(11)
    right, total = Counter[str](), Counter[str]()
    for name in PROMPT_SETS:
        for caption in sample_captions(name, 40, seed=13):
            scene = caption.scene
            image = np.clip(render(scene) + noise * rng.standard_normal((64, 64, 3)), 0, 255).astype(np.uint8)
            read = read_scene(image)
            total.update(["background", "pattern", "count"])
            right["background"] += read.background == scene.background
            right["pattern"] += read.pattern == scene.pattern
            right["count"] += len(read.objects) == len(scene.objects)
            for item in scene.objects:
                near = min(
                    read.objects, key=lambda other: np.hypot(other.x - item.x, other.y - item.y), default=None
                )
                for part in ("shape", "colour", "size", "texture"):
                    total[part] += 1
                    right[part] += getattr(near, part, None) == getattr(item, part)
                total["place"] += 1
                right["place"] += near is not None and place_of(near.x, near.y) == place_of(item.x, item.y)
    assert total["shape"] > 300
    assert {part: right[part] / total[part] for part in total if right[part] / total[part] < 0.99} == {}


def test_no_false_detections() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert all(item.shape == UNKNOWN for item in read_scene(noise).objects)
    assert read_scene(render(Scene((), "grey", "dotted"))) == Scene((), "grey", "dotted")
    rectangle = render(Scene((), "white", "plain"))
    rectangle[30:34, 6:58] = COLOURS["red"]
    assert [item.shape for item in read_scene(rectangle).objects] == [UNKNOWN]
