"""Scenes: drawing them, stating them in captions, and reading them back."""

import json
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini.captions import (
    LAYOUTS,
    PROMPT_SETS,
    RELATIONS,
    WORDS,
    Caption,
    Group,
    Statement,
    caption_from_plain,
    draw_captions,
)
from mini.checker import UNKNOWN, check, read_scene, share_right
from mini.scenes import (
    BACKGROUNDS,
    COLOURS,
    JITTER,
    PATTERNS,
    PLACES,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    draw,
    mask,
    place_of,
    random_things,
    relation_of,
)

RED_CIRCLE = Thing("circle", "red", "large", "solid", 32, 32)

captions = st.builds(
    lambda name, seed: PROMPT_SETS[name](np.random.default_rng(seed)),
    st.sampled_from(sorted(PROMPT_SETS)),
    st.integers(0, 2**32),
)


def test_a_circle_is_where_and_as_large_as_it_should_be() -> None:
    picture = draw(Scene((RED_CIRCLE,), "white", "plain"))
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert tuple(picture[32, 32]) == COLOURS["red"]
    assert tuple(picture[0, 0]) == BACKGROUNDS["white"][0]
    assert mask("circle", 32, 32, 14).sum() == pytest.approx(np.pi * 14**2, rel=0.01)
    assert tuple(picture[32, 32 + 12]) == COLOURS["red"]
    assert tuple(picture[32, 32 + 16]) == BACKGROUNDS["white"][0]


def test_a_square_has_its_area_and_soft_edges() -> None:
    cover = mask("square", 32.3, 31.8, 10)
    assert cover.sum() == pytest.approx(2 * 12**2, rel=0.03)  # half the diagonal is 1.2 radii
    assert set(np.unique(cover)) - {0.0, 1.0}, "edges that fall between pixels are soft"


def test_shapes_differ_by_far_more_than_the_least_overlap() -> None:
    drawn = {shape: mask(shape, 32, 32, 14) > 0.5 for shape in SHAPES}
    for one in SHAPES:
        for other in SHAPES:
            if one < other:
                overlap = (drawn[one] & drawn[other]).sum() / (drawn[one] | drawn[other]).sum()
                assert overlap < 0.9, (one, other)


@given(captions)
@settings(max_examples=40, deadline=None)
def test_the_same_scene_gives_the_same_pixels(caption: Caption) -> None:
    again = caption_from_plain(json.loads(json.dumps(asdict(caption))))
    assert again == caption
    np.testing.assert_array_equal(draw(again.scene), draw(caption.scene))


@given(captions)
@settings(max_examples=300, deadline=None)
def test_all_that_a_caption_states_holds_in_its_scene(caption: Caption) -> None:
    assert all(one.right for one in check(caption.statement, caption.scene))
    assert sum(group.count for group in caption.statement.groups) == len(caption.scene.things)


@given(captions)
@settings(max_examples=200, deadline=None)
def test_what_is_stated_stands_in_the_words(caption: Caption) -> None:
    text = caption.text.lower()
    said = [caption.statement.background, caption.statement.pattern, caption.statement.relation]
    for group in caption.statement.groups:
        said += [group.colour, group.size, group.texture]
    for key in filter(None, said):
        opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}.get(
            key, key
        )
        assert any(word in text for word in (*WORDS[key], *WORDS[opposite])), (key, text)


def test_sentences_name_the_relation_from_the_right_side() -> None:
    """The inverse sentence shape: "A with B under it" states that A is above B."""
    found = 0
    for caption in draw_captions("relations", 400, seed=5):
        if " with " in caption.text and caption.statement.relation == "above":
            assert any(f" {word} it" in caption.text for word in WORDS["below"])
            found += 1
    assert found > 5


def test_prompt_sets_differ_in_length_and_a_longer_draw_begins_with_the_shorter() -> None:
    words = {
        name: np.mean([len(c.text.split()) for c in draw_captions(name, 200, 0)]) for name in PROMPT_SETS
    }
    assert words["labels"] < 4 < words["counts"] < 9 < words["relations"] < 20 < words["narratives"]
    assert min(len(caption.text.split()) for caption in draw_captions("labels", 200, 0)) == 1
    for name in PROMPT_SETS:
        assert draw_captions(name, 30, 7, distinct=True)[:20] == draw_captions(name, 20, 7, distinct=True)
        assert len({caption.text for caption in draw_captions(name, 100, 7, distinct=True)}) == 100


