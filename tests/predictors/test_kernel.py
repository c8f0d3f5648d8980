"""Kernel ridge regression against its formula, worked out the long way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors import kernel
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.folder import load_predictor, save_predictor
from promptroute.predictors.kernel import Kernel, principal_axes
from promptroute.predictors.similarity import Seen
from promptroute.predictors.targets import Targets
from promptroute.predictors.tfidf import TfIdf


def small(**settings: Any) -> Kernel:
    return Kernel(**{"encoder": "one", "width": 3, "components": 3, "min_count": 2} | settings)


def matern(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    r = np.sqrt(3) * np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)) / length
    return (1 + r) * np.exp(-r)


def median_distance(rows: np.ndarray) -> float:
    far = [((a - b) ** 2).sum() for i, a in enumerate(rows) for b in rows[i + 1 :]]
    return float(np.sqrt(np.median(far)))


def by_hand(model: Kernel, prompts: PromptBatch, quality: np.ndarray, test: PromptBatch) -> np.ndarray:
    """The docstring's formula in float64, without any of the code's short cuts."""
    vectors, unseen = (batch.embeddings["one"].astype(np.float64) for batch in (prompts, test))
    mean, spread = vectors.mean(0), vectors.std(0)
    z, z_test = (np.clip((rows - mean) / spread, -4, 4) for rows in (vectors, unseen))
    _, axes = np.linalg.eigh(z.T @ z)
    axes = axes[:, ::-1][:, :3]
    z, z_test = z @ axes, z_test @ axes
    e, e_test = (
        rows[:, -3:] / np.linalg.norm(rows[:, -3:], axis=1, keepdims=True) for rows in (vectors, unseen)
    )
    tfidf = TfIdf.fit(prompts.texts, "characters", (2, 5), 2)
    c, c_test = (tfidf.transform(batch.texts).toarray() for batch in (prompts, test))
    lengths = model.state_length * median_distance(z), model.sentence_length * median_distance(e)

    def k(z1: np.ndarray, e1: np.ndarray, c1: np.ndarray) -> np.ndarray:
        return matern(z1, z, lengths[0]) * np.exp(c1 @ c.T - 1) + model.sentence_weight * matern(
            e1, e, lengths[1]
        )

    targets = Targets.fit(quality)
    weights = np.linalg.solve(k(z, e, c) + model.alpha * np.eye(len(z)), targets.encode(quality))
    return targets.decode(k(z_test, e_test, c_test) @ weights)


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.3, "state_length": 1.5}, {"sentence_weight": 0.0}])
def test_formula(problem: Any, settings: dict[str, float]) -> None:
    (prompts, quality), (test, _) = problem(50), problem(20, seed=2)
    model = small(**settings).fit(prompts, quality)
    expected = by_hand(model, prompts, quality, test)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(model.predict(test), expected, atol=2e-4)


def test_out_of_fold(problem: Any) -> None:
    (prompts, quality), (held, held_quality) = problem(40), problem(12, seed=1)
    model = small().fit(prompts, quality, (held, held_quality))
    assert model.out_of_fold is not None and model.out_of_fold.shape == (52, 3)
    both, observed = prompts.joined(held), np.vstack([quality, held_quality])
    np.testing.assert_allclose(  # validation was learned from, as if it had been training
        model.predict(held), small().fit(both, observed).predict(held), atol=1e-9
    )
    # Everything but the one weight vector stays as it is with the prompt: so does the check, with a kernel by hand.
    k = model._similarity(Seen(model._z, model._e, model._c)).astype(np.float64)
    y = model._targets.encode(observed)
    for i in (0, 17, 45):
        rest = np.delete(np.arange(52), i)
        weights = np.linalg.solve(k[np.ix_(rest, rest)] + np.eye(51), y[rest])
        expected = model._targets.decode((k[i, rest] @ weights)[None])[0]
        np.testing.assert_allclose(model.out_of_fold[i], expected, atol=1e-4)
        assert np.abs(model.out_of_fold[i] - model.predict(both.take(np.array([i])))[0]).max() > 1e-3


class TestPoints:
    """Comparing with some prompts alone."""

    def test_all_points_is_exact(self, problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        (prompts, quality), (held, held_quality), (test, _) = (
            problem(40),
            problem(12, seed=1),
            problem(20, seed=2),
        )
        exact = small().fit(prompts, quality, (held, held_quality))
        monkeypatch.setattr(Kernel, "_solve_all", lambda self, y: self._solve_points(y, len(y)))
        every = small().fit(prompts, quality, (held, held_quality))
        np.testing.assert_allclose(every.predict(test), exact.predict(test), atol=2e-4)
        np.testing.assert_allclose(every.out_of_fold, exact.out_of_fold, atol=1e-3)  # type: ignore[arg-type]

    def test_formula(self, problem: Any) -> None:
        """The subset of regressors: (K_nm' K_nm + α K_mm)⁻¹ K_nm' y, in float64."""
        (prompts, quality), (test, _) = problem(50), problem(20, seed=2)
        whole, some = small().fit(prompts, quality), small(points=15).fit(prompts, quality)
        assert len(some._z) == len(some._weights) == 15
        k = whole._similarity(Seen(whole._z, whole._e, whole._c)).astype(np.float64)
        at = [int(np.flatnonzero((whole._z == row).all(axis=1))[0]) for row in some._z]
        y = whole._targets.encode(quality)
        inner = k[:, at].T @ k[:, at] + whole.alpha * k[np.ix_(at, at)]
        weights = np.linalg.solve(inner, k[:, at].T @ y)
        seen = whole._similarity(whole._see(whole._vectors(test), test.texts))
        expected = whole._targets.decode(seen[:, at] @ weights)
        np.testing.assert_allclose(some.predict(test), expected, atol=2e-4)
        assert np.abs(some.predict(test) - whole.predict(test)).max() > 1e-3

    def test_out_of_fold(self, problem: Any) -> None:
        """Each prompt left out, the points as they are."""
        (prompts, quality), (held, held_quality) = problem(40), problem(12, seed=1)
        model = small(points=20).fit(prompts, quality, (held, held_quality))
        whole = small().fit(prompts, quality, (held, held_quality))
        k = whole._similarity(Seen(whole._z, whole._e, whole._c)).astype(np.float64)
        at = [int(np.flatnonzero((whole._z == row).all(axis=1))[0]) for row in model._z]
        y = whole._targets.encode(np.vstack([quality, held_quality]))
        assert model.out_of_fold is not None
        for i in (0, 17, 45):
            rest = np.delete(np.arange(52), i)
            seen = k[np.ix_(rest, at)]
            weights = np.linalg.solve(seen.T @ seen + whole.alpha * k[np.ix_(at, at)], seen.T @ y[rest])
            expected = whole._targets.decode((k[i, at] @ weights)[None])[0]
            np.testing.assert_allclose(model.out_of_fold[i], expected, atol=1e-3)

    def test_repeats_are_no_trouble(self, problem: Any) -> None:
        prompts, quality = problem(30)
        twice = small(points=25).fit(prompts.joined(prompts), np.vstack([quality, quality]))
        assert np.isfinite(twice.predict(prompts)).all()

    def test_chosen_above_a_size(self, problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"EXACT": 30, "POINTS": 12}.items():
            monkeypatch.setattr(kernel, name, value)
        prompts, quality = problem(31)
        few = prompts.take(np.arange(30))
        assert [len(small().fit(*pair)._z) for pair in ((few, quality[:30]), (prompts, quality))] == [30, 12]
        assert len(small(points=31).fit(prompts, quality)._z) == 31

    def test_by_itself(self, problem: Any, tmp_path: Path) -> None:
        prompts, quality = problem(30)
        assert len(small(points=30).fit(prompts, quality)._z) == 30
        model = small(points=29, seed=3).fit(prompts, quality)
        again = small(points=29, seed=3).fit(prompts, quality)
        np.testing.assert_array_equal(model.predict(prompts), again.predict(prompts))
        save_predictor(model, tmp_path / "kept")
        np.testing.assert_array_equal(
            load_predictor(tmp_path / "kept").predict(prompts), model.predict(prompts)
        )


def test_leaves_validation(problem: Any) -> None:
    (prompts, quality), held = problem(40), problem(12, seed=1)
    alone = small(learn_validation=False).fit(prompts, quality, held)
    assert alone.out_of_fold is None
    np.testing.assert_array_equal(alone.predict(held[0]), small().fit(prompts, quality).predict(held[0]))
    model = small().fit(prompts, quality, held)
    assert model.out_of_fold is not None
    model.fit(prompts, quality)  # a second fit leaves nothing of the first
    assert model.out_of_fold is None


def test_refused_where_weights_are_fitted(problem: Any) -> None:
    (prompts, quality), held = problem(40), problem(12, seed=1)
    with pytest.raises(UserError, match=r"member kernel learns from validation.*learn_validation to false"):
        Ensemble(members={"kernel": small()}, weighting="fitted").fit(prompts, quality, held)
    Ensemble(members={"kernel": small(learn_validation=False)}, weighting="fitted").fit(
        prompts, quality, held
    )


def test_refusals(problem: Any) -> None:
    prompts, quality = problem(20)
    with pytest.raises(UserError, match=r"width is 9.*'one' are 6 wide"):
        small(width=9).fit(prompts, quality)
    with pytest.raises(UserError, match="no embeddings 'minilm_layers'"):
        Kernel(encoder="minilm_layers").fit(prompts, quality)
    with pytest.raises(UserError, match="can't be joined"):
        small().fit(prompts, quality, (PromptBatch(prompts.texts), quality))


def test_unknown_characters(problem: Any) -> None:
    prompts, quality = problem(30)
    model = small().fit(prompts, quality)
    one = {"one": np.zeros((1, 6), np.float32)}
    assert np.isfinite(model.predict(PromptBatch(["猫"], one))).all()
    same = PromptBatch(["a cat"] * 5, {"one": np.ones((5, 6), np.float32)})
    flat = small().fit(same, quality[:5]).predict(same)
    np.testing.assert_allclose(flat, np.tile(flat[0], (5, 1)), atol=1e-6)


def test_without_encoder(problem: Any, tmp_path: Path) -> None:
    (prompts, quality), (test, _) = problem(50), problem(20, seed=2)
    texts, unseen = PromptBatch(prompts.texts), PromptBatch(test.texts)
    model = Kernel(min_count=2).fit(texts, quality)
    tfidf = TfIdf.fit(prompts.texts, "characters", (2, 5), 2)
    c, c_test = (tfidf.transform(batch.texts).toarray() for batch in (prompts, test))
    targets = Targets.fit(quality)
    weights = np.linalg.solve(np.exp(c @ c.T - 1) + np.eye(50), targets.encode(quality))
    expected = targets.decode(np.exp(c_test @ c.T - 1) @ weights)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(model.predict(unseen), expected, atol=2e-4)
    save_predictor(model, tmp_path / "saved")
    np.testing.assert_array_equal(load_predictor(tmp_path / "saved").predict(unseen), model.predict(unseen))


def test_chooses_encoder(problem: Any) -> None:
    prompts, quality = problem(30)
    one = PromptBatch(prompts.texts, {"one": prompts.embeddings["one"]})
    found = small(encoder=None).fit(one, quality)
    np.testing.assert_array_equal(found.predict(one), small().fit(prompts, quality).predict(prompts))
    with pytest.raises(
        UserError, match=r"several encoders' embeddings \(one, two\); name the encoder to use"
    ):
        small(encoder=None).fit(prompts, quality)
    with pytest.raises(UserError, match="no embeddings 'one'"):
        found.predict(PromptBatch(prompts.texts))


@pytest.mark.parametrize("shape", [(50, 8), (6, 40), (8, 8), (1, 5)])
@pytest.mark.parametrize("count", [3, 100])
def test_axes(shape: tuple[int, int], count: int) -> None:
    rows = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    axes = principal_axes(rows, count)
    expected = np.linalg.svd(rows.astype(np.float64), full_matrices=False)[2][:count]
    assert axes.shape == (shape[1], min(count, *shape))
    assert np.abs(axes.T @ expected.T) == pytest.approx(np.eye(len(expected)), abs=1e-4)  # up to signs


def test_axes_of_nothing() -> None:
    assert principal_axes(np.zeros((4, 0), np.float32), 3).shape == (0, 0)
    assert principal_axes(np.zeros((4, 9), np.float32), 3).shape == (9, 0)
    alike = principal_axes(np.ones((5, 3), np.float32), 3)
    assert alike == pytest.approx(np.full((3, 1), alike[0, 0]), abs=1e-6)
