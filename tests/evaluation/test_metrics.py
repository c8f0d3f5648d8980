"""Metrics: hand-worked, against scikit-learn, and what must hold for every predictor."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from promptroute.evaluation import metrics
from promptroute.routing import choices
from tests.evaluation import plain
from tests.routing.instances import TABLE_2, problems, simulated


def test_classification_by_hand():
    true = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    predicted = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    got = metrics.choice_metrics(true, predicted, predicted.argmax(axis=1))
    assert got.accuracy == 0.75
    # Model 0: precision 1 / 1, recall 1 / 2; model 1: precision 2 / 3, recall 2 / 2.
    assert got.precision == pytest.approx((1 + 2 / 3) / 2)
    assert got.recall == 0.75
    assert got.f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    # 0.9 and 0.4 against 0.2 and 0.3: all four pairs are ranked right.
    assert got.auc == 1.0


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_classification_against_scikit_learn(seed, m):
    rng = np.random.default_rng(seed)
    true, scores = rng.normal(size=(40, m)), rng.normal(size=(40, m))
    label = true.argmax(axis=1)
    assume(len(set(label)) == m)
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    choice = probability.argmax(axis=1)
    got = metrics.choice_metrics(true, probability, choice)
    expected = precision_recall_fscore_support(label, choice, average="macro", zero_division=0)
    assert got.accuracy == pytest.approx(accuracy_score(label, choice))
    assert (got.precision, got.recall, got.f1) == pytest.approx(expected[:3])
    each = [roc_auc_score(label == j, probability[:, j]) for j in range(m)]
    assert got.auc == pytest.approx(np.mean(each))
    np.testing.assert_array_equal(metrics.confusion(true, choice), confusion_matrix(label, choice))


def test_macro_means():
    # Model 2 is never best nor chosen; model 1 is chosen but never best.
    true = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    got = metrics.choice_metrics(true, true, [0, 1])
    assert (got.precision, got.recall) == (0.5, 0.25)
    assert np.isnan(got.auc)


def test_ties_are_right():
    true = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert metrics.labels(true, [0, 1, 2]).tolist() == [0, 1, 0]
    assert metrics.choice_metrics(true, true, [0, 1, 2]).accuracy == pytest.approx(2 / 3)
    assert metrics.confusion(true, [0, 1, 2]).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


@given(problems(least=2), st.integers(0, 99))
def test_auc_ignores_difficulty(problem, seed):
    true, _ = problem
    rng = np.random.default_rng(seed)
    predicted = rng.integers(-8, 8, size=true.shape) / 8
    harder = predicted + rng.integers(-8, 8, size=(len(true), 1)) * true.shape[1]
    choice = predicted.argmax(axis=1)
    first, second = (metrics.choice_metrics(true, p, choice).auc for p in (predicted, harder))
    assert np.isnan(first) == np.isnan(second)
    if not np.isnan(first):
        assert 0 <= first <= 1
        # Row means may round.
        if true.shape[1] in (2, 4):
            assert first == second


def test_strategy_by_hand():
    true = np.array([[1.0, 3.0], [2.0, 2.0], [5.0, 1.0], [0.0, 1.0]])
    row = metrics.strategy(true, [2.0, 0.5], [0, 1, 0, 1])
    assert row == metrics.Strategy(quality=2.25, cost=1.25, total_cost=5.0, share=(0.5, 0.5), regret=0.5)
    assert metrics.strategy(true, [2.0, 0.5], [0, 1, 0, 1]).regret == 0.5
    rows = {
        name: metrics.strategy(true, [2.0, 0.5], choice)
        for name, choice in {"b": [0, 0, 0, 0], "a": [1, 1, 1, 1]}.items()
    }
    assert list(rows) == ["b", "a"]
    assert (rows["b"].quality, rows["a"].quality) == (2.0, 1.75)
    assert metrics.best_single(true) == 0


def test_headline_by_hand():
    predicted = np.array([[1.0, 0.0], [0.5, 0.4]])
    true = np.array([[5.0, 1.0], [2.0, 3.0]])
    cost = np.array([4.0, 1.0])
    # Frontier (cost, quality): (1, 2), (2.5, 4), (4, 3.5). Best single: the first model, quality 3.5 at 4.
    # The hull reaches 3.5 at 1 + 1.5 * 1.5 / 2 = 2.125 dollars.
    assert plain.iso_quality_cost(predicted, true, cost) == pytest.approx(2.125 / 4 - 1)
    # At 4 dollars the hull stands at 4, as the oracle does.
    assert plain.oracle_gap_closed(predicted, true, cost) == pytest.approx(1.0)
    # The hull's trapezium from 1 to 2.5 and its flat part to 4.
    assert plain.frontier_area(predicted, true, cost) == pytest.approx((3 * 1.5 + 4 * 1.5) / 3)


def test_gap_closed_by_hand():
    got = metrics.gap_closed([5.5, 6.0, 4.0, 4.0, 5.0], 5.0, [6.0, 6.0, 5.2, 5.05, 5.0])
    # The fourth gap is a twentieth of the distance, the last is none.
    np.testing.assert_allclose(got, [0.5, 1.0, -5.0, np.nan, np.nan])


def test_never_reached_is_nan():
    true = np.array([[1.0, 0.0], [1.0, 0.0]])
    upside_down = -true
    # The better model costs more and is never predicted to be worth it.
    assert np.isnan(plain.iso_quality_cost(upside_down, true, [2.0, 1.0]))
    assert np.isnan(plain.oracle_gap_closed(upside_down, true, [2.0, 1.0]))


@given(problems())
def test_perfect_predictor(problem):
    true, cost = problem
    assert plain.iso_quality_cost(true, true, cost) <= 1e-9
    model = metrics.best_single(true)
    share = plain.oracle_gap_closed(true, true, cost)
    alone, oracle = true[:, model].mean(), true.max(axis=1).mean()
    if oracle - alone > 1e-9:
        assert -1e-9 <= share <= 1 + 1e-9
    elif oracle == alone:
        assert np.isnan(share)


@given(problems(), st.integers(0, 99))
def test_nothing_beats_the_oracle(problem, seed):
    true, cost = problem
    predicted = np.random.default_rng(seed).normal(size=true.shape)
    oracle = metrics.strategy(true, cost, choices.best_predicted(true, cost))
    others = {
        "random": choices.random_choice(predicted, cost, seed=seed),
        "best_predicted": choices.best_predicted(predicted, cost),
        "cost_aware": choices.cost_aware(predicted, cost, tradeoff=0.5),
        "cheapest_within": choices.cheapest_within(predicted, cost, slack=0.5),
        **{str(j): choices.single(predicted, cost, model=j) for j in range(len(cost))},
    }
    for row in [metrics.strategy(true, cost, choice) for choice in others.values()]:
        assert row.quality <= oracle.quality + 1e-12
        assert row.regret == pytest.approx(oracle.quality - row.quality)
        assert sum(row.share) == pytest.approx(1)
        assert row.total_cost == pytest.approx(row.cost * len(true))
    assert oracle.regret == 0
    if len(cost) > 1 and cost.min() < cost.max():
        best = plain.frontier_area(true, true, cost)
        assert plain.frontier_area(predicted, true, cost) <= best + 1e-9


def test_better_predictor():
    figures = []
    for skill in (0.1, 0.4, 0.8):
        predicted, true, cost = simulated(3000, seed=3, skill=skill)
        figures.append(
            (
                -plain.iso_quality_cost(predicted, true, cost),
                plain.oracle_gap_closed(predicted, true, cost),
                plain.frontier_area(predicted, true, cost),
            )
        )
    assert figures[0] < figures[1] < figures[2]
    assert (np.diff(np.array(figures), axis=0) > 0).all()


def test_single_price():
    predicted, true, _ = simulated(50, seed=1)
    cost = np.full(4, TABLE_2[0])
    best = metrics.strategy(true, cost, choices.best_predicted(predicted, cost)).quality
    assert plain.frontier_area(predicted, true, cost) == pytest.approx(best)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.strategy([[1.0, 2.0]], [1.0, 1.0], [2]), r"choice\[0\] is 2, expected a column"),
        (lambda: metrics.strategy([[1.0, 2.0]], [1.0, 1.0], [0.0]), "choice has dtype float64"),
        (lambda: metrics.strategy([[1.0, 2.0]], [1.0, 1.0], [0, 1]), "expected one integer column"),
        (lambda: metrics.strategy(np.empty((0, 2)), [1.0, 1.0], []), "holds no prompt"),
        (lambda: metrics.choice_metrics([[1.0, 2.0]], [[1.0]], [0]), "expected the same"),
    ],
)
def test_bad_arguments(call, says):
    with pytest.raises(ValueError, match=says):
        call()