@given(st.integers(1, 4), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_things_never_touch(count: int, seed: int, tidy: bool) -> None:
    rng = np.random.default_rng(seed)
    things = random_things(count, rng, LAYOUTS[count] if tidy else None, jitter=0 if tidy else JITTER)
    covers = [mask(thing.shape, thing.x, thing.y, SIZES[thing.size]) > 0 for thing in things]
    assert len(things) == count
    assert np.sum(covers, axis=0).max() == 1
    off = [abs(value - 16 * round(value / 16)) for thing in things for value in (thing.x, thing.y)]
    assert max(off) <= (0 if tidy else JITTER)
    if tidy:
        assert tuple(place_of(thing.x, thing.y) for thing in things) == LAYOUTS[count]


def test_a_tidy_scene_is_arranged_where_its_caption_does_not_say_where() -> None:
    def places(name: str, tidy: bool) -> set[tuple[str, ...]]:
        return {
            tuple(place_of(thing.x, thing.y) for thing in caption.scene.things)
            for caption in draw_captions(name, 100, seed=4, tidy=tidy)
            if not any(group.place for group in caption.statement.groups)
        }

    assert places("labels", True) == places("tags", True) == {LAYOUTS[1]}
    assert places("counts", True) == set(LAYOUTS.values())
    assert places("relations", True) == set(RELATIONS.values())
    assert len(places("labels", False)) == 9
    told = [one for one in draw_captions("tags", 100, seed=4) if one.statement.groups[0].place]
    assert len({one.statement.groups[0].place for one in told}) > 5


def test_places_and_relations_by_hand() -> None:
    assert place_of(16, 48) == "bottom left" and place_of(32, 32) == "centre" and place_of(50, 30) == "right"
    left, right = replace(RED_CIRCLE, x=16, y=20), replace(RED_CIRCLE, x=48, y=32)
    assert relation_of(left, right) == "left of" and relation_of(right, left) == "right of"
    assert relation_of(replace(left, y=0), replace(left, y=30)) == "above"
    assert relation_of(left, replace(left, x=30, y=36), margin=6) is None, "14 against 16 pixels: not clear"
    assert relation_of(left, left) is None


def test_checks_by_hand() -> None:
    statement = Statement((Group(shape="circle", colour="red"), Group(shape="star")), "left of", "white")
    star = Thing("star", "blue", "small", "solid", 48, 32)
    circle = replace(RED_CIRCLE, x=16, size="medium")

    def right(*things: Thing, background: str = "white") -> dict[str, list[bool]]:
        found: dict[str, list[bool]] = {}
        for one in check(statement, Scene(things, background, "plain")):
            found.setdefault(one.kind, []).append(one.right)
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
    assert share_right(check(statement, Scene((circle,), "white", "plain"))) == pytest.approx(3 / 6)


def test_every_one_of_a_group_must_fit() -> None:
    statement = Statement((Group(count=2, shape="circle", colour="red"),))
    things = (replace(RED_CIRCLE, x=16, size="small"), replace(RED_CIRCLE, x=48, size="small", colour="blue"))
    kinds = {one.kind: one.right for one in check(statement, Scene(things, "white", "plain"))}
    assert kinds == {"count": True, "shape": True, "colour": False}


@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_the_checker_reads_true_pictures(noise: float) -> None:
    """At least 99 % of every attribute, without and with noise of 8 grey levels."""
    rng = np.random.default_rng(11)
    right, total = Counter[str](), Counter[str]()
    for name in PROMPT_SETS:
        for caption in draw_captions(name, 40, seed=13):
            scene = caption.scene
            picture = np.clip(draw(scene) + noise * rng.standard_normal((64, 64, 3)), 0, 255).astype(np.uint8)
            read = read_scene(picture)
            total.update(["background", "pattern", "count"])
            right["background"] += read.background == scene.background
            right["pattern"] += read.pattern == scene.pattern
            right["count"] += len(read.things) == len(scene.things)
            for thing in scene.things:
                near = min(
                    read.things, key=lambda one: np.hypot(one.x - thing.x, one.y - thing.y), default=None
                )
                for part in ("shape", "colour", "size", "texture"):
                    total[part] += 1
                    right[part] += getattr(near, part, None) == getattr(thing, part)
                total["place"] += 1
                right["place"] += near is not None and place_of(near.x, near.y) == place_of(thing.x, thing.y)
    assert total["shape"] > 300
    assert {part: right[part] / total[part] for part in total if right[part] / total[part] < 0.99} == {}


def test_the_checker_does_not_see_what_is_not_there() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert all(thing.shape == UNKNOWN for thing in read_scene(noise).things)
    assert read_scene(draw(Scene((), "grey", "dotted"))) == Scene((), "grey", "dotted")
    rectangle = draw(Scene((), "white", "plain"))
    rectangle[30:34, 6:58] = COLOURS["red"]
    assert [thing.shape for thing in read_scene(rectangle).things] == [UNKNOWN]


def test_names_are_known_to_the_grammar() -> None:
    for key in (*COLOURS, *BACKGROUNDS, *SHAPES, *SIZES, *TEXTURES, *PATTERNS):
        assert WORDS[key], key
    assert len(PLACES) == 9
