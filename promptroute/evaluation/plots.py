"""Tables of a result, as CSV: what DVC plots across commits, and what the report shows."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from promptroute.evaluation import metrics
from promptroute.evaluation.evaluation import Judged
from promptroute.evaluation.search import outcome
from promptroute.evaluation.strips import search_frontier, strips
from promptroute.io.files import atomic_path
from promptroute.routing.frontier import hull, trace
from promptroute.routing.search_policy import Search


def write_tables(folder: Path, judged: Judged, labels: Sequence[str], prompt_ids: np.ndarray) -> None:
    """Write frontier.csv (`CostAware` over λ, thinned to 200 points), hull.csv (the vertices of its hull),
    confusion.csv and predicted.csv below `folder`; of a search also search.csv and search_frontier.csv.

    Args:
        folder: made where absent.
        judged: n prompts, m models.
        labels: m, as people write the models.
        prompt_ids: [n].
    """
    import pandas as pd

    named = np.array(labels)
    curve = trace(judged.predicted, judged.observed, judged.cost, most=200)
    best = metrics.labels(judged.observed, judged.decided)
    rows, columns = np.divmod(np.arange(judged.observed.size), len(named))
    tables = {
        "frontier": pd.DataFrame({"tradeoff": curve.points, "cost": curve.cost, "quality": curve.quality}),
        "hull": pd.DataFrame(asdict(hull(curve.cost, curve.quality))),
        "confusion": pd.DataFrame(
            {"prompt_id": prompt_ids, "best": named[best], "chosen": named[judged.decided]}
        ),
        "predicted": pd.DataFrame(
            {
                "prompt_id": prompt_ids[rows],
                "model": named[columns],
                "predicted": judged.predicted.reshape(-1),
                "true": judged.observed.reshape(-1),
            }
        ),
    }
    if isinstance(judged.policy, Search):
        replay = outcome(judged.policy, judged.known).replays[0]
        tables["search"] = strips(judged.policy, judged.known, replay, labels, prompt_ids)
        tables["search_frontier"] = search_frontier(judged.policy, judged.known)
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.7g")
