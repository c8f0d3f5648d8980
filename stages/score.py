"""Score every model's images with a scorer: `scorers.SCORER` → data/scores/SCORER/MODEL/."""

import pandas as pd

from promptroute.core.rows import Prompt
from promptroute.generators.study import Generation
from promptroute.io.files import atomic_path
from promptroute.io.tables import of_prompts, read_table
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import build_scorer
from promptroute.scorers.run import score_model


def main(name: str) -> str:
    params = load_params()
    compute = read_compute(params["compute"], "params.yaml: compute")
    scorer = build_scorer(params["scorers"][name], f"params.yaml: scorers.{name}", compute.device)
    prompts = read_table("data/prompts.parquet", Prompt)
    asked = Generation.read(params["generation"], "params.yaml: generation").asked(
        list(prompts["prompt_id"]), list(prompts["prompt"])
    )
    with atomic_path(f"data/scores/{name}") as folder:
        folder.mkdir()
        tables = {
            model: score_model(
                scorer, name, model, compute.executor, folder / model, asked, of_prompts(prompts)
            )
            for model in params["models"]
        }
    scores = pd.concat(tables.values()) if tables else pd.DataFrame({"output": [], "value": []})
    means = [
        f"{output} {values.mean():.4f}" for output, values in scores.groupby("output", sort=False)["value"]
    ]
    return f"score: {len(scores)} {name} scores of {', '.join(tables) or 'no model'}; mean {', '.join(means) or '-'}"


if __name__ == "__main__":
    run_stage(main, __doc__, "SCORER")
