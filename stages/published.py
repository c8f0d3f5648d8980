"""Read one model's published scores: `published` → data/scores/SCORER/MODEL.parquet."""

import argparse

from promptroute.core.rows import Prompt, Score, Scorer
from promptroute.io.published import check_same_prompts
from promptroute.io.tables import read_table, write_table
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


def main() -> str:
    parser = argparse.ArgumentParser(prog="python -m stages.published", description=__doc__)
    parser.add_argument("scorer", help="a key of published.scorers")
    parser.add_argument("model", help="a key of published.models")
    options = parser.parse_args()
    scorer, model = options.scorer, options.model
    params = load_params()
    published = params["published"]
    prompts = read_table("data/prompts.parquet", Prompt)
    table = build(published["table"], "published.table")
    read = table.read(
        Scorer.declared(scorer, published["scorers"][scorer]), published["models"][model]["stem"]
    )
    check_same_prompts(read, prompts, whole=params["prompts"]["n"] is None)
    scores = read.scores[read.scores["prompt_id"].isin(prompts["prompt_id"])]
    about = {"sources": read.sources_json()}
    write_table(f"data/scores/{scorer}/{model}.parquet", scores, Score, about=about)
    return f"published: {len(scores)} {scorer} scores of {model}, mean {scores['score'].mean():.4f}"


if __name__ == "__main__":
    run_stage(main)
