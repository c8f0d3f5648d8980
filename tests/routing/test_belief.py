"""What is believed of scores: fitted on held-out residuals, sharpened by a look."""

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.routing.belief import Belief, fit, groups

COVARIANCE = np.array([[1.0, 0.6, 0.2], [0.6, 2.0, 0.5], [0.2, 0.5, 1.5]])


def made(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and observed quality [n, 3] with residuals of `COVARIANCE`."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(n, 3))
    return mean, mean + rng.multivariate_normal(np.zeros(3), COVARIANCE, n)


def belief(covariance: np.ndarray = COVARIANCE, noise: np.ndarray | None = None) -> Belief:
    return Belief(np.asarray(covariance, float), noise, 100, 0.9)


class TestFit:
    def test_recovers_the_covariance(self) -> None:
        found = fit(*made(20000))
        np.testing.assert_allclose(found.covariance, COVARIANCE, atol=0.06)
        assert found.noise is None and found.prompts == 20000

    def test_coverage(self) -> None:
        assert fit(*made()).coverage == pytest.approx(0.9, abs=0.01)

    def test_residuals_of_the_fit_itself_are_too_small(self) -> None:
        rng = np.random.default_rng(1)
        x, noise = rng.normal(size=(120, 60)), rng.normal(size=(120, 2))
        truth = x[:, :2] + noise
        learn, held = slice(0, 80), slice(80, 120)
        weights = np.linalg.lstsq(x[learn], truth[learn], rcond=None)[0]
        own, out = fit(x[learn] @ weights, truth[learn]), fit(x[held] @ weights, truth[held])
        inside = np.abs(truth[held] - x[held] @ weights) <= 1.645 * np.sqrt(np.diag(own.covariance))
        assert inside.mean() < 0.6 < 0.8 < out.coverage
        assert (np.diag(own.covariance) < np.diag(out.covariance) / 2).all()

    def test_noise_from_several_images(self) -> None:
        rng = np.random.default_rng(2)
        mean, truth = made(8000)
        luck = rng.normal(size=(8000, 3, 3)) * np.array([0.3, 0.5, 0.7])[:, None]
        found = fit(mean, truth[:, :, None] + luck)
        assert found.noise is not None
        np.testing.assert_allclose(found.noise, [0.09, 0.25, 0.49], rtol=0.03)
        np.testing.assert_allclose(found.covariance, COVARIANCE + np.diag([0.09, 0.25, 0.49]), atol=0.09)

    def test_noise_is_at_most_what_there_is(self) -> None:
        found = fit(*made(), noise=[0.1, 99.0, 0.2])
        assert found.noise is not None and found.noise[1] == found.covariance[1, 1]

    @pytest.mark.parametrize(
        ("predicted", "observed", "error", "says"),
        [
            (np.zeros((3, 3)), np.zeros((3, 3)), UserError, "3 held-out prompts are too few .* 3 models"),
            (np.zeros((9, 3)), np.zeros((9, 2)), ValueError, "same prompts and models"),
            (np.zeros((9, 3)), np.full((9, 3), np.nan), ValueError, "finite"),
            (np.full((9, 3), np.nan), np.zeros((9, 3)), ValueError, "predicted"),
        ],
    )
    def test_bad_input(
        self, predicted: np.ndarray, observed: np.ndarray, error: type[Exception], says: str
    ) -> None:
        with pytest.raises(error, match=says):
            fit(predicted, observed)


class TestPosterior:
    def test_by_hand(self) -> None:
        mean, sd = belief(np.array([[4.0, 2.0], [2.0, 9.0]])).posterior([[1.0, 5.0]], [[3.0, np.nan]])
        np.testing.assert_allclose(mean, [[3.0, 6.0]])  # 5 + 2/4 · (3 - 1)
        np.testing.assert_allclose(sd, [[0.0, np.sqrt(8.0)]])  # 9 - 2 · 2 / 4

    def test_nothing_seen(self) -> None:
        mean, sd = belief().posterior(np.ones((2, 3)), np.full((2, 3), np.nan))
        np.testing.assert_array_equal(mean, np.ones((2, 3)))
        np.testing.assert_allclose(sd, np.sqrt(np.diag(COVARIANCE))[None].repeat(2, 0))

    def test_one_look_after_another_as_both_at_once(self) -> None:
        own, known = belief(), np.array([[0.5, -1.0, np.nan]])
        both = own.posterior(np.zeros((1, 3)), known)
        gain, left = own.given([0])
        second = Belief(left, None, 1, 0.9)
        after = second.posterior(0.5 * gain.T, np.array([[np.nan, -1.0, np.nan]]))
        np.testing.assert_allclose(after[0][0, 2], both[0][0, 2])
        np.testing.assert_allclose(after[1][0, 2], both[1][0, 2])

    def test_covers_after_looks(self) -> None:
        predicted, observed = made(20000, seed=3)
        own = fit(*made(4000, seed=4))
        for seen in ([0], [0, 2]):
            shown = np.full_like(observed, np.nan)
            shown[:, seen] = observed[:, seen]
            mean, sd = own.posterior(predicted, shown)
            inside = np.abs(observed[:, 1] - mean[:, 1]) <= 1.645 * sd[:, 1]
            assert inside.mean() == pytest.approx(0.9, abs=0.02)

    def test_failed_image_tells_nothing(self) -> None:
        mean, sd = belief().posterior(np.zeros((1, 3)), [[-np.inf, 1.0, np.nan]])
        alone = belief().posterior(np.zeros((1, 3)), [[np.nan, 1.0, np.nan]])
        np.testing.assert_array_equal(mean, alone[0])
        np.testing.assert_array_equal(sd, alone[1])

    def test_models_that_are_alike(self) -> None:
        mean, sd = belief(np.ones((2, 2))).posterior([[0.0, 0.0]], [[1.5, np.nan]])
        np.testing.assert_allclose(mean, [[1.5, 1.5]])
        np.testing.assert_allclose(sd, [[0.0, 0.0]], atol=1e-7)

    def test_perfect_predictor(self) -> None:
        mean, sd = belief(np.zeros((2, 2))).posterior([[1.0, 2.0]], [[1.0, np.nan]])
        np.testing.assert_array_equal(mean, [[1.0, 2.0]])
        np.testing.assert_array_equal(sd, [[0.0, 0.0]])

    @pytest.mark.parametrize(
        ("mean", "scores", "says"),
        [
            (np.zeros((1, 2)), np.zeros((1, 2)), "mean has 2 models, and the belief 3"),
            (np.zeros((1, 3)), np.zeros((2, 3)), "scores has shape"),
            (np.zeros((1, 3)), np.full((1, 3), np.inf), "a score is inf"),
            (np.full((1, 3), np.nan), np.zeros((1, 3)), "mean"),
        ],
    )
    def test_bad_input(self, mean: np.ndarray, scores: np.ndarray, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            belief().posterior(mean, scores)


class TestBelief:
    @pytest.mark.parametrize(
        ("covariance", "noise", "says"),
        [
            (np.ones((2, 3)), None, "shape"),
            (np.full((2, 2), np.nan), None, "finite"),
            (np.array([[1.0, 0.5], [0.1, 1.0]]), None, "not symmetric"),
            (-np.eye(2), None, "below 0"),
            (np.eye(2), np.array([0.5]), "expected .2. variances"),
            (np.eye(2), np.array([0.5, 1.5]), "expected .2. variances"),
            (np.eye(2), np.array([-0.1, 0.5]), "expected .2. variances"),
        ],
    )
    def test_refused(self, covariance: np.ndarray, noise: np.ndarray | None, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            belief(covariance, noise)

    def test_several_images(self) -> None:
        own = belief(noise=np.array([0.1, 0.2, 0.3])).repeated(2)
        assert len(own) == 6
        assert own.covariance[0, 3] == pytest.approx(0.9) and own.covariance[0, 4] == pytest.approx(0.6)
        np.testing.assert_array_equal(own.covariance[3:, 3:], COVARIANCE)
        assert belief().repeated(1).covariance is COVARIANCE or len(belief().repeated(1)) == 3

    def test_several_images_need_the_noise(self) -> None:
        with pytest.raises(UserError, match="generate more seeds"):
            belief().repeated(2)


@pytest.mark.parametrize("models", [3, 70])
def test_groups_hold_each_row_once(models: int) -> None:
    mask = np.random.default_rng(0).random((50, models)) < 0.5
    found = groups(mask)
    assert sorted(np.concatenate([rows for rows, _ in found]).tolist()) == list(range(50))
    for rows, columns in found:
        assert all(set(np.flatnonzero(mask[row])) == set(columns) for row in rows)
    assert groups(mask[:0]) == []
