"""A study's recovery: views joined by key, sides, cross-fitting, and the whole of it on tables that are made up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.evaluation.recovery import Judge, StudyPrompts, measure, recover
from promptroute.io.embeddings import embeddings_table, read_image_embeddings
from promptroute.io.parquet import write_parquet
from promptroute.recovery.learners.base import Examples
from promptroute.recovery.learners.knn import Knn
from promptroute.recovery.learners.mean import Mean
from promptroute.recovery.learners.ridge import Ridge
from promptroute.recovery.study import (
    RecoveryStudy,
    StudyImages,
    check_views,
    cross_fitted,
    read_views,
    sides,
    write_predicted,
)
from promptroute.recovery.texts import Bank
from tests.recovery.conftest import small_world
from tests.recovery.test_recovered import Hues, Named

Write = Callable[..., None]
MODELS = ("one", "two")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a view's embeddings of a model's images."""

    def written(view: str, model: str, ids: Sequence[str], seeds: Sequence[int], rows: Any) -> None:
        table = embeddings_table(ids, np.asarray(rows, np.float32), seeds)
        write_parquet(
            tmp_path / view / model / "part-00000.parquet", table, {"model": model, "component": view}
        )

    return written


class TestReadViews:
    def test_joins_by_key(self, write: Write, tmp_path: Path) -> None:
        for model in MODELS:
            write("a", model, ["P1", "P1", "P2"], [0, 1, 0], [[1], [2], [3]])
            write("b", model, ["P2", "P1", "P1"], [0, 1, 0], [[30], [20], [10]])
        images = read_views(tmp_path, ["a", "b"], MODELS)
        np.testing.assert_array_equal(10 * images.views["a"], images.views["b"])
        assert images.model.tolist() == ["one"] * 3 + ["two"] * 3 and images.seed.tolist() == [0, 1, 0] * 2

    def test_views_of_other_images(self, write: Write, tmp_path: Path) -> None:
        write("a", "one", ["P1", "P2"], [0, 0], [[1], [2]])
        write("b", "one", ["P1", "P3"], [0, 0], [[1], [2]])
        with pytest.raises(UserError, match=r"b.one: lacks the image of prompt P2, seed 0 \(2 such\)"):
            read_views(tmp_path, ["a", "b"], ["one"])
        write("b", "one", ["P1", "P1", "P2"], [0, 0, 0], [[1], [2], [3]])
        with pytest.raises(UserError, match="3 rows of 2 images; embed the images again"):
            read_views(tmp_path, ["a", "b"], ["one"])

    def test_missing(self, write: Write, tmp_path: Path) -> None:
        write("a", "one", ["P1"], [0], [[1]])
        with pytest.raises(UserError, match=r"b.one: no embeddings of images"):
            read_views(tmp_path, ["a", "b"], ["one"])
        with pytest.raises(UserError, match="no model generates images here"):
            read_views(tmp_path, ["a"], [])


class TestSettings:
    def settings(self, **changed: Any) -> dict[str, Any]:
        return {
            "_target_": "promptroute.recovery.study.RecoveryStudy",
            "views": ["hues"],
            "learner": {"_target_": Ridge.class_path()},
            "text": {"_target_": Named.class_path()},
            **changed,
        }

    def test_builds(self) -> None:
        study = build(
            self.settings(beside={"mean": {"_target_": Mean.class_path()}}), "recovery", RecoveryStudy
        )
        assert list(study.learners) == ["ridge", "mean"]
        check_views(study, ["clip", "hues"])
        check_views(None, [])

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"views": []}, r"recovery\.views is \[\]"),
            ({"views": ["hues", "hues"]}, "expected each encoder once"),
            ({"near": 1.5}, r"recovery\.near is 1\.5"),
            ({"learner": {"_target_": Named.class_path()}}, r"recovery\.learner is"),
            ({"folds": 1}, r"recovery\.folds is 1"),
        ],
    )
    def test_refuses(self, changed: dict[str, Any], said: str) -> None:
        with pytest.raises(UserError, match=said):
            build(self.settings(**changed), "recovery", RecoveryStudy)

    def test_refuses_parts(self) -> None:
        study = build(self.settings(), "recovery", RecoveryStudy)
        with pytest.raises(UserError, match=r"recovery\.views has hues, which image_encoder lacks.*\(clip\)"):
            check_views(study, ["clip"])
        twice = build(
            self.settings(beside={"ridge": {"_target_": Mean.class_path()}}), "recovery", RecoveryStudy
        )
        with pytest.raises(
            UserError, match=r"recovery\.beside\.ridge has the name of the study's own learner"
        ):
            _ = twice.learners
        wrong = build(self.settings(text={"_target_": Hues.class_path()}), "recovery", RecoveryStudy)
        with pytest.raises(UserError, match=r"recovery\.text: Hues encodes no texts"):
            _ = wrong.text_encoder
        lost = build(self.settings(phrases="none.txt"), "recovery", RecoveryStudy)
        with pytest.raises(UserError, match=r"none\.txt: no readable list of phrases"):
            lost.weights()


