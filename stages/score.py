"""Score one model's images with one scorer: `scorers.SCORER` → data/scores/SCORER/MODEL.parquet."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt, Score, Scorer
from promptroute.io.embeddings import read_embeddings
from promptroute.io.tables import read_table, write_table
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import EmbeddingScorer, PixelScorer
from promptroute.scorers.run import SCORE_KEY, drawn, kept_scores, over_images, score_rows, write_scores


def from_pixels(scorer: PixelScorer, model: str) -> pd.DataFrame:
    """`Score` rows, one an image. A shard that was scored before is taken from the cache."""
    from promptroute.io.images import read_shard, shard_paths

    parts = []
    for path in shard_paths(f"data/images/{model}"):
        kept = kept_scores(scorer, path)
        if not kept.exists():
            rows = drawn(read_shard(path))
            (scores,) = over_images(rows, [scorer.score], scorer.batch_size)
            write_scores(kept, rows, scores)
        parts.append(read_table(kept, Score, SCORE_KEY))
    return pd.concat(parts, ignore_index=True)


def from_embeddings(scorer: EmbeddingScorer, model: str) -> pd.DataFrame:
    """`Score` rows, one an image, or one a prompt where the score is over all its images."""
    from promptroute.io.embeddings import read_image_embeddings

    ids, seeds, images = read_image_embeddings(f"data/embeddings/{model}/{scorer.encoder}")
    prompts = read_table("data/prompts.parquet", Prompt)["prompt_id"]
    texts = read_embeddings(f"data/prompt_embeddings/{scorer.encoder}.parquet").set_index("prompt_id")[
        "embedding"
    ]
    for where, known, needed in (
        (f"data/embeddings/{model} was made of other prompts", prompts, ids),
        ("data/prompt_embeddings was made of other prompts", texts.index, prompts),
    ):
        if lost := set(needed) - set(known):
            raise UserError(f"{where} than data/prompts.parquet holds, as {min(lost)}; run `dvc repro`")
    groups = pd.Series(np.arange(len(prompts)), index=prompts).reindex(ids)
    of = groups.to_numpy(np.int64)
    scores = scorer.score(images, np.stack(list(texts.reindex(prompts))), of)
    if not scorer.grouped:
        return score_rows(ids, seeds, scores, 1)
    counts = np.bincount(of, minlength=len(prompts))
    scored = np.isfinite(scores)
    return score_rows(prompts[scored], None, scores[scored], counts[scored])


def main() -> str:
    name, model = sys.argv[1:]
    params = load_params()
    settings = params["scorers"][name]
    config = settings["scorer"]
    about = Scorer.declared(name, {key: value for key, value in settings.items() if key != "scorer"})
    if "encoder" in config:  # works on stored embeddings, so neither torch nor a device is needed
        scores = from_embeddings(build(config, f"scorers.{name}.scorer"), model)
    else:
        device = pick_device(**params["compute"])
        scores = from_pixels(build(config, f"scorers.{name}.scorer", device=device), model)
    outside = ~scores["score"].between(about.low, about.high)
    if outside.any():
        row = scores[outside.to_numpy()].iloc[0]
        raise UserError(
            f"scorers.{name}: the score of prompt {row['prompt_id']} is {row['score']}, outside of the declared "
            f"{about.low} to {about.high}; correct low and high, or the scorer"
        )
    write_table(Path("data/scores") / name / f"{model}.parquet", scores, Score, SCORE_KEY)
    return f"score: {len(scores)} {name} scores of {model}, mean {scores['score'].mean():.4f}"


if __name__ == "__main__":
    run_stage(main)
