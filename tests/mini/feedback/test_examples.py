"""Examples of feedback: what is altered and spoiled is exactly what their truth says."""

from dataclasses import replace

import numpy as np
import pytest

from mini.captions import Caption, Group, Span, Statement
from mini.checker import Finding, check, find
from mini.feedback.examples import (
    MAPS,
    Example,
    alter,
    misalignment_map,
    missed_words,
    new_example,
    scores,
    spoil,
)
from mini.scenes import SIDE, Object, Scene, apart, mask, render
from promptroute.feedback.texts import prompt_words

STAR = Object("star", "red", "medium", "solid", 16, 32)
RING = Object("ring", "blue", "medium", "solid", 48, 32)
TEXT = "a red star left of a ring"
CAPTION = Caption(
    TEXT,
    Statement((Group(shape="star", colour="red"), Group(shape="ring")), relation="left of"),
    Scene((STAR, RING), "white", "plain"),
    (
        Span(2, 5, 0, "colour"),
        Span(6, 10, 0, "shape"),
        Span(11, 18, None, "relation"),
        Span(21, 25, 1, "shape"),
    ),
)


def shown(*objects: Object, background: str = "white") -> Scene:
    return Scene(objects, background, "plain")


def missing(scene: Scene) -> list[str]:
    """Return the words that a scene misses of `CAPTION`."""
    return [word for word, miss in zip(prompt_words(TEXT), missed_words(CAPTION, scene), strict=True) if miss]


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [new_example((3, number)) for number in range(60)]


class TestWords:
    def test_nothing_altered(self) -> None:
        assert missing(CAPTION.scene) == []

    def test_attribute(self) -> None:
        assert missing(shown(replace(STAR, colour="pink"), RING)) == ["red"]
        assert missing(shown(STAR, replace(RING, shape="heart"))) == ["ring"]

    def test_unstated_attribute(self) -> None:
        assert missing(shown(STAR, replace(RING, colour="teal", size="small"), background="black")) == []

    def test_relation(self) -> None:
        assert missing(shown(replace(STAR, x=48), replace(RING, x=16))) == ["left", "of"]

    def test_object_gone(self) -> None:
        assert missing(shown(RING)) == ["red", "star", "left", "of"]

    def test_object_too_many(self) -> None:
        """No word says how many; the map and the score do."""
        extra = replace(RING, y=56)
        assert missing(shown(STAR, RING, extra)) == []
        assert find(CAPTION.statement, shown(STAR, RING, extra))[3] == Finding(1, "count", False, 2, (2,))

    def test_count(self) -> None:
        caption = Caption(
            "a pair of stars",
            Statement((Group(count=2, shape="star"),)),
            shown(STAR, replace(STAR, x=48)),
            (Span(0, 9, 0, "count"), Span(10, 15, 0, "shape")),
        )
        assert missed_words(caption, shown(STAR)) == (True, True, True, False)
        assert missed_words(caption, caption.scene) == (False,) * 4


class TestFindings:
    def test_shown(self) -> None:
        seen = {
            (found.group, found.part): found.shown
            for found in find(
                CAPTION.statement, shown(replace(STAR, colour="pink", x=48), replace(RING, x=16))
            )
        }
        assert seen == {
            (0, "count"): 1, (0, "shape"): "star", (0, "colour"): "pink", (1, "count"): 1, (1, "shape"): "ring",
            (None, "relation"): "right of",
        }  # fmt: skip

    def test_agree_with_check(self, examples: list[Example]) -> None:
        """What is found wrong of attributes is wrong to the checker too, which also counts what a missing object lacks."""
        for example in examples:
            statement = example.caption.statement
            found = [one for one in find(statement, example.scene) if one.part != "count"]
            checked = [one for one in check(statement, example.scene) if one.kind != "count"]
            assert [one.part for one in found] == [one.kind for one in checked]
            for one, claim in zip(found, checked, strict=True):
                assert one.correct or not claim.correct
            if sum(group.count for group in statement.groups) == len(example.scene.objects):
                assert [one.correct for one in found] == [claim.correct for claim in checked]