def test_near_duplicates_on_one_side() -> None:
    angles = np.radians([0, 90, 5, 180, 93])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    side, groups = sides(rows, np.array(["train", "test", "test", "validation", "train"]), 0.99)
    assert side.tolist() == ["train", "test", "train", "validation", "test"]
    assert groups.tolist() == [0, 1, 0, 2, 1]


def test_cross_fitted_never_saw_the_prompt() -> None:
    """Nearest neighbours would give each image its own prompt's embedding, had they seen it."""
    views, target, groups = small_world()
    examples = Examples(views, target / np.linalg.norm(target, axis=1, keepdims=True))
    seen = Knn(k=(1,)).fit(views, target, groups).predict(views)
    np.testing.assert_allclose(seen, examples.target, atol=1e-5)
    apart = cross_fitted(Knn(k=(1,)), examples, groups, 4, 0)
    assert (np.abs(apart - examples.target).max(axis=1) > 1e-3).all()
    constant = cross_fitted(Mean(), examples, groups, 4, 0)
    assert len(np.unique(constant.round(5), axis=0)) == 4


def images_of(views: dict[str, np.ndarray], groups: np.ndarray) -> StudyImages:
    n = len(groups)
    ids = np.array([f"P{group:03d}" for group in groups])
    return StudyImages(np.array(MODELS)[np.arange(n) % 2], ids, np.arange(n) // 2 % 2, views)


class TestJudge:
    @pytest.fixture
    def judge(self) -> Judge:
        target = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
        images = images_of({"it": np.zeros((6, 1))}, np.repeat([0, 1, 2], 2))
        return Judge(images, target, ["a", "a", "b", "b", "c", "c"], np.ones(3), resamples=50, seed=0)

    def test_by_hand(self, judge: Judge) -> None:
        predicted = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 2], [1, 1, 0]])
        found = {name: one["estimate"] for name, one in judge.figures(predicted).items()}
        floor = 3**-0.5
        assert found["cosine"] == pytest.approx(4 / 6) and found["floor"] == pytest.approx(floor)
        assert found["share"] == pytest.approx((4 / 6 - floor) / (1 - floor))
        assert found["recall@1"] == pytest.approx(4 / 6) and found["recall@5"] == 1
        assert found["mrr"] == pytest.approx((4 + 1 / 3 + 1 / 3) / 6)
        one = judge.by_model(predicted)["one"]
        assert one["cosine"]["estimate"] == 1 and judge.by_model(predicted)["two"]["mrr"]["estimate"] < 1

    def test_difference(self, judge: Judge) -> None:
        gain = judge.difference(judge.target, np.broadcast_to(np.ones(3), (6, 3)))
        assert gain["estimate"] == pytest.approx(1 - 3**-0.5)

    def test_pooled(self) -> None:
        images = StudyImages(np.array(["m"] * 3), np.array(["P", "P", "Q"]), np.array([1, 0, 0]), {})
        judge = Judge(
            images, np.eye(2, dtype=np.float32)[[0, 0, 1]], ["p", "p", "q"], np.ones(2), resamples=0, seed=0
        )
        rows = np.array([[0.0, 5], [2, 0], [0, 1]])
        one, first = judge.pooled(rows, 1)
        np.testing.assert_allclose(one, [[1, 0], [1, 0], [0, 1]], atol=1e-6)
        both, _ = judge.pooled(rows, 2)
        np.testing.assert_allclose(both[0], [0.5**0.5] * 2, atol=1e-6)
        assert first.tolist() == [0, 2]

    def test_nothing(self) -> None:
        with pytest.raises(UserError, match="no test prompt has an image"):
            Judge(images_of({}, np.array([], int)), np.empty((0, 3)), [], np.ones(3), resamples=0, seed=0)


