"""Score every model's images with a scorer: `scorers.SCORER` → data/scores/SCORER/MODEL/.

python -m stages.score SCORER
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from promptroute.core.component import TARGET, build, locate
from promptroute.core.errors import UserError
from promptroute.core.outputs import check_ranges
from promptroute.io.files import atomic_path
from promptroute.io.images import link_or_copy, shard_paths
from promptroute.io.scores import FILES, write_scores
from promptroute.runtime.device import read_compute
from promptroute.runtime.executors import Executor
from promptroute.runtime.params import load_params
from promptroute.runtime.shards import run
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import EmbeddingScorer, Scorer
from promptroute.scorers.run import EmbeddingScoring, ImageScoring, ShardScoring


def scoring(scorer: Scorer, model: str) -> ShardScoring:
    """Give the work of one shard of a model, by what the scorer takes."""
    if isinstance(scorer, EmbeddingScorer):
        return EmbeddingScoring(scorer, model, Path("data/embeddings") / scorer.encoder / "prompts.parquet")
    return ImageScoring(scorer, model)


def shards_of(scorer: Scorer, model: str) -> list[Path]:
    """List the shards that hold what the scorer takes of one model."""
    if not isinstance(scorer, EmbeddingScorer):
        return shard_paths(f"data/images/{model}")
    folder = Path("data/embeddings") / scorer.encoder / model
    if not (paths := sorted(folder.glob("part-*.parquet"))):
        raise UserError(
            f"{folder}: no embeddings of images; give image_encoder an encoder {scorer.encoder}, and run `dvc repro`"
        )
    return paths


def score_model(scorer: Scorer, name: str, model: str, executor: Executor, folder: Path) -> pd.DataFrame:
    """Score one model's images, shard by shard; those scored before come from the cache.

    Returns:
        `Score` rows, which `folder` holds too, beside their maps and marks.
    """
    work, shards = scoring(scorer, model), shards_of(scorer, model)
    run(work, shards, executor, f"score {model}")
    scores = pd.concat([work.scores(shard) for shard in shards], ignore_index=True)
    check_ranges(scores, {output.name: output for output in scorer.outputs}, f"data/scores/{name}/{model}")
    folder.mkdir(parents=True)
    about = {"scorer": name, "model": model, "class": scorer.class_path()}
    write_scores(folder / "scores.parquet", scores, about)
    for number, shard in enumerate(shards):
        for kind, file in work.files(shard).items():
            if kind in FILES:
                link_or_copy(file.path, folder / f"{FILES[kind][0]}-{number:05d}.parquet")
    return scores


def build_scorer(section: Mapping[str, Any], where: str, device: str) -> Scorer:
    """Make the scorer, on the device if it computes on one."""
    kind = locate(section.get(TARGET), Scorer, where)
    given = {"device": device} if "device" in kind.model_fields and "device" not in section else {}
    return build(section, where, Scorer, **given)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(
        prog="python -m stages.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scorer", help="a key of scorers")
    name = parser.parse_args(arguments).scorer
    params = load_params()
    compute = read_compute(params["compute"])
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
    run_stage(main)
