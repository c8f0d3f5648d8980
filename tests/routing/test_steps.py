"""A prompt's steps form a chain from its cheapest model to its best predicted one, also where slopes tie."""

import numpy as np
import pytest

from promptroute.routing import choices
from promptroute.routing.steps import slack_steps, tradeoff_steps


def collinear(scale):
    """500 prompts whose five models lie on a line, up to the rounding of decimal fractions."""
    # With these prices rounding makes later slopes of a line steeper than earlier ones.
    cost = np.array([6, 11, 13, 19, 24]) * scale
    slope = np.random.default_rng(0).integers(1, 9, size=(500, 1)) * 0.1
    return slope * cost, cost


@pytest.mark.parametrize("steps_of", [tradeoff_steps, slack_steps])
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.7])
def test_chains_though_keys_tie(steps_of, scale):
    quality, cost = collinear(scale)
    steps = steps_of(quality, cost)
    assert (np.diff(steps.key) <= 0).all()
    at = steps.start.copy()
    for prompt, source, target in zip(steps.prompt, steps.source, steps.target, strict=True):
        assert source == at[prompt]
        assert cost[target] > cost[source]
        assert quality[prompt, target] > quality[prompt, source]
        at[prompt] = target
    np.testing.assert_array_equal(at, choices.best_predicted(quality, cost))
    np.testing.assert_array_equal(at, steps.choice(len(steps.key)))


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.7])
def test_budget_spent_though_slopes_tie(scale):
    quality, cost = collinear(scale)
    budget = 6 * 500 * scale + 1000 * scale
    plan = choices.plan_budget(quality, cost, budget=budget)
    assert plan.cost <= budget * (1 + 1e-12)
    # Steps cost 2 to 6 of these units: less than one step is left, at no more than the steepest slope.
    assert budget - plan.cost < 6 * scale
    assert 0 <= plan.gap + 1e-9 < 0.8 * 6 * scale
