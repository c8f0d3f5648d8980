"""What predictors learn, side by side."""

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.factorisation import Factorisation
from promptroute.predictors.features import Features
from promptroute.predictors.gbm import Gbm
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.knn import Knn
from promptroute.predictors.mean import Mean
from promptroute.predictors.mlp import Mlp
from promptroute.predictors.ridge import Ridge
from promptroute.predictors.svm import Svm


def spread(quality: np.ndarray) -> np.ndarray:
    return quality - quality.mean(1, keepdims=True)


def error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(((spread(predicted) - spread(true)) ** 2).mean())


def test_mean() -> None:
    prompts = PromptBatch(["a", "b"])
    predictor = Mean().fit(prompts, np.array([[1.0, 2.0], [3.0, 6.0]]))
    assert predictor.predict(PromptBatch(["x", "y", "z"])).tolist() == [[2, 4]] * 3


@pytest.mark.parametrize(
    "predictor",
    [
        Ridge(),
        Knn(),
        Mlp(networks=2),
        Gbm(min_leaf=5, threads=1),
        Ensemble(members={"ridge": Ridge(), "knn": Knn()}),
        Ensemble(members={"ridge": Ridge(), "mean": Mean()}, weighting="fitted"),
    ],
    ids=lambda p: type(p).__name__ + getattr(p, "weighting", ""),
)
def test_beats_mean(predictor, problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem(300)
    validation, test = problem(150, seed=1), problem(200, seed=2)
    null = error(Mean().fit(train, quality).predict(test[0]), test[1])
    assert error(predictor.fit(train, quality, validation).predict(test[0]), test[1]) < 0.7 * null


def test_seed_decides(problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem()
    for make in (
        lambda s: Mlp(networks=1, epochs=5, seed=s),
        lambda s: Gbm(rounds=5, min_leaf=3, seed=s, threads=1),
    ):
        first, again, other = (make(s).fit(train, quality).predict(train) for s in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_few_prompts(problem) -> None:  # type: ignore[no-untyped-def]
    for n in (1, 2, 7):
        prompts, quality = problem(n, m=2)
        for predictor in (Ridge(), Knn(), Mlp(networks=1, epochs=2), Gbm(rounds=2, threads=1), Mean()):
            assert np.isfinite(predictor.fit(prompts, quality).predict(prompts)).all(), (n, predictor)


def test_constant_quality(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem(60)
    for quality in (np.arange(60.0)[:, None], np.full((60, 2), 4.0)):
        for predictor in (Ridge(), Knn(), Mlp(networks=1, epochs=2), Gbm(rounds=2, threads=1), Mean()):
            predicted = predictor.fit(prompts, quality).predict(prompts)
            assert predicted.shape == quality.shape
            if quality.shape[1] == 2:
                np.testing.assert_allclose(predicted, 4, atol=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(alphas=[]), "alphas is"),
        (lambda: Ridge(alphas=[0.0]), r"alphas\.0 is 0"),
        (lambda: Ridge(tfidf_weights=[-1.0]), r"tfidf_weights\.0 is"),
        (lambda: Ridge(folds=1), "folds is 1"),
        (lambda: Ridge(seed=-1), "seed is -1"),
        (lambda: Ridge(seed=2**32), "seed is 4294967296"),
        (lambda: Knn(neighbours=[0]), r"neighbours\.0 is 0"),
        (lambda: Knn(folds=1), "folds is 1"),
        (lambda: Mlp(networks=0), "networks is 0"),
        (lambda: Mlp(hidden=[0]), r"hidden\.0 is 0"),
        (lambda: Mlp(alpha=-1.0), "alpha is -1.0; expected greater than or equal to 0"),
        (lambda: Mlp(learning_rate=0.0), "learning_rate is 0.0; expected greater than 0"),
        (lambda: Features(min_count=0), "min_count is 0; expected greater than 0"),
        (lambda: Gbm(leaves=1), "leaves is 1"),
        (lambda: Gbm(row_share=0.0), "row_share is 0"),
        (lambda: Gbm(learning_rate=1.1), "learning_rate is 1.1"),
        (lambda: Svm(penalties=[]), "penalties is"),
        (lambda: Svm(penalties=[0.0]), r"penalties\.0 is"),
        (lambda: Svm(widths=[-1.0]), r"widths\.0 is"),
        (lambda: Svm(tube=-0.1), "tube is -0.1"),
        (lambda: Svm(folds=1), "folds is 1"),
        (lambda: Factorisation(penalties=[0]), r"penalties\.0 is"),
        (lambda: Factorisation(factors=0), "factors is 0"),
        (lambda: Factorisation(steps=0), "steps is 0"),
        (lambda: Factorisation(folds=1), "folds is 1"),
        (lambda: Kernel(alpha=0.0), "alpha is 0.0"),
        (lambda: Kernel(state_length=-1.0), "state_length is -1"),
        (lambda: Kernel(components=0), "components is 0"),
        (lambda: Kernel(width=0), "width is 0"),
        (lambda: Kernel(sentence_weight=-0.1), "sentence_weight is -0.1"),
    ],
)
def test_ranges(make, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()
