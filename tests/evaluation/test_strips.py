"""What a search did prompt by prompt."""

import numpy as np
import pytest

from promptroute.evaluation.search import Known, outcome
from promptroute.evaluation.strips import search_frontier, strips
from promptroute.routing.search_policy import Search, SearchFacts

# h(-0.5), h(0) and h(0.5), h(t) = φ(t) - t (1 - Φ(t)), at λ = 1000 and a standard deviation of 0.5: reservation values
# 0.25 below, at and 0.25 above the predicted mean.
PRICES = np.array([0.6977966, 0.3989423, 0.1977966]) * 0.5 / 1000
FACTS = SearchFacts(prompts=9, coverage=0.9, single_images=False, first=[0.0, 0.0, 1.0], images=[1.0])
PREDICTED = np.array([[5.0, 4.8, 4.0], [4.0, 4.0, 4.5], [5.0, 4.8, 4.0]])
OBSERVED = np.array([[4.9, 4.5, 4.4], [4.1, 4.2, 4.9], [3.0, 3.1, 3.2]])


def made(images: np.ndarray | None = None, **settings: float) -> tuple[Search, Known]:
    own = Search(**{"tradeoff": 1000.0, "look": 1e-5, "facts": FACTS, **settings})  # type: ignore[arg-type]
    known = Known(PREDICTED, OBSERVED, PRICES - 1e-5, {}, images, {}, None)
    return own.with_arrays({"covariance": 0.25 * np.eye(3)}), known


def test_by_hand() -> None:
    """First prompt: Middle 4.8, then Expensive 4.75 > 4.5; 4.9 is kept, Cheap's 4.25 not asked. Third: all are asked."""
    policy, known = made()
    replay = outcome(policy, known).replays[0]
    table = strips(policy, known, replay, ["Expensive", "Middle", "Cheap"], np.array(["a", "b", "c"]))
    rows = table[["prompt_id", "place", "model", "score", "kept"]].values.tolist()
    expected = [
        ["a", 1, "Middle", 4.5, 0], ["a", 2, "Expensive", 4.9, 1], ["a", 3, "Cheap", None, 0],
        ["b", 1, "Cheap", 4.9, 1], ["b", 2, "Middle", None, 0],
        ["c", 1, "Middle", 3.1, 0], ["c", 2, "Expensive", 3.0, 0], ["c", 3, "Cheap", 3.2, 1],
    ]  # fmt: skip
    assert [[None if value != value else value for value in row] for row in rows] == expected
    worth = [4.8, 4.75, 4.25, 4.75, 4.0, 4.8, 4.75, 4.25]
    assert table["reservation"].tolist() == pytest.approx(worth, abs=1e-5)
    assert table["price"].tolist() == pytest.approx(PRICES[[1, 0, 2, 2, 1, 1, 0, 2]])
    assert (table["image"] == 0).all()


def test_price_of_nothing() -> None:
    """At λ = 0 every model is asked; a reservation value without limit is left out."""
    policy, known = made(tradeoff=0.0)
    replay = outcome(policy, known).replays[0]
    table = strips(policy, known, replay, ["x", "y", "z"], np.array(["a", "b", "c"]))
    assert table["reservation"].isna().all() and table["score"].notna().all() and len(table) == 9


def test_frontier() -> None:
    policy, known = made()
    assert search_frontier(policy, known)["fresh"].isna().all()
    noise = np.random.default_rng(0).normal(0, 0.3, (3, 3, 3))
    policy, known = made(OBSERVED[:, :, None] + noise)
    table = search_frontier(policy, known)
    # The kept score is at most the best of all, at the expensive end above the fresh ones'.
    end = table.sort_values("cost").iloc[-1]
    assert end["quality"] <= (OBSERVED[:, :, None] + noise).max(axis=1).mean() + 1e-9
    assert end["fresh"] < end["quality"] and 1.5 * PRICES.max() < end["cost"] <= PRICES.sum() * (1 + 1e-9)
    assert table["quality"].max() == pytest.approx(end["quality"])
    # The cheap end takes the cheapest model's image alone: nothing is chosen by its score, so fresh ones are as good.
    start = table.sort_values("cost").iloc[0]
    assert start["cost"] == pytest.approx(PRICES[2]) and start["quality"] == pytest.approx(start["fresh"])
