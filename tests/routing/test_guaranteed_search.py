"""A draft, then the best single model: the guarantee holds, without an envelope, as its loss is monotone."""

from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.routing.base import Training
from promptroute.routing.belief import fit
from promptroute.routing.guarantees import calibrate_draft, draft_margins
from promptroute.routing.search_policy import GuaranteedSearch

from .instances import TABLE_2, simulated

LOOK = 1e-7
KNOWN = Training(look=LOOK, single=0)
PRICE = TABLE_2 + LOOK


def made(n: int = 1500, seed: int = 0, **settings: Any) -> GuaranteedSearch:
    found = GuaranteedSearch(**settings).calibrate(*simulated(n, seed), KNOWN)
    assert isinstance(found, GuaranteedSearch)
    return found


class TestGuarantee:
    @pytest.mark.parametrize(("epsilon", "alpha"), [(0.1, 0.1), (0.3, 0.2), (0.0, 0.05)])
    def test_holds_on_new_prompts(self, epsilon: float, alpha: float) -> None:
        short, cost = [], []
        for seed in range(12):
            policy = made(400, 2 * seed, epsilon=epsilon, alpha=alpha)
            predicted, observed, _ = simulated(1500, 2 * seed + 1)
            replayed = policy.replays(predicted, observed, TABLE_2)[0]
            short.append((replayed.quality < observed[:, 0] - epsilon).mean())
            cost.append(replayed.cost.mean() / TABLE_2[0])
        assert np.mean(short) <= alpha + 2 * np.std(short) / np.sqrt(12) + 0.005
        assert np.mean(short) > alpha / 2  # and it isn't held by never trying
        assert np.mean(cost) < 1

    def test_loss_never_falls_as_the_threshold_rises(self) -> None:
        predicted, observed, _ = simulated(300, 3)
        belief = fit(*simulated(1000, 4)[:2])
        worth, stop = draft_margins(belief, predicted, observed[:, 1], PRICE, draft=1, single=0, epsilon=0.1)
        short = observed[:, 1] < observed[:, 0] - 0.1
        losses = [(short & (np.maximum(worth, stop) <= u)).sum() for u in np.linspace(-5, 5, 60)]
        assert (np.diff(losses) >= 0).all() and losses[0] == 0 and losses[-1] > 0

    def test_stops_and_goes_on_as_it_says(self) -> None:
        policy = made(epsilon=0.3, alpha=0.2)
        predicted, observed, _ = simulated(500, 9)
        replayed = policy.replays(predicted, observed, TABLE_2)[0]
        assert set(map(tuple, replayed.order[:, :2])) == {(0, -1), (1, -1), (1, 0)}
        alone = replayed.order[:, 0] == 0
        np.testing.assert_allclose(replayed.cost[alone], TABLE_2[0])  # nothing is looked at
        both = replayed.order[:, 1] == 0
        np.testing.assert_allclose(replayed.cost[both], PRICE[0] + PRICE[1])

    def test_probability_of_stopping_by_simulation(self) -> None:
        belief = fit(*simulated(2000, 4)[:2])
        predicted = simulated(1, 5)[0]
        rng = np.random.default_rng(0)
        scores = predicted[0, 1] + np.sqrt(belief.covariance[1, 1]) * rng.normal(size=20000)
        worth, stop = draft_margins(
            belief, np.repeat(predicted, 20000, axis=0), scores, PRICE, draft=1, single=0, epsilon=0.1
        )
        assert (stop <= worth[0]).mean() == pytest.approx(PRICE[1] / PRICE[0], abs=0.01)

    def test_too_few_prompts(self) -> None:
        policy = made(8, alpha=0.1)
        assert not policy._given.given and "at least 9 are needed" in policy._given.statement
        predicted, observed, _ = simulated(50, 9)
        assert (policy.replays(predicted, observed, TABLE_2)[0].order[:, 0] == 0).all()

    def test_the_best_is_the_cheapest(self) -> None:
        predicted, observed, cost = simulated(50, 9)
        belief = fit(predicted, observed)
        found = calibrate_draft(belief, predicted, observed, cost, draft=1, single=1, epsilon=0.1, alpha=0.1)
        assert not found.given and "no model is cheaper" in found.statement

    def test_failed_images(self) -> None:
        policy = made(epsilon=0.3, alpha=0.2)
        seen = np.full((3, 4), np.nan)
        seen[0, 1], seen[1, 0], seen[2, :2] = -np.inf, -np.inf, -np.inf
        found = policy.view(np.zeros((3, 4)), seen, TABLE_2)
        assert found.model.tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        "settings", [{"alpha": 0.0}, {"epsilon": -1.0}, {"images": 2}, {"trust": 0.5}, {"max_images": 2}]
    )
    def test_bad_setting(self, settings: dict[str, Any]) -> None:
        with pytest.raises(UserError, match=r"alpha is|epsilon is|makes one image a model"):
            GuaranteedSearch(**settings)
