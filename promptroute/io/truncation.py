"""How many prompts each model and encoder cut off, counted from what they wrote."""

from collections.abc import Iterable
from pathlib import Path

from promptroute.io.images import shard_paths
from promptroute.io.parquet import read_parquet


def count_truncated(
    models: Iterable[str],
    image_encoders: Iterable[str],
    text_encoders: Iterable[str],
    data: Path = Path("data"),
) -> dict[str, dict[str, dict[str, int | None]]]:
    """Count the prompts that were too long for each model and encoder of a study.

    Args:
        models, image_encoders, text_encoders: their names.
        data: the folder of images, embeddings and text.

    Returns:
        models, image_encoder, text_encoder → name → `prompts`, `truncated` (how many of them
        were cut off) and `tokens` (how many in all were lost); the last two null where it is not known of any prompt.
        An image encoder without a text side has 0 prompts.

    Raises:
        UserError: a file is absent or corrupt.
    """
    return {
        "models": {name: _count(shard_paths(data / "images" / name)) for name in models},
        "image_encoder": {
            name: _count((data / "embeddings" / name).glob("prompts.parquet")) for name in image_encoders
        },
        "text_encoder": {name: _count([data / "text" / f"{name}.parquet"]) for name in text_encoders},
    }


def _count(paths: Iterable[Path]) -> dict[str, int | None]:
    cut: dict[str, int | None] = {}
    for path in paths:
        table = read_parquet(path, "a table of prompts", ["prompt_id", "truncated"])
        for name, tokens in zip(*(table.column(key).to_pylist() for key in table.column_names), strict=True):
            cut[name] = cut.get(name) if tokens is None else tokens  # of a failed image it is not known
    known = [tokens for tokens in cut.values() if tokens is not None]
    counted = {"truncated": sum(tokens > 0 for tokens in known), "tokens": sum(known)}
    return {"prompts": len(cut), **(counted if known else dict.fromkeys(counted))}
