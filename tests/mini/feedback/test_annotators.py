"""Simulated annotators: near the truth, and noisier than it."""

import numpy as np

from mini.feedback.annotators import PEOPLE, annotate, annotated_score, clicks
from mini.scenes import SIDE

WHERE = np.zeros((SIDE, SIDE))
WHERE[20:40, 30:50] = 0.8


class TestMaps:
    def test_clicks_are_near(self) -> None:
        for seed in range(20):
            points = np.array(clicks(WHERE, np.random.default_rng(seed)).points) * SIDE
            assert len(points) == 4, "400 pixels, a click for 120"
            assert (points >= [28, 18]).all() and (points <= [52, 42]).all()

    def test_nothing_to_mark(self) -> None:
        maps, _ = annotate(np.zeros((1, 2, SIDE, SIDE)), np.ones((1, 4)), seed=0)
        assert not maps.any()

    def test_shares_of_people(self) -> None:
        maps, _ = annotate(WHERE[None, None], np.ones((1, 4)), seed=3)
        assert set(np.round(maps[maps > 0] * PEOPLE, 6)) <= {1.0, 2.0, 3.0}
        assert np.corrcoef(maps.ravel(), WHERE.ravel())[0, 1] > 0.5
        assert not maps[0, 0, :14].any() and not maps[0, 0, 46:].any()


class TestScores:
    def test_twelfths(self) -> None:
        values = [annotated_score(0.4, np.random.default_rng(seed)) for seed in range(200)]
        assert np.allclose(np.array(values) * 12, np.round(np.array(values) * 12))
        assert len(set(values)) > 1 and abs(np.mean(values) - 0.4) < 0.05

    def test_ends(self) -> None:
        assert annotated_score(1.0, np.random.default_rng(0)) in (1.0, 11 / 12)

    def test_seed_and_row_decide(self) -> None:
        one = annotate(np.stack([WHERE[None]] * 2), np.full((2, 4), 0.3), seed=1)
        again = annotate(WHERE[None, None], np.full((1, 4), 0.3), seed=1)
        assert np.array_equal(one[0][0], again[0][0]) and np.array_equal(one[1][0], again[1][0])
        assert not np.array_equal(one[0][0], one[0][1])
