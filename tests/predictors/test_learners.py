"""ridge, knn, mlp, gbm, mean and ensembles: what each learns."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as TheirRidge

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.cems_frozen import CemsFrozen
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.features import Features
from promptroute.predictors.gbm import Gbm
from promptroute.predictors.knn import Knn, _neighbour_means
from promptroute.predictors.mean import Mean
from promptroute.predictors.mlp import Mlp
from promptroute.predictors.ridge import Ridge, Rows, ridge_path


def spread(quality: np.ndarray) -> np.ndarray:
    return quality - quality.mean(1, keepdims=True)


def error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(((spread(predicted) - spread(true)) ** 2).mean())


@pytest.mark.parametrize(("n", "a", "b"), [(60, 5, 200), (200, 10, 30), (50, 8, 0), (5, 3, 9)])
def test_ridge_path_equals_scikit_learns_ridge(n: int, a: int, b: int) -> None:
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


def test_ridge_equals_scikit_learns_on_its_features(problem) -> None:  # type: ignore[no-untyped-def]
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


def test_ridge_chooses_its_regularisation_in_cross_validation(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, quality = problem(200)
    learnt = Ridge().fit(prompts, quality)._choice["differences"]["alpha"]
    noise = np.random.default_rng(0).normal(size=quality.shape)
    assert Ridge().fit(prompts, noise)._choice["differences"]["alpha"] > learnt
    assert Ridge(alphas=[learnt]).fit(prompts, quality)._choice["level"]["alpha"] == learnt


def test_neighbour_means_by_hand() -> None:
    rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    y = np.array([[1.0], [2.0], [6.0]])
    means = _neighbour_means(np.array([[1, 0], [0, 1]], np.float32), rows, y, [1, 2, 3])
    assert means[..., 0].tolist() == [[1, 6], [1.5, 4], [3, 3]]


def test_knn_finds_the_one_like_it() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(30, 5)).astype(np.float32)
    quality = random.normal(size=(30, 2))
    prompts = PromptBatch([f"prompt {i}" for i in range(30)], {"e": vectors})
    features = Features(words=False, statistics=False)
    predicted = Knn(features, neighbours=[1]).fit(prompts, quality).predict(prompts)
    np.testing.assert_allclose(predicted, quality)  # its own nearest neighbour
    everyone = Knn(features, neighbours=[10**6]).fit(prompts, quality).predict(prompts)
    np.testing.assert_allclose(everyone, np.tile(quality.mean(0), (30, 1)))


def test_mean_by_hand() -> None:
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
        Ensemble({"ridge": Ridge(), "knn": Knn()}),
        Ensemble({"ridge": Ridge(), "mean": Mean()}, weights="fitted"),
    ],
    ids=lambda p: p.kind + getattr(p, "weights", ""),
)
def test_each_beats_the_mean_where_there_is_something_to_learn(predictor, problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem(300)
    validation, test = problem(150, seed=1), problem(200, seed=2)
    null = error(Mean().fit(train, quality).predict(test[0]), test[1])
    assert error(predictor.fit(train, quality, validation).predict(test[0]), test[1]) < 0.7 * null


def test_an_equal_ensemble_is_the_mean_of_its_members(problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem()
    members = {"ridge": Ridge(), "mean": Mean()}
    predicted = Ensemble(members).fit(train, quality).predict(train)
    np.testing.assert_allclose(
        predicted, (members["ridge"].predict(train) + members["mean"].predict(train)) / 2
    )


class Echo(Mean):
    """Predicts what its embeddings say."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _predict(self, prompts: PromptBatch) -> np.ndarray:
        return prompts.embeddings[self.name].astype(float)


def test_fitted_weights_are_found_and_never_negative() -> None:
    random = np.random.default_rng(0)
    differences = [spread(random.normal(size=(400, 3))) for _ in range(3)]
    level = random.normal(size=(400, 1))
    quality = (
        np.array([7, 8, 9]) + 2 * differences[0] + 0.5 * differences[1] - 0.3 * differences[2] + 3 * level
    )
    names = ("good", "fair", "wrong")
    batch = PromptBatch(
        [f"p{i}" for i in range(400)], {n: d + level for n, d in zip(names, differences, strict=True)}
    )
    ensemble = Ensemble({n: Echo(n) for n in names}, weights="fitted").fit(batch, quality, (batch, quality))
    np.testing.assert_allclose(ensemble._factors[0], [2, 0.5, 0], atol=0.05)
    assert ensemble._factors[1].sum() == pytest.approx(3)  # all three carry the same level
    left = quality - ensemble.predict(batch)
    np.testing.assert_allclose(left.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(spread(left), spread(-0.3 * differences[2]), atol=0.2)


def test_fits_depend_on_the_seed_alone(problem) -> None:  # type: ignore[no-untyped-def]
    train, quality = problem()
    for make in (
        lambda s: Mlp(networks=1, epochs=5, seed=s),
        lambda s: Gbm(rounds=5, min_leaf=3, seed=s, threads=1),
    ):
        first, again, other = (make(s).fit(train, quality).predict(train) for s in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_few_prompts_are_enough_to_fit(problem) -> None:  # type: ignore[no-untyped-def]
    for n in (1, 2, 7):
        prompts, quality = problem(n, m=2)
        for predictor in (Ridge(), Knn(), Mlp(networks=1, epochs=2), Gbm(rounds=2, threads=1), Mean()):
            assert np.isfinite(predictor.fit(prompts, quality).predict(prompts)).all(), (n, predictor.kind)


def test_one_model_and_constant_quality_are_fine(problem) -> None:  # type: ignore[no-untyped-def]
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
        (lambda: Ridge(alphas=[0.0]), "alphas is"),
        (lambda: Ridge(folds=1), "folds is 1"),
        (lambda: Knn(neighbours=[0]), "neighbours is"),
        (lambda: Mlp(networks=0), "networks is 0"),
        (lambda: Mlp(hidden=[0]), "hidden is"),
        (lambda: Mlp(alpha=-1.0), "alpha is -1.0; expected 0 or more"),
        (lambda: Mlp(learning_rate=0.0), "learning_rate is 0.0; expected above 0"),
        (lambda: Knn(folds=1), "folds is 1"),
        (lambda: Features(min_count=0), "min_count is 0; expected 1 or more"),
        (lambda: Gbm(leaves=1), "leaves is 1"),
        (lambda: Gbm(row_share=0.0), "row_share is 0"),
        (lambda: Ensemble(weights="best"), "expected equal or fitted"),  # type: ignore[arg-type]
        (lambda: Ensemble({"../up": Mean()}), "ensemble member '../up'"),
        (lambda: Ensemble().fit(PromptBatch(["a"]), np.ones((1, 2))), "no members"),
        (
            lambda: Ensemble({"mean": Mean()}, "fitted").fit(PromptBatch(["a"]), np.ones((1, 2))),
            "need validation prompts",
        ),
        (
            lambda: Ensemble({"mean": Mean(), "votes": CemsFrozen()}).fit(
                PromptBatch(["a"]), np.ones((1, 2))
            ),
            "members predict in different units .*; set weights to fitted",
        ),
    ],
)
def test_bad_settings(make, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()
