"""Steps: how a policy's choice moves, prompt by prompt, as its operating point goes from infinity down to 0.

Both operating points that trade quality for cost (the price lambda of `cost_aware`, the slack epsilon of
`cheapest_within`) change a prompt's choice only at a few values, at most m - 1 per prompt. Listing those
steps once gives every choice for every operating point, exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promptroute.routing.checks import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Steps:
    """The choice at operating point k is `start` after every step whose `key` is above k.

    `start` [n] int64: the choice at infinity, each prompt's cheapest model. Step s moves prompt
    `prompt[s]` from model `source[s]` to the costlier `target[s]`, better predicted; `key` [s] float64 > 0
    does not increase, and a prompt's own steps stand in the order in which they are taken.
    """

    start: IntArray
    prompt: IntArray
    source: IntArray
    target: IntArray
    key: FloatArray

    def taken(self, points: FloatArray) -> IntArray:
        """Return how many of the steps are taken at each operating point."""
        return np.searchsorted(-self.key, -points, side="left").astype(np.int64)

    def means(self, values: FloatArray, taken: IntArray) -> FloatArray:
        """Return the mean of `values` [n, m] over the prompts' choices after the first `taken` [k] steps."""
        first = values[np.arange(len(values)), self.start].mean()
        change = values[self.prompt, self.target] - values[self.prompt, self.source]
        running = np.concatenate([[0.0], np.cumsum(change)])
        return np.asarray(first + running[taken] / len(values))

    def choice(self, taken: int) -> IntArray:
        """Return the choice [n] after the first `taken` steps."""
        choice = self.start.copy()
        # A prompt's later steps overwrite its earlier ones: numpy assigns in order.
        choice[self.prompt[:taken]] = self.target[:taken]
        return choice


StepsOf = Callable[[FloatArray, FloatArray], Steps]
"""Quality [n, m] and cost [m] to the steps of a policy: `tradeoff_steps`, `slack_steps`."""


def tradeoff_steps(quality: FloatArray, cost: FloatArray) -> Steps:
    """Return the steps of argmax quality - lambda * cost, with lambda (quality per dollar) as key.

    For each prompt these are the edges of the upper concave hull of its m points (cost, quality), from the
    cheapest model to the best predicted one; an edge's key is its slope. They are also the increments of
    the linear relaxation of the multiple-choice knapsack (Sinha & Zoltners, Operations Research 27, 1979).
    """
    rows = np.arange(len(quality))
    by_cost = np.argsort(cost, kind="stable")
    # Columns by rising cost, so that argmax takes the cheapest of equals.
    quality, cost = quality[:, by_cost], cost[by_cost]
    current = start = np.where(cost == cost[0], quality, -np.inf).argmax(axis=1)
    ceiling = np.full(len(quality), np.inf)
    found: list[tuple[IntArray, IntArray, IntArray, FloatArray]] = []
    while True:
        gain = quality - quality[rows, current][:, None]
        price = cost - cost[current][:, None]
        better = (gain > 0) & (price > 0)
        slope = np.where(better, gain / np.where(better, price, 1.0), -np.inf)
        target = slope.argmax(axis=1)
        moved = better.any(axis=1)
        if not moved.any():
            break
        # Slopes fall along a hull; rounding must not undo that, or a prompt's steps would change order.
        ceiling = np.where(moved, np.minimum(slope[rows, target], ceiling), ceiling)
        found.append((rows[moved], current[moved], target[moved], ceiling[moved]))
        current = np.where(moved, target, current)
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    prompt, source, target, key = (np.concatenate(part) for part in zip(empty, *found, strict=True))
    # lexsort is stable, so within a prompt equal keys keep the order in which they were found.
    order = np.lexsort((prompt, -key))
    return Steps(by_cost[start], prompt[order], by_cost[source[order]], by_cost[target[order]], key[order])


def slack_steps(quality: FloatArray, cost: FloatArray) -> Steps:
    """Return the steps of "the cheapest model within epsilon of the best predicted", with epsilon as key."""
    n, m = quality.shape
    gap = quality.max(axis=1, keepdims=True) - quality
    order = np.lexsort((np.broadcast_to(cost, (n, m)), gap))
    cheapest = np.minimum.accumulate(cost[order], axis=1)
    # Widening the slack changes the choice where it lets in a model cheaper than all before it.
    new = np.concatenate([np.ones((n, 1), bool), cheapest[:, 1:] < cheapest[:, :-1]], axis=1)
    position = np.maximum.accumulate(np.where(new, np.arange(m), 0), axis=1)
    chosen = np.take_along_axis(order, position, axis=1)
    prompt, rank = np.nonzero(new[:, 1:])
    key = gap[prompt, chosen[prompt, rank + 1]]
    source, target = chosen[prompt, rank + 1], chosen[prompt, rank]
    down = np.argsort(-key, kind="stable")
    return Steps(chosen[:, -1], prompt[down], source[down], target[down], key[down])
