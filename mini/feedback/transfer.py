"""Judge predicted feedback on images that the small models really generated: data/ → mini/feedback_transfer.{json,md}.

Run after the default study (`make`), whose images, prompts and scores by `rahf` and `clip` are read. The truth is the
checker's: it reads each image by rules, and finds which words of the prompt it misses and what share of the stated
attributes it shows. Intervals are percentile bootstraps over prompts.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from mini.captions import PROMPT_SETS, Caption, sample_captions
from mini.checker import check, read_scene
from mini.feedback.examples import missed_words
from mini.settings import load_settings
from promptroute.core.errors import UserError
from promptroute.feedback.marking import ratios
from promptroute.io.files import atomic_path, write_json
from promptroute.io.images import read_shard, shard_paths
from promptroute.io.scores import read_details, read_scores
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage

FILES = (Path("mini/feedback_transfer.json"), Path("mini/feedback_transfer.md"))
DATA = Path("data")
RESAMPLES, SEED = 1000, 0
Figures = dict[str, float]


def known_captions() -> dict[str, Caption]:
    """Make the captions of mini/prompts again, with what each word says: text → caption."""
    settings = load_settings("prompts")
    captions = [
        caption
        for name in PROMPT_SETS
        for caption in sample_captions(name, settings["n"], settings["seed"], distinct=True)
    ]
    return {caption.text: caption for caption in captions}


def read_table(models: list[str], data: Path = DATA) -> pd.DataFrame:
    """Read what is known of each image: a row for each.

    Returns:
        Columns prompt_id, model, share (of attributes right, 0…1), rahf and clip (scores), missed and probability (lists,
        an entry for each word).

    Raises:
        UserError: files are absent, or the study has prompts that are not the small world's.
    """
    captions, rows = known_captions(), []
    for model in models:
        scores = {
            name: read_scores(data / "scores" / name / model, name, model).query("output == @output")
            for name, output in (("rahf", "alignment"), ("clip", "score"))
        }
        values = {
            name: table.set_index(["prompt_id", "seed"])["value"].to_dict() for name, table in scores.items()
        }
        paths = sorted((data / "scores" / "rahf" / model).glob("marks-*.parquet"))
        marks = {(one.prompt_id, one.seed): one.values for path in paths for one in read_details(path)}
        for image in (image for path in shard_paths(data / "images" / model) for image in read_shard(path)):
            if image.image is None:
                continue
            if image.prompt not in captions:
                raise UserError(f"{image.prompt!r} is no prompt of mini/prompts; run the default study")
            caption, key = captions[image.prompt], (image.prompt_id, image.seed)
            scene = read_scene(np.asarray(Image.open(io.BytesIO(image.image)).convert("RGB")))
            rows.append({
                "prompt_id": image.prompt_id, "model": model, "rahf": values["rahf"][key], "clip": values["clip"][key],
                "share": np.mean([claim.correct for claim in check(caption.statement, scene)]),
                "missed": missed_words(caption, scene), "probability": marks[key],
            })  # fmt: skip
    return pd.DataFrame(rows)


def figures(table: pd.DataFrame) -> Figures:
    """Judge words and alignment over some images."""
    missed = np.concatenate(table["missed"].to_list()).astype(bool)
    marked = np.concatenate(table["probability"].to_list()) >= 0.5  # as a scorer's marks are read
    precision, recall, f1 = ratios(float((missed & marked).sum()), float(marked.sum()), float(missed.sum()))
    share = table["share"].to_numpy()
    rahf, clip = (float(spearmanr(share, table[name].to_numpy())[0]) for name in ("rahf", "clip"))
    return {
        "word F1": f1,
        "word precision": precision,
        "word recall": recall,
        "word F1, every word marked": ratios(float(missed.sum()), float(len(missed)), float(missed.sum()))[2],
        "rank correlation of rahf.alignment": rahf,
        "rank correlation of clip.score": clip,
        "rahf.alignment less clip.score": rahf - clip,
    }


def intervals(
    table: pd.DataFrame, statistic: Callable[[pd.DataFrame], Figures]
) -> dict[str, dict[str, float]]:
    """Return each figure with the ends of its 95 % interval, prompts resampled with all of their images."""
    groups = [rows for _, rows in table.groupby("prompt_id").indices.items()]
    rng = np.random.default_rng(SEED)
    found = statistic(table)
    sampled: list[Figures] = []
    for _ in range(RESAMPLES):
        taken: NDArray[np.int64] = np.concatenate(
            [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        )
        sampled.append(statistic(table.iloc[taken]))
    ends = {name: np.nanpercentile([one[name] for one in sampled], (2.5, 97.5)) for name in found}
    return {
        name: {"estimate": value, "low": float(ends[name][0]), "high": float(ends[name][1])}
        for name, value in found.items()
    }


def as_markdown(report: dict[str, dict[str, dict[str, float]]], images: int, prompts: int) -> str:
    """Write the report as Markdown."""
    names = list(report)
    lines = [
        "# Predicted feedback on generated images",
        "",
        "Written by `python -m mini.feedback.transfer` after the default study; do not edit. "
        f"{images:,} images of {prompts} prompts by the small models of the small, synthetic world; the truth is the "
        "checker's. The network learned from other images of the same models, of prompts that are none of these, labelled "
        "by the same checker; CLIP's network did not. In brackets: 95 % intervals over prompts.",
        "",
        "| figure | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for figure in report[names[0]]:
        cells = [report[name][figure] for name in names]
        shown = [f"{cell['estimate']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]" for cell in cells]
        lines.append(f"| {figure} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def main() -> str:
    models = list(load_params()["models"])
    table = read_table(models)
    parts = {"all models": table} | {model: table[table["model"] == model] for model in models}
    report = {name: intervals(part, figures) for name, part in parts.items()}
    write_json(FILES[0], report, digits=4)
    with atomic_path(FILES[1]) as temporary:
        temporary.write_text(as_markdown(report, len(table), table["prompt_id"].nunique()), encoding="utf-8")
    return f"transfer: {FILES[1]}"


if __name__ == "__main__":
    run_stage(main, __doc__)