class TestMaps:
    def test_attribute(self) -> None:
        scene = shown(replace(STAR, colour="pink"), RING)
        np.testing.assert_array_equal(misalignment_map(CAPTION.statement, scene), mask("star", 16, 32, 10))

    def test_relation(self) -> None:
        scene = shown(replace(STAR, x=48), replace(RING, x=16))
        both = np.maximum(mask("star", 48, 32, 10), mask("ring", 16, 32, 10))
        np.testing.assert_array_equal(misalignment_map(CAPTION.statement, scene), both)

    def test_background(self) -> None:
        statement = Statement((Group(shape="star"),), background="black")
        where = misalignment_map(statement, shown(STAR))
        np.testing.assert_array_equal(where, 1 - mask("star", 16, 32, 10))

    def test_object_gone(self) -> None:
        assert not misalignment_map(CAPTION.statement, shown(RING)).any()

    def test_object_too_many(self) -> None:
        where = misalignment_map(CAPTION.statement, shown(STAR, RING, replace(RING, y=56)))
        np.testing.assert_array_equal(where, mask("ring", 48, 56, 10))

    def test_spoiled(self) -> None:
        image, scene = render(CAPTION.scene), CAPTION.scene
        for seed in range(10):
            spoiled, where, level = spoil(image, scene, np.random.default_rng(seed))
            assert 0.4 <= level <= 1 and where.max() <= level + 1e-9
            assert np.array_equal(spoiled[where == 0], image[where == 0])
            assert (spoiled != image).any()


class TestScores:
    def test_by_hand(self) -> None:
        scene = shown(replace(STAR, colour="pink"), RING)
        where = np.zeros((SIDE, SIDE))
        where[:10, :20] = 0.5
        found = scores(CAPTION.statement, scene, where, 0.5)
        assert found["plausibility"] == pytest.approx(1 - 100 / 400)
        assert found["alignment"] == pytest.approx(4 / 5)  # count, shape, colour, shape, relation
        assert found["aesthetics"] == pytest.approx((5.5 - 2) / 7, abs=0.01)
        assert found["overall"] == pytest.approx((0.75 + 0.8 + found["aesthetics"]) / 3)

    def test_intact(self) -> None:
        found = scores(CAPTION.statement, CAPTION.scene, np.zeros((SIDE, SIDE)), 0.0)
        assert (found["plausibility"], found["alignment"]) == (1, 1) and found["aesthetics"] > 0.95


class TestExamples:
    def test_seed_decides(self, examples: list[Example]) -> None:
        again = new_example((3, 7))
        assert again.caption == examples[7].caption and again.scores == examples[7].scores
        assert np.array_equal(again.image, examples[7].image)
        assert not np.array_equal(again.image, examples[8].image)

    def test_truth(self, examples: list[Example]) -> None:
        for example in examples:
            wrong = [claim for claim in check(example.caption.statement, example.scene) if not claim.correct]
            altered = example.scene != example.caption.scene
            assert bool(wrong) == altered
            assert not any(example.missed) or altered
            assert all(
                apart(one, other)
                for index, one in enumerate(example.scene.objects)
                for other in example.scene.objects[:index]
            )
            if example.scores["plausibility"] == 1:
                assert np.array_equal(example.image, render(example.scene))

    def test_shares(self, examples: list[Example]) -> None:
        altered = np.mean([example.scene != example.caption.scene for example in examples])
        spoiled = np.mean([example.maps["implausibility"].any() for example in examples])
        assert 0.4 < altered < 0.8 and 0.4 < spoiled < 0.8
        assert all(
            0 <= example.maps[name].min() <= example.maps[name].max() <= 1
            for example in examples
            for name in MAPS
        )

    def test_alterations_are_found(self) -> None:
        rng = np.random.default_rng(0)
        made = [scene for scene in (alter(CAPTION, rng) for _ in range(60)) if scene is not None]
        parts = {
            (found.group, found.part)
            for scene in made
            for found in find(CAPTION.statement, scene)
            if not found.correct
        }
        assert parts == {
            (0, "count"),
            (0, "shape"),
            (0, "colour"),
            (1, "count"),
            (1, "shape"),
            (None, "relation"),
        }
