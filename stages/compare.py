"""Test whether the models differ: data/performance.parquet → metrics/comparison.json, for every score."""

import pandas as pd

from promptroute.core.plain import Plain
from promptroute.core.rows import Performance
from promptroute.evaluation.comparison import compare_models
from promptroute.io.files import write_json
from promptroute.io.tables import read_table
from promptroute.runtime.stage import run_stage


def compare(performance: pd.DataFrame) -> dict[str, Plain]:
    """Compare the models by each score's mean of a prompt, over the prompts that every model has a score of."""
    found = {}
    for score, rows in performance.groupby("score", sort=False):
        order = list(dict.fromkeys(rows["model"]))
        table = rows.pivot(index="prompt_id", columns="model", values="mean")[order].dropna()
        found[str(score)] = compare_models({model: table[model].to_numpy() for model in order})
    return found


def main() -> str:
    found = compare(read_table("data/performance.parquet", Performance, ("prompt_id", "model", "score")))
    write_json("metrics/comparison.json", found)
    pairs = [pair for score in found.values() for pair in score["pairs"].values()]
    differ = sum(pair["wilcoxon_p"] < 0.05 for pair in pairs)
    return f"compare: {differ} of {len(pairs)} pairs of models differ (Wilcoxon, Holm, 5 %)"


if __name__ == "__main__":
    run_stage(main, __doc__)
