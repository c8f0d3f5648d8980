"""Which study a result is of, so that nobody takes another study's figures, or yesterday's, for today's."""

from collections.abc import Mapping
from pathlib import Path

from promptroute.core.plain import Plain, Section
from promptroute.io.cache import digest
from promptroute.io.tables import read_table

DECIDING = (
    "prompts",
    "models",
    "generation",
    "image_encoder",
    "scorers",
    "published",
    "text_encoder",
    "score",
    "split",
    "predictor",
    "cost",
    "policy",
    "seed",
    "evaluate",
)
"""Sections of the parameters whose settings make one result differ from another."""


def origin(params: Section, data: Path) -> Plain:
    """Describe the study of these parameters, and of the prompts and the split below `data`: equal on every machine.

    Returns:
        `prompts`, `models`, `score`: names, in words; `settings`: digest of the sections `DECIDING`, where of an
        absolute path the last part counts alone; `test_prompts`: digest of the texts of the split's test prompts,
        None without these files.

    Raises:
        UserError: a file is corrupt.
    """
    from promptroute.core.rows import Prompt, SplitRow
    from promptroute.routing.quality import flat_weights

    tested, prompts, split = None, data / "prompts.parquet", data / "split.parquet"
    if split.is_file() and prompts.is_file():
        rows = read_table(split, SplitRow)
        texts = read_table(prompts, Prompt).set_index("prompt_id")["prompt"]
        tested = digest(sorted(texts.reindex(rows.loc[rows["split"] == "test", "prompt_id"]).dropna()))[:12]
    return {
        "prompts": ", ".join(params["prompts"]["sources"]),
        "models": ", ".join([*params["published"]["models"], *params["models"]]),
        "score": " + ".join(flat_weights(params["score"]["weights"])),
        "settings": digest({name: _anywhere(params.get(name)) for name in DECIDING})[:12],
        "test_prompts": tested,
    }


def difference(shown: Section, here: Section) -> str:
    """Say how a result's `origin` differs from that of the study at hand, in a line; empty where it doesn't."""
    words = {"prompts": "prompts", "models": "models", "score": "quality"}
    if names := [name for name in words if shown.get(name) != here.get(name)]:
        of, own = (
            "; ".join(f"{words[name]} {origin.get(name, 'unknown')}" for name in names)
            for origin in (shown, here)
        )
        return f"of another study: {of}; the study here: {own}"
    stale = {"settings": "its settings", "test_prompts": "its test prompts"}
    changed = [text for name, text in stale.items() if here.get(name) not in (None, shown.get(name))]
    return f"stale: {' and '.join(changed)} have changed since" if changed else ""


def _anywhere(value: object) -> object:
    """Take out what differs from machine to machine: the folders of absolute paths."""
    if isinstance(value, Mapping):
        return {str(key): _anywhere(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_anywhere(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
