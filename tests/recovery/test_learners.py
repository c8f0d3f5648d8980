"""What holds for every learner, and what each of them does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.recovery.learners.base import Learner, Scaling, mean_cosine
from promptroute.recovery.learners.blend import Blend
from promptroute.recovery.learners.ensemble import Ensemble, EnsembleOriginal
from promptroute.recovery.learners.finetune import Finetune
from promptroute.recovery.learners.knn import Knn
from promptroute.recovery.learners.mean import Mean
from promptroute.recovery.learners.ridge import Ridge
from tests.components import concrete, undocumented
from tests.recovery.conftest import small_world

CLASSES = concrete("promptroute.recovery", Learner)
SMALL: dict[type[Learner], dict[str, Any]] = {
    Ensemble: {"width": 16, "blocks": 1, "heads": 2, "feed_forward": 32, "epochs": 12, "rate": 1e-2},
    Blend: {"learners": {"ridge": Ridge(), "knn": Knn()}},
}
VIEWS = [kind for kind in CLASSES if kind not in (EnsembleOriginal, Finetune)]
LEARNING = [kind for kind in VIEWS if kind is not Mean]
every = pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
learning = pytest.mark.parametrize("kind", LEARNING, ids=lambda kind: kind.__name__)


def make(kind: type[Learner], **settings: Any) -> Learner:
    return kind(**{**SMALL.get(kind, {}), **settings})


def test_classes() -> None:
    names = {kind.__name__ for kind in CLASSES}
    assert names == {"Mean", "Knn", "Ridge", "Ensemble", "EnsembleOriginal", "Blend", "Finetune"}
    assert [undocumented(kind) for kind in CLASSES] == [[]] * len(CLASSES)


@every
class TestEvery:
    def test_predicts_unit_rows_alone(self, kind: type[Learner]) -> None:
        views, target, groups = small_world()
        learner = make(kind).fit(views, target, groups)
        rows = learner.predict(views)
        assert rows.shape == target.shape and rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        some = learner.predict({name: view[[7, 3]] for name, view in reversed(views.items())})
        np.testing.assert_allclose(some, rows[[7, 3]], atol=1e-5)

    def test_same_again_and_saved(self, kind: type[Learner]) -> None:
        views, target, groups = small_world(prompts=30)
        learner = make(kind).fit(views, target, groups)
        rows = learner.predict(views)
        np.testing.assert_array_equal(make(kind).fit(views, target, groups).predict(views), rows)
        facts, arrays = learner.state()
        again = build(json.loads(json.dumps(learner.to_section())), "it", Learner)
        again.restore(json.loads(json.dumps(facts)), {name: value.copy() for name, value in arrays.items()})
        np.testing.assert_array_equal(again.predict(views), rows)
        with pytest.raises(UserError, match=r"made by version 0 of .*run the recovery again"):
            again.restore({**facts, "version": 0}, arrays)

    def test_scale_of_target_means_nothing(self, kind: type[Learner]) -> None:
        views, target, groups = small_world(prompts=20)
        one, other = (make(kind).fit(views, scale * target, groups).predict(views) for scale in (1, 4))
        np.testing.assert_allclose(one, other, atol=1e-4)


@learning
def test_beats_the_mean_on_other_prompts(kind: type[Learner]) -> None:
    views, target, groups = small_world()
    other, truth, _ = small_world(seed=1)
    floor = mean_cosine(Mean().fit(views, target).predict(other), truth)
    assert mean_cosine(make(kind).fit(views, target, groups).predict(other), truth) > floor + 0.3


@pytest.mark.parametrize("kind", [Knn, Ridge, Ensemble], ids=lambda kind: kind.__name__)
def test_each_view_matters(kind: type[Learner]) -> None:
    views, target, groups = small_world()
    learner = make(kind).fit(views, target, groups)
    for name in views:
        swapped = {key: view[::-1] if key == name else view for key, view in views.items()}
        assert (
            mean_cosine(learner.predict(swapped), target) < mean_cosine(learner.predict(views), target) - 0.05
        )


class TestRidge:
    @pytest.mark.parametrize("rows", [20, 60], ids=["fewer rows than columns", "more"])
    def test_closed_form(self, rows: int) -> None:
        views, target, _ = small_world(prompts=rows, images=1)
        learner = Ridge(penalty=(0.3,)).fit(views, target)
        scaled = Scaling.of(views)(views)
        unit = target / np.linalg.norm(target, axis=1, keepdims=True)
        penalty = 0.3 * ((scaled - scaled.mean(axis=0)) ** 2).sum() / scaled.shape[1]
        expected = Reference(alpha=float(penalty)).fit(scaled, unit).predict(scaled)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(learner.predict(views), expected, atol=1e-4)

    def test_penalty_is_chosen_on_validation(self) -> None:
        def spoiled(views: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
            random = np.random.default_rng(seed)
            return {name: random.normal(size=view.shape).astype(np.float32) for name, view in views.items()}

        views, target, groups = small_world(prompts=12)
        other, truth, _ = small_world(seed=1)
        target, truth = target + 3, truth + 3  # so that the mean is a good guess
        noise = (spoiled(other, 6), truth)
        careful = Ridge(penalty=(1e-3, 1e3)).fit(spoiled(views, 5), target, groups, noise)
        assert np.abs(careful.state()[1]["weights"]).max() < 0.01
        trusting = Ridge(penalty=(1e-3, 1e3)).fit(views, target, groups, (other, truth))
        assert np.abs(trusting.state()[1]["weights"]).max() > 0.05


def test_knn_by_hand() -> None:
    views = {"it": np.array([[2.0, 0], [0, 2], [-2, 0], [0, -2]], np.float32)}
    target = np.eye(4, dtype=np.float32)
    learner = Knn(k=(2,)).fit(views, target)
    rows = learner.predict({"it": np.array([[3.0, 1.0]])})
    np.testing.assert_allclose(rows, np.array([[1, 1, 0, 0]]) / np.sqrt(2), atol=1e-6)


def test_blend_trusts_the_better() -> None:
    views, target, groups = small_world()
    blend = Blend(learners={"mean": Mean(), "ridge": Ridge()}).fit(views, target, groups)
    low, high = blend.state()[1]["weights"]
    assert high > 0.5 and low < 0.2 * high


class TestOriginal:
    def test_golden_as_learner(self, golden_checkpoint: Path) -> None:
        from promptroute import recovery

        random = np.random.default_rng(0)
        views = {
            name: random.normal(size=(6, width)).astype(np.float32)
            for name, width in (("a", 512), ("b", 768), ("c", 384))
        }
        target = random.normal(size=(6, 384)).astype(np.float32)
        learner = EnsembleOriginal(checkpoint=str(golden_checkpoint), batch_size=4).fit(views, target)
        assert not learner.learns
        rows = learner.predict(views)
        network = recovery.ensemble_from_checkpoint(golden_checkpoint, batch_axis=True)
        whole = network.predict(*(view[:4] for view in views.values()))
        np.testing.assert_allclose(rows[:4], whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-5)
        alone = learner.predict({name: view[:1] for name, view in views.items()})
        assert np.abs(alone - rows[:1]).max() > 0.01, "as published, the batch decides"
        kept = EnsembleOriginal(checkpoint="gone.ckpt", batch_size=4).restore(*learner.state())
        np.testing.assert_array_equal(kept.predict(views), rows)
        with pytest.raises(UserError, match=r"takes views of widths \[512, 768, 384\]"):
            learner.fit({name: views[name] for name in "bac"}, target)

    def test_absent(self) -> None:
        with pytest.raises(UserError, match=r"gone\.ckpt: no such file"):
            EnsembleOriginal(checkpoint="gone.ckpt").weights()


def test_finetune() -> None:
    """On the CPU: a tiny network learns which half of an image is bright, which no flip may hide."""
    random = np.random.default_rng(0)
    left = random.integers(0, 2, 48).astype(bool)
    pixels = random.integers(0, 60, (48, 32, 32, 3)).astype(np.float32)
    pixels[left, :, :16] += 190
    pixels[~left, :, 16:] += 190
    target = np.where(left[:, None], [[1.0, 0, 0]], [[0, 1.0, 0]]).astype(np.float32)
    views, groups = {"pixels": pixels.reshape(48, -1)}, np.arange(48)
    learner = Finetune(model="test_convnext", head_epochs=3, epochs=8, rate=3e-3, batch_size=8).fit(
        views, target, groups
    )
    rows = learner.predict(views)
    assert mean_cosine(rows, target) > 0.95
    again = Finetune(model="test_convnext", batch_size=8).restore(*learner.state())
    np.testing.assert_allclose(again.predict(views), rows, atol=1e-6)
    with pytest.raises(UserError, match="fine-tuning takes one view, the pixels of square images"):
        Finetune(model="test_convnext").fit({"clip": pixels.reshape(48, -1)[:, :50]}, target, groups)
    with pytest.raises(UserError, match=r"none\.safetensors: no such file"):
        Finetune(model="test_convnext", checkpoint="none.safetensors").fit(views, target, groups)
    with pytest.raises(UserError, match="no_such_network can't be made"):
        Finetune(model="no_such_network").fit(views, target, groups)


class TestBadInput:
    def test_not_fitted(self) -> None:
        with pytest.raises(UserError, match="this Ridge is not fitted yet; call fit"):
            Ridge().predict(small_world()[0])

    def test_missing_or_extra_view(self) -> None:
        views, target, _ = small_world()
        learner = Ridge().fit(views, target)
        with pytest.raises(UserError, match="the views lack right; expected left, right"):
            learner.predict({"left": views["left"]})
        with pytest.raises(UserError, match="the views have more besides; expected left, right"):
            learner.predict({**views, "more": views["left"]})

    def test_wrong_width(self) -> None:
        views, target, _ = small_world()
        learner = Ridge().fit(views, target)
        with pytest.raises(UserError, match="view right is 5 wide, but the learner was fitted on 12"):
            learner.predict({**views, "right": views["right"][:, :5]})

    def test_other_images(self) -> None:
        views, target, _ = small_world()
        with pytest.raises(UserError, match=r"of different images \(left 180, right 170 rows\)"):
            Ridge().fit({**views, "right": views["right"][10:]}, target)
        with pytest.raises(UserError, match="there are 170 prompt embeddings for 180 images"):
            Ridge().fit(views, target[10:])
        with pytest.raises(UserError, match="groups are 3, expected one for each of 180 images"):
            Ridge().fit(views, target, np.arange(3))

    def test_not_finite(self) -> None:
        views, target, _ = small_world()
        bad = views["left"].copy()
        bad[17, 2] = np.inf
        with pytest.raises(UserError, match="view left: row 17 holds a value that is not finite"):
            Knn().fit({**views, "left": bad}, target)
        target[4, 1] = np.nan
        with pytest.raises(UserError, match="prompt embeddings: row 4 holds a value that is not finite"):
            Knn().fit(views, target)

    def test_zero_target(self) -> None:
        views, target, _ = small_world()
        target[9] = 0
        with pytest.raises(UserError, match="prompt embedding 9 is all zeros"):
            Ridge().fit(views, target)

    def test_nothing(self) -> None:
        views, target, _ = small_world()
        with pytest.raises(UserError, match="there are no views of the images"):
            Ridge().fit({}, target)
        with pytest.raises(UserError, match="there are no images"):
            Ridge().fit({name: view[:0] for name, view in views.items()}, target[:0])
        with pytest.raises(UserError, match=r"view left are \(20,\); expected \[n, d\]"):
            Ridge().fit({**views, "left": views["left"][0]}, target)

    def test_too_few_prompts(self) -> None:
        views, target, groups = small_world(prompts=3)
        with pytest.raises(
            UserError, match=r"3 group\(s\) of different prompts can't be shared out among 5 folds"
        ):
            Ridge().fit(views, target, groups)

    def test_heads(self) -> None:
        views, target, groups = small_world(prompts=10)
        with pytest.raises(UserError, match="width 16 can't be shared by 3 heads"):
            make(Ensemble, heads=3).fit(views, target, groups)
