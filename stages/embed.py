"""Embed images with every image encoder: `embed MODEL` → data/embeddings/MODEL/ENCODER/part-*.parquet.

`embed` alone embeds the prompts with the same encoders' text side → data/prompt_embeddings/ENCODER.parquet.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt
from promptroute.io.cache import cache_path
from promptroute.io.embeddings import write_embeddings, write_image_embeddings
from promptroute.io.files import atomic_path, sha256
from promptroute.io.images import link_or_copy, read_shard, shard_paths
from promptroute.io.tables import read_table
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import PixelScorer
from promptroute.scorers.run import drawn, kept_scores, over_images, write_scores


def embed_prompts(folder: Path, encoders: dict[str, Any]) -> str:
    """Embed every prompt's text, each different one once."""
    import numpy as np

    prompts = read_table("data/prompts.parquet", Prompt)
    ids, texts = list(prompts["prompt_id"]), list(prompts["prompt"])
    unique = sorted(set(texts))
    where = {text: row for row, text in enumerate(unique)}
    for name, encoder in encoders.items():
        kept = cache_path("prompt_embeddings", encoder.fingerprint_parts, encoder.device, ids, texts)
        if not kept.exists():
            size = encoder.batch_size
            rows = np.concatenate(
                [encoder.encode_texts(unique[start : start + size]) for start in range(0, len(unique), size)]
            )
            write_embeddings(kept, ids, rows[[where[text] for text in texts]])
        link_or_copy(kept, folder / f"{name}.parquet")
    return f"{len(ids)} prompts"


def pixel_scorers(scorers: dict[str, Any], device: str) -> list[PixelScorer]:
    """The scorers that look at pixels. One that can't be had is left to its own stage, which says why."""
    found = []
    for name, settings in scorers.items():
        if "encoder" in settings["scorer"]:  # it looks at embeddings
            continue
        try:
            scorer = build(settings["scorer"], f"scorers.{name}.scorer", device=device)
            _ = scorer.fingerprint_parts
        except UserError:
            continue
        found.append(scorer)
    return found


def embed_images(
    folder: Path, encoders: dict[str, Any], paths: Sequence[Path], scorers: Sequence[PixelScorer]
) -> str:
    """Embed every image of a model. A shard that was embedded before is taken from the cache.

    While the pictures are decoded, the scorers that look at pixels see them too: their scores wait in the
    cache for the score stages, which would decode every picture again.
    """
    from tqdm import tqdm

    count = 0
    for name in encoders:
        (folder / name).mkdir()
    for path in tqdm(paths, desc="embed", unit="shard"):
        kept = {
            name: cache_path("embeddings", encoder.fingerprint_parts, encoder.device, sha256(path))
            for name, encoder in encoders.items()
        }
        new = {name: encoders[name] for name, place in kept.items() if not place.exists()}
        unscored = [scorer for scorer in scorers if new and not kept_scores(scorer, path).exists()]
        if new:
            rows = drawn(read_shard(path))
            vectors = over_images(
                rows,
                [encoder.encode_images for encoder in new.values()] + [scorer.score for scorer in unscored],
                min(one.batch_size for one in (*new.values(), *unscored)),
            )
            ids, seeds = [row.prompt_id for row in rows], [row.seed for row in rows]
            for name, found in zip(new, vectors, strict=False):  # the scores follow
                write_image_embeddings(kept[name], ids, seeds, found)
            for scorer, scores in zip(unscored, vectors[len(new) :], strict=True):
                write_scores(kept_scores(scorer, path), rows, scores)
            count += len(rows)
        for name, place in kept.items():
            link_or_copy(place, folder / name / path.name)
    return f"{count} images now"


def main() -> str:
    model = sys.argv[1] if sys.argv[1:] else None
    params = load_params()
    device = pick_device(**params["compute"])
    encoders = {
        name: build(config, f"image_encoder.{name}", device=device)
        for name, config in params["image_encoder"].items()
    }
    with atomic_path(f"data/embeddings/{model}" if model else "data/prompt_embeddings") as folder:
        folder.mkdir()
        if model is None:
            done = embed_prompts(folder, encoders)
        else:
            # They decide no output of this stage, so they are no param of it in dvc.yaml.
            scorers = pixel_scorers(params["scorers"], device)
            done = (
                f"{embed_images(folder, encoders, shard_paths(f'data/images/{model}'), scorers)} of {model}"
            )
    return f"embed: {done} with {', '.join(encoders) or 'no encoder'} on {device}"


if __name__ == "__main__":
    run_stage(main)
