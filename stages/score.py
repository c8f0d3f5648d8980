"""Score every model's images with a scorer: `scorers.SCORER` → data/scores/SCORER/MODEL/."""

import pandas as pd

from promptroute.io.files import atomic_path
from promptroute.runtime.device import read_compute
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import build_scorer
from promptroute.scorers.run import score_model


def main(name: str) -> str:
    params = load_params()
    compute = read_compute(params["compute"], "params.yaml: compute")
    scorer = build_scorer(params["scorers"][name], f"params.yaml: scorers.{name}", compute.device)
    with atomic_path(f"data/scores/{name}") as folder:
        folder.mkdir()
        tables = {
            model: score_model(scorer, name, model, compute.executor, folder / model)
            for model in params["models"]
        }
    scores = pd.concat(tables.values()) if tables else pd.DataFrame({"output": [], "value": []})
    means = [
        f"{output} {values.mean():.4f}" for output, values in scores.groupby("output", sort=False)["value"]
    ]
    return f"score: {len(scores)} {name} scores of {', '.join(tables) or 'no model'}; mean {', '.join(means) or '-'}"


if __name__ == "__main__":
    run_stage(main, __doc__, "SCORER")
