"""From single scores to how well each model does on each prompt."""

import pandas as pd


def performance(scores: pd.DataFrame, model: str, scorer: str) -> pd.DataFrame:
    """Average one model's `Score` rows by one scorer over each prompt's images: `Performance` rows.

    A row's score is the full name, SCORER.OUTPUT. The standard deviation (n - 1) is over single images, so it stays
    null where only their mean is known.
    """
    groups = scores.groupby(["output", "prompt_id"], sort=False)
    rows = groups.agg(mean=("value", "mean"), n=("images", "sum"), seconds=("seconds", "mean"))
    single = groups["images"].max() == 1
    rows["std"] = groups["value"].std().where(single)
    rows = rows.reset_index()
    return rows.assign(model=model, score=scorer + "." + rows.pop("output"))


def complete(rows: pd.DataFrame, columns: int) -> tuple[pd.DataFrame, list[str]]:
    """Keep the prompts that every model has every score of; models are compared on nothing else.

    Args:
        rows: `Performance` rows.
        columns: how many a complete prompt has: models times scores.

    Returns:
        The rows of complete prompts, and the ids of the others, sorted.
    """
    whole = rows.groupby("prompt_id")["score"].transform("size") == columns
    return rows[whole].reset_index(drop=True), sorted(rows.loc[~whole, "prompt_id"].unique())
