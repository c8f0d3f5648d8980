"""Embed images with every image encoder: `embed MODEL` → data/embeddings/MODEL/ENCODER/part-*.parquet.

`embed` alone embeds the prompts with the same encoders' text side → data/prompt_embeddings/ENCODER.parquet.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptroute.core.rows import Prompt
from promptroute.io.cache import cache_path
from promptroute.io.embeddings import write_embeddings, write_image_embeddings
from promptroute.io.files import atomic_path, sha256
from promptroute.io.images import link_or_copy, read_shard, shard_paths
from promptroute.io.tables import read_table
from promptroute.runtime.decoding import over_images
from promptroute.runtime.device import pick_device
from promptroute.runtime.params import build, load_params
from promptroute.runtime.stage import run_stage


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


def embed_images(folder: Path, encoders: dict[str, Any], paths: Sequence[Path]) -> str:
    """Embed every image of a model. A shard that was embedded before is taken from the cache."""
    import numpy as np
    from tqdm import tqdm

    count = 0
    for name, encoder in encoders.items():
        (folder / name).mkdir()
        for path in tqdm(paths, desc="embed", unit="shard"):
            kept = cache_path("embeddings", encoder.fingerprint_parts, encoder.device, sha256(path))
            if not kept.exists():
                rows = [row for row in read_shard(path) if row.image is not None]
                found = over_images(rows, lambda images, _: encoder.encode_images(images), encoder.batch_size)  # noqa: B023
                write_image_embeddings(
                    kept, [row.prompt_id for row in rows], [row.seed for row in rows], np.stack(found)
                )
                count += len(rows)
            link_or_copy(kept, folder / name / path.name)
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
            done = f"{embed_images(folder, encoders, shard_paths(f'data/images/{model}'))} of {model}"
    return f"embed: {done} with {', '.join(encoders) or 'no encoder'} on {device}"


if __name__ == "__main__":
    run_stage(main)
