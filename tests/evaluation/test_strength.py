"""Strengths from blind pairs: by hand, against choix, and recovered from simulated raters."""

import math

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.evaluation.strength import (
    Outcomes,
    count,
    expected_share,
    fit,
    rank,
    votes_as_scores,
    votes_until_apart,
)

TINY = 1e-6


def simulate(strengths: np.ndarray, tie: float, prompts: int, votes: int, seed: int) -> Outcomes:
    """Let raters who choose as Davidson's model says vote on random pairs of every prompt."""
    random = np.random.default_rng(seed)
    models = len(strengths)
    of = np.repeat(np.arange(prompts), votes)
    first = random.integers(models, size=len(of))
    second = (first + random.integers(1, models, size=len(of))) % models
    a, b = strengths[first], strengths[second]
    weight = np.exp(np.stack([a, b, tie + (a + b) / 2]))
    lot = random.random(len(of)) * weight.sum(axis=0)
    lead = np.where(lot < weight[0], 1, np.where(lot < weight[0] + weight[1], -1, 0))
    return count(of, first, second, lead, models)


def total(outcomes: Outcomes) -> Outcomes:
    return Outcomes(outcomes.wins.sum(axis=0), outcomes.ties.sum(axis=0))


class TestFit:
    def test_two_models_by_hand(self) -> None:
        wins = np.array([[0.0, 30.0], [10.0, 0.0]])
        strength, tie = fit(Outcomes(wins, np.zeros((2, 2))), precision=TINY)
        assert strength[0] - strength[1] == pytest.approx(math.log(3), abs=1e-4) and tie == -math.inf

    def test_ties_by_hand(self) -> None:
        # Equal strengths: a win, a loss and a tie in proportion 1 : 1 : exp(η).
        wins, ties = np.array([[0.0, 20.0], [20.0, 0.0]]), np.array([[0.0, 60.0], [60.0, 0.0]])
        strength, tie = fit(Outcomes(wins, ties), precision=TINY)
        assert strength == pytest.approx([0, 0], abs=1e-6) and tie == pytest.approx(math.log(3), abs=1e-4)

    def test_equals_choix(self) -> None:
        outcomes = total(simulate(np.array([0.8, 0.1, -0.3, -0.6]), -math.inf, 50, 8, seed=0))
        pairs = [(i, j) for i in range(4) for j in range(4) for _ in range(int(outcomes.wins[i, j]))]
        expected = choix.ilsr_pairwise(4, pairs, alpha=0)
        strength, _ = fit(outcomes, precision=1e-9)
        np.testing.assert_allclose(strength, expected - expected.mean(), atol=1e-5)

    def test_unbeaten_stays_finite(self) -> None:
        strength, _ = fit(Outcomes(np.array([[0.0, 5.0], [0.0, 0.0]]), np.zeros((2, 2))))
        assert np.isfinite(strength).all() and strength[0] > strength[1]

    @given(st.permutations(range(4)), st.integers(0, 100))
    @settings(max_examples=20, deadline=None)
    def test_order_of_models_is_nothing(self, order: list[int], seed: int) -> None:
        outcomes = total(simulate(np.array([0.5, 0.0, -0.2, -0.3]), -0.5, 20, 4, seed))
        index = np.ix_(order, order)
        strength, tie = fit(outcomes)
        moved, moved_tie = fit(Outcomes(outcomes.wins[index], outcomes.ties[index]))
        np.testing.assert_allclose(moved, strength[order], atol=1e-8)
        assert moved_tie == pytest.approx(tie, abs=1e-8)


class TestRank:
    def test_strengths_are_recovered(self) -> None:
        """Of 40 studies × 3 models, the 95 % intervals hold the true strengths in about 95 %."""
        true = np.array([0.5, 0.0, -0.5])
        held = 0
        for seed in range(40):
            found = rank(simulate(true, -0.7, 150, 2, seed), seed=seed, resamples=100)
            held += sum(one.low <= value <= one.high for one, value in zip(found.strength, true, strict=True))
        # Binomial(120, 0.95): below 107 or all 120 has a chance under 1 % (each).
        assert 107 <= held <= 120

    def test_ranks(self) -> None:
        found = rank(simulate(np.array([-1.0, 1.0, 0.0]), -1.0, 200, 3, 0), seed=0, resamples=100)
        assert [place for place, _, _ in found.rank] == [3, 1, 2]
        assert all(low <= place <= high for place, low, high in found.rank)

    def test_no_vote(self) -> None:
        with pytest.raises(UserError, match="nothing to rank"):
            rank(count(np.array([], int), np.array([], int), np.array([], int), np.array([], int), 2), seed=0)


def test_expected_share_by_hand() -> None:
    share = expected_share(np.array([math.log(3), 0.0]))
    assert share == pytest.approx([0.75, 0.25])
    assert expected_share(np.zeros(3), 0.3) == pytest.approx([0.5] * 3)


class TestVotesUntilApart:
    def test_apart_already(self) -> None:
        assert votes_until_apart(90, 10, 0) == 0

    def test_no_lead(self) -> None:
        assert votes_until_apart(5, 5, 3) is None and votes_until_apart(0, 0, 0) is None

    def test_by_hand(self) -> None:
        # Lead 0.1 and variance 0.99: (1.96 + 0.84)² · 0.99 / 0.01 = 777 votes in all.
        assert votes_until_apart(55, 45, 0) == pytest.approx(777 - 100, abs=10)

    def test_two_votes_are_not_enough(self) -> None:
        more = votes_until_apart(2, 0, 0)
        assert more is not None and more > 0


class TestVotesAsScores:
    def test_few_votes_stay_near_the_mean(self) -> None:
        random = simulate(np.array([1.0, -1.0]), -1.0, 100, 4, 0)
        scores = votes_as_scores(random)
        assert scores.shape == (100, 2) and (scores.sum(axis=1) == pytest.approx(100))
        assert scores[:, 0].mean() > 60
        empty = Outcomes(
            np.concatenate([random.wins, np.zeros((1, 2, 2))]),
            np.concatenate([random.ties, np.zeros((1, 2, 2))]),
        )
        overall, tie = fit(total(random))
        assert votes_as_scores(empty)[-1] == pytest.approx(100 * expected_share(overall, tie), abs=1e-6)

    def test_a_vote_moves_its_prompt(self) -> None:
        wins = np.zeros((2, 2, 2))
        wins[0, 0, 1] = wins[1, 1, 0] = 1
        scores = votes_as_scores(Outcomes(wins, np.zeros_like(wins)))
        assert scores[0, 0] > 50 > scores[1, 0] and scores[0, 0] == pytest.approx(scores[1, 1])

    def test_no_vote(self) -> None:
        with pytest.raises(UserError, match="nothing to make scores of"):
            votes_as_scores(Outcomes(np.zeros((3, 2, 2)), np.zeros((3, 2, 2))))