def test_measure() -> None:
    views, target, groups = small_world()
    unit = (target / np.linalg.norm(target, axis=1, keepdims=True)).astype(np.float32)
    examples, images = Examples(views, unit), images_of(views, groups)
    part = groups % 3
    train, validation, test = (np.flatnonzero(part == number) for number in range(3))
    judge = Judge(images.take(test), unit[test], [str(group) for group in groups[test]], unit[train].mean(axis=0), resamples=100, seed=0)  # fmt: skip
    learner = Ridge()
    figures, predicted = measure(
        judge,
        {"ridge": learner, "mean": Mean()},
        examples.take(train),
        groups[train],
        examples.take(validation),
    )
    assert figures["learner"] == "ridge" and set(figures["without"]) == {"left", "right"}
    assert figures["differences"]["ridge - mean"]["low"] > 0.2
    assert all(one["costs"]["low"] > 0 for one in figures["without"].values()), (
        "each view knows what the other doesn't"
    )
    mean = figures["learners"]["mean"]["all"]
    assert mean["cosine"]["estimate"] == pytest.approx(mean["floor"]["estimate"], abs=1e-4)
    assert set(figures["seeds_pooled"]) == {"1", "2"}
    np.testing.assert_array_equal(learner.predict(judge.images.views), predicted), "fitted on all views again"


class TestRecover:
    def study(self, **changed: Any) -> RecoveryStudy:
        return RecoveryStudy(
            views=("hues",), learner=Ridge(), beside={"mean": Mean()}, text=Named(), **changed
        )

    def made(self, prompts: int = 40) -> tuple[StudyImages, StudyPrompts, Bank]:
        views, target, groups = small_world(prompts=prompts)
        target = np.hstack([np.full((len(target), 1), 0.1), target[:, :4]]).astype(np.float32)
        first = np.unique(groups, return_index=True)[1]
        side = np.array(["train", "train", "validation", "test"])[np.arange(prompts) % 4]
        names = [f"P{group:03d}" for group in range(prompts)]
        table = StudyPrompts.of(names, [f"text {name}" for name in names], target[first], list(side), 0.999)
        texts = ["red", "green wall", "blue"]
        return images_of(views, groups), table, Bank(texts, Named().encode(texts))

    def test_whole(self, tmp_path: Path) -> None:
        images, prompts, bank = self.made()
        done = recover(self.study(texts=7), images, prompts, bank, {"hues": Hues()}, resamples=20, seed=0)
        assert done.figures["prompts"] == {
            "train": 20,
            "validation": 10,
            "test": 10,
            "near_duplicates_moved": 0,
        }
        assert len(done.texts) == 7 and set(done.texts[0]) >= {
            "prompt",
            "model",
            "retrieved",
            "composed",
            "phrases",
        }
        assert done.predicted.shape == (120, 5) and "the true prompt first of 10" in done.summary()
        write_predicted(
            tmp_path / "predicted", images, done.predicted, prompts.ids, prompts.vectors, {"a": 1}
        )
        ids, seeds, rows = read_image_embeddings(tmp_path / "predicted" / "one")
        mine = images.model == "one"
        assert (
            ids.tolist() == images.prompt_id[mine].tolist() and seeds.tolist() == images.seed[mine].tolist()
        )
        np.testing.assert_array_equal(rows, done.predicted[mine])

    def test_bank_holds_test_prompts(self) -> None:
        images, prompts, _ = self.made()
        bank = Bank(["x", prompts.judged[0].upper()], np.ones((2, 5)))
        with pytest.raises(UserError, match="the bank holds 1 of the prompts that it is judged on"):
            recover(self.study(), images, prompts, bank, {"hues": Hues()}, resamples=0, seed=0)

    def test_unknown_prompt_or_empty_side(self) -> None:
        images, prompts, bank = self.made()
        odd = images._replace(prompt_id=np.where(images.prompt_id == "P005", "Q", images.prompt_id))
        with pytest.raises(UserError, match="images of prompt Q, which the study doesn't have"):
            recover(self.study(), odd, prompts, bank, {"hues": Hues()}, resamples=0, seed=0)
        none = prompts._replace(side=np.where(prompts.side == "test", "train", prompts.side))
        with pytest.raises(UserError, match="no test prompt has an image"):
            recover(self.study(), images, none, bank, {"hues": Hues()}, resamples=0, seed=0)
