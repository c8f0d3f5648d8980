"""What a search did prompt by prompt, for the report: each image with its score, and why it went on or ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from promptroute.evaluation.search import Known, curve
from promptroute.routing.checks import IntArray
from promptroute.routing.search import STOP, Replayed
from promptroute.routing.search_policy import Search, rounds

if TYPE_CHECKING:
    import pandas as pd


def strips(
    policy: Search, known: Known, replay: Replayed, labels: Sequence[str], prompt_ids: np.ndarray
) -> "pd.DataFrame":
    """Return a row for each image of the first replay, in order, and one for the model that each prompt did without.

    Args:
        policy: calibrated.
        known: n prompts, m models.
        replay: the first of `policy` on them.
        labels: m, as people write the models.
        prompt_ids: [n].

    Returns:
        prompt_id; place, 1, 2, …; model; image, which of the model's, from 0; score in units of quality, none of a
        model that was not asked; reservation value before that image, none where it is infinite; price in dollars with
        its look; kept, 1 where this image is delivered, else 0.
    """
    import pandas as pd

    scores = rounds(known.observed, known.images, policy.images)[0]
    n, m, price = len(scores), len(labels), policy.prices(known.cost)
    shown, rows, parts = np.full(scores.shape, np.nan), np.arange(n), []
    for turn in range(replay.order.shape[1]):
        view = policy.view(known.predicted[rows], shown[rows], known.cost)
        asked = replay.order[rows, turn]
        column = np.where(asked == STOP, _next_best(view.reservation), asked)
        some = column != STOP
        rows, asked, column, values = rows[some], asked[some], column[some], view.reservation[some]
        worth = values[np.arange(len(rows)), column]
        made = asked != STOP
        parts.append(
            pd.DataFrame(
                {
                    "row": rows,
                    "place": turn + 1,
                    "model": np.array(labels)[column % m],
                    "image": column // m,
                    "score": np.where(made, scores[rows, column], np.nan),
                    "reservation": np.where(np.isfinite(worth), worth, np.nan),
                    "price": price[column],
                    "kept": (made & (column == replay.kept[rows])).astype(int),
                }
            )
        )
        rows, column = rows[made], column[made]
        shown[rows, column] = scores[rows, column]
        if not len(rows):
            break
    table = pd.concat(parts).sort_values(["row", "place"], kind="stable")
    table.insert(0, "prompt_id", prompt_ids[table.pop("row").to_numpy()])
    return table


def _next_best(reservation: np.ndarray) -> IntArray:
    """Return the column of the highest reservation value [n], `STOP` where no model is left."""
    left = ~np.isnan(reservation)
    highest = np.where(left, reservation, -np.inf).argmax(axis=1)
    return np.where(left.any(axis=1), highest, STOP)


def search_frontier(policy: Search, known: Known) -> "pd.DataFrame":
    """Return mean cost and quality of the search over λ; `fresh`: by images that it did not look at, none if unknown."""
    import pandas as pd

    tradeoffs, cost, quality, fresh = curve(policy, known)
    left = np.full(len(tradeoffs), np.nan) if fresh is None else fresh.mean(axis=0)
    means = {"cost": cost.mean(axis=0), "quality": quality.mean(axis=0), "fresh": left}
    return pd.DataFrame({"tradeoff": tradeoffs, **means})
