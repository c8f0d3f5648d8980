"""A budget that is never overspent, one prompt after the other."""

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.routing.base import Training
from promptroute.routing.search import run
from promptroute.routing.search_budget import Purse, SearchBudget
from promptroute.routing.search_policy import Search

from .instances import TABLE_2, simulated

N = 400


@pytest.fixture(scope="module")
def budget() -> SearchBudget:
    predicted, observed, cost = simulated(N, 0)
    policy = Search().calibrate(predicted, observed, cost, Training(look=1e-7))
    assert isinstance(policy, Search)
    return SearchBudget.fit(policy, predicted, observed, cost)


class TestSearchBudget:
    @pytest.mark.parametrize("share", [0.147, 0.25, 0.5, 1.0, 2.0])
    @pytest.mark.parametrize("order", ["as it comes", "cheap ones last"])
    def test_never_overspent_and_spent(self, budget: SearchBudget, share: float, order: str) -> None:
        predicted, observed, cost = simulated(N, 1)
        if order != "as it comes":
            place = np.argsort(observed[:, 0])
            predicted, observed = predicted[place], observed[place]
        dollars = share * N * cost[0]
        left, replayed = budget.run(budget.start(dollars, N), predicted, observed)
        assert replayed.cost.sum() <= dollars * (1 + 1e-9)
        assert left.prompts == 0 and left.dollars == pytest.approx(dollars - replayed.cost.sum(), abs=1e-12)
        assert (replayed.images >= 1).all()
        if 0.2 < share < 1.5:
            assert replayed.cost.sum() > 0.95 * dollars

    def test_more_money_more_quality(self, budget: SearchBudget) -> None:
        predicted, observed, cost = simulated(N, 1)
        got = [
            budget.run(budget.start(share * N * cost[0], N), predicted, observed)[1].quality.mean()
            for share in (0.2, 0.5, 1.0)
        ]
        assert got == sorted(got)

    def test_least_buys_the_cheapest_alone(self, budget: SearchBudget) -> None:
        predicted, observed, _ = simulated(N, 1)
        least = N * float(budget.price.min())
        _, replayed = budget.run(budget.start(least, N), predicted, observed)
        assert (replayed.kept == 1).all() and (replayed.images == 1).all()

    def test_tradeoff_of_its_own_curve(self, budget: SearchBudget) -> None:
        predicted, observed, _ = simulated(N, 0)
        belief, price = budget.policy.belief, budget.price
        for dollars in (0.4 * TABLE_2[0], TABLE_2[0]):
            replayed = run(belief, predicted, observed, price, tradeoff=budget.tradeoff(dollars))
            assert replayed.cost.mean() == pytest.approx(dollars, rel=0.05)
        assert budget.tradeoff(0.0) == np.inf

    @pytest.mark.parametrize(("dollars", "prompts"), [(0.0, 1), (1.0, 0), (1e-6, 10), (float("nan"), 3)])
    def test_too_little(self, budget: SearchBudget, dollars: float, prompts: int) -> None:
        with pytest.raises(UserError, match="a budget of"):
            budget.start(dollars, prompts)

    def test_what_can_be_afforded(self, budget: SearchBudget) -> None:
        price = budget.price
        spare = float(price[2] - price[1])
        may = budget.affordable(Purse(3 * float(price[1]) + spare * 1.0001, 3))
        np.testing.assert_array_equal(may, [False, True, True, False])
