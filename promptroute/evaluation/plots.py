"""Tables of a result, as CSV: what DVC plots across commits, and what the report shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from promptroute.evaluation import metrics
from promptroute.evaluation.evaluation import Judged, frontier_points
from promptroute.io.files import atomic_path


def write_tables(folder: Path, judged: Judged, labels: Sequence[str], prompt_ids: np.ndarray) -> None:
    """Write frontier.csv, hull.csv, confusion.csv and predicted.csv below `folder`.

    Args:
        folder: made where absent.
        judged: n prompts, m models.
        labels: m, as people write the models.
        prompt_ids: [n].
    """
    import pandas as pd

    named = np.array(labels)
    points = frontier_points(judged.predicted, judged.observed, judged.cost)
    best = metrics.labels(judged.observed, judged.decided)
    rows, columns = np.divmod(np.arange(judged.observed.size), len(named))
    tables = {
        "frontier": pd.DataFrame(points["frontier"]),
        "hull": pd.DataFrame(points["hull"]),
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
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.7g")
