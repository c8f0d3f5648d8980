"""Read one model's published scores: `published` → data/scores/published-tables/SCORER/MODEL/."""

from promptroute.core.component import TARGET, build
from promptroute.core.rows import Prompt
from promptroute.io.published import ScoreTable, check_same_prompts
from promptroute.io.scores import scores_folder, write_scores
from promptroute.io.tables import of_prompts, read_table
from promptroute.runtime.params import load_params, published_output
from promptroute.runtime.stage import run_stage


def main(scorer: str, model: str) -> str:
    params = load_params()
    published = params["published"]
    prompts = read_table("data/prompts.parquet", Prompt)
    table = build(published["table"], "params.yaml: published.table", ScoreTable)
    section = published["scorers"][scorer]
    output = published_output(section, f"params.yaml: published.scorers.{scorer}")
    read = table.read(scorer, output, published["models"][model]["stem"])
    check_same_prompts(read, prompts, whole=params["prompts"]["n"] is None)
    scores = read.scores[read.scores["prompt_id"].isin(prompts["prompt_id"])]
    about = {"scorer": scorer, "model": model, "class": section[TARGET], "sources": read.sources_json()}
    about |= of_prompts(prompts)
    write_scores(scores_folder(scorer, model, published=True) / "scores.parquet", scores, about)
    return f"published: {len(scores)} {scorer} scores of {model}, mean {scores['value'].mean():.4f}"


if __name__ == "__main__":
    run_stage(main, __doc__, "SCORER", "MODEL")
