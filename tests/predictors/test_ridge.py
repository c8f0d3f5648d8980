"""Ridge regression against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as TheirRidge

from promptroute.core.batch import PromptBatch
from promptroute.predictors.features import Features
from promptroute.predictors.ridge import Ridge, Rows, ridge_path


@pytest.mark.parametrize(("n", "a", "b"), [(60, 5, 200), (200, 10, 30), (50, 8, 0), (5, 3, 9)])
def test_path_equals_sklearn(n: int, a: int, b: int) -> None:
    from scipy.sparse import csr_array, random_array

    random = np.random.default_rng(n)
    dense = random.normal(3, 1, (n, a))
    sparse = random_array((n, b), density=0.2, rng=random, format="csr") if b else None
    targets = random.normal(size=(n, 3)) * [1, 50, 0]  # one column that never varies
    alphas = [300.0, 0.1, 1.0, 10.0, 3000.0]
    found = ridge_path(Rows.of(dense, sparse), targets - targets.mean(0), alphas, 1e-11)
    whole = np.hstack([dense, csr_array(sparse).toarray()]) if b else dense
    for weights, alpha in zip(found, alphas, strict=True):
        np.testing.assert_allclose(weights, TheirRidge(alpha=alpha).fit(whole, targets).coef_.T, atol=1e-7)


def test_fit_equals_sklearn(problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem(120)
    test, _ = problem(30, seed=1)
    ours = Ridge(alphas=[7.0], tfidf_weights=[0.5]).fit(train, quality).predict(test)
    fitted = Features().fit(train)

    def matrix(batch: PromptBatch) -> np.ndarray:
        design = fitted.transform(batch)
        return np.hstack([*design.dense.values(), 0.5 * design.sparse["words"].toarray()])

    theirs = TheirRidge(alpha=7.0).fit(matrix(train), quality).predict(matrix(test))
    # With one alpha for all, splitting off the level changes nothing.
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_cross_validates_alpha(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, quality = problem(200)
    learnt = Ridge().fit(prompts, quality)._choice["differences"]["alpha"]
    noise = np.random.default_rng(0).normal(size=quality.shape)
    assert Ridge().fit(prompts, noise)._choice["differences"]["alpha"] > learnt
    assert Ridge(alphas=[learnt]).fit(prompts, quality)._choice["level"]["alpha"] == learnt
