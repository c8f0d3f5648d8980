"""Evaluate the small feedback network on held-out scenes → mini/pipeline/data/feedback_report.*.

Beside the network: baselines that look at nothing, and the checker, which reads the spoiled pixels by rules.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mini.captions import caption_from_plain
from mini.checker import check, read_scene
from mini.feedback.annotators import annotate
from mini.feedback.examples import MAPS, SCORES, missed_words
from mini.feedback.render import HELD_OUT, TRAIN, Examples, read_examples
from mini.feedback.train import FOLDER, as_arrays, shrunk
from mini.settings import DATA
from promptroute.feedback.evaluation import Judged, correlation, evaluate
from promptroute.feedback.examples import ArrayExamples
from promptroute.feedback.heatmaps import auc_judd, heatmap_metrics
from promptroute.feedback.marking import ratios
from promptroute.feedback.predictor import Predictor
from promptroute.io.files import atomic_path, write_json
from promptroute.runtime.stage import run_stage

SEED = 0  # of the annotators
FILES = (DATA / "feedback_report.json", DATA / "feedback_report.md")
BARS = {
    "heatmap/implausibility/cc": 0.8, "heatmap/implausibility/auc_judd": 0.95, "heatmap/misalignment/cc": 0.6,
    "words/f1": 0.8, "score/alignment/plcc": 0.8, "score/plausibility/plcc": 0.8,
}  # fmt: skip
"""What the network should reach."""


def f1_by_part(judged: Judged, examples: Examples) -> dict[str, float]:
    """Return the pooled F1 of missed words, by what the words state."""
    parts = np.array([name or "nothing" for row in examples.rows for name in row["parts"]])
    marked = np.concatenate([image["probabilities"] for image in judged.images]) >= judged.threshold
    true = np.concatenate([image["labels"] for image in judged.images]).astype(bool)
    found = {}
    for name in sorted(set(parts) - {"nothing"}):
        own = parts == name
        hits = float((marked & true & own).sum())
        found[name] = ratios(hits, float((marked & own).sum()), float((true & own).sum()))[2]
    return found


def map_figures(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """Return mean CC, NSS and AUC-Judd over the maps that have a truth, float64 [n, h, w]."""
    there = truth.sum(axis=(1, 2)) > 0
    figures = heatmap_metrics(predicted[there], truth[there])
    area = auc_judd(predicted[there], truth[there])
    return {
        "cc": float(np.nanmean(figures["cc"])),
        "nss": float(np.nanmean(figures["nss"])),
        "auc_judd": float(np.nanmean(area)) if np.isfinite(area).any() else 0.5,
    }


def baselines(examples: Examples, train: Examples) -> dict[str, dict[str, float]]:
    """Judge what looks at nothing (mean maps, mean scores, every word marked or none), and the checker's reading."""
    truth = shrunk(examples.maps).astype(float)
    means = shrunk(train.maps[: min(len(train.rows), 2000)]).astype(float).mean(axis=0)
    nothing: dict[str, float] = {"words/f1, none marked": 0.0}
    for index, name in enumerate(MAPS):
        constant = np.broadcast_to(means[index], truth[:, index].shape)
        nothing |= {
            f"heatmap/{name}/{key}": value for key, value in map_figures(constant, truth[:, index]).items()
        }
    true = np.concatenate([np.array(row["missed"], bool) for row in examples.rows])
    nothing["words/f1, all marked"] = ratios(float(true.sum()), float(len(true)), float(true.sum()))[2]
    for name in SCORES:
        values = np.array([row["scores"][name] for row in examples.rows])
        mean = np.mean([row["scores"][name] for row in train.rows])
        nothing[f"score/{name}/mse"] = float(np.mean((values - mean) ** 2))
    return {"nothing": nothing, "checker": _checker(examples, true)}


def _checker(examples: Examples, true: NDArray[np.bool_]) -> dict[str, float]:
    """Judge the rules that read a scene from pixels: words, and alignment."""
    marked, shares = [], []
    for image, row in zip(examples.images, examples.rows, strict=True):
        caption, scene = caption_from_plain(row["caption"]), read_scene(image)
        marked.append(missed_words(caption, scene))
        shares.append(np.mean([claim.correct for claim in check(caption.statement, scene)]))
    said = np.concatenate(marked).astype(bool)
    f1 = ratios(float((said & true).sum()), float(said.sum()), float(true.sum()))[2]
    alignment = np.array([row["scores"]["alignment"] for row in examples.rows])
    return {"words/f1": f1, "score/alignment/plcc": correlation(alignment, np.array(shares))}


def people(arrays: ArrayExamples, examples: Examples) -> tuple[ArrayExamples, dict[str, float]]:
    """Let simulated people label examples: with their labels in the truth's place; and how well they agree with it."""
    maps, given = annotate(examples.maps.astype(float) / 255, arrays.scores, SEED)
    small = F.avg_pool2d(torch.from_numpy(maps), 2).numpy()
    found: dict[str, float] = {}
    for index, name in enumerate(MAPS):
        agreement = map_figures(small[:, index], arrays.heatmaps[:, index].astype(float))
        found |= {f"heatmap/{name}/{key}": value for key, value in agreement.items()}
    for index, name in enumerate(SCORES):
        found[f"score/{name}/plcc"] = correlation(arrays.scores[:, index], given[:, index])
        found[f"score/{name}/mse"] = float(np.mean((arrays.scores[:, index] - given[:, index]) ** 2))
    return replace(arrays, scores=given, heatmaps=small), found


def measure(folder: Path, held_out: Examples, train: Examples) -> dict[str, Any]:
    """Evaluate a network; return the report."""
    predictor = Predictor(folder)
    network, tokens = predictor.network, predictor.tokens
    arrays = as_arrays(held_out, tokens, network.settings)
    judged = evaluate(network, arrays, tokens, threshold=predictor.threshold)
    labelled, agreement = people(arrays, held_out)
    return {
        "n": len(held_out.rows),
        "parameters": sum(value.numel() for value in network.parameters()),
        "network": judged.figures,
        "words by part": f1_by_part(judged, held_out),
        "people": agreement,
        "network, judged by people": evaluate(network, labelled).figures,
        **baselines(held_out, train),
        "bars": {name: {"at least": bar, "found": judged.figures[name]} for name, bar in BARS.items()},
    }


def as_markdown(report: Mapping[str, Any]) -> str:
    """Write the report as Markdown."""
    columns = ("network", "nothing", "checker", "people", "network, judged by people")
    tables = [report[name] for name in columns]

    def row(name: str, *keys: str) -> str:
        cells = [next((table[key] for key in keys if key in table), None) for table in tables]
        return f"| {name} | " + " | ".join("–" if cell is None else f"{cell:.3f}" for cell in cells) + " |"

    lines = [
        "# Evaluation of the small feedback network",
        "",
        "Written by `python -m mini.feedback.measure`; do not edit. A network of "
        f"{report['parameters'] / 1e6:.2f} million parameters on {report['n']} held-out scenes of the small, synthetic "
        "world, whose truth is known exactly. It says nothing of photographs or of real models.",
        "",
        "| figure | network | looking at nothing | the checker's rules | three people | the network, judged by them |",
        "|---|---|---|---|---|---|",
    ]
    for name in MAPS:
        lines += [
            row(f"{name}: {key}", f"heatmap/{name}/{key}")
            for key in ("cc", "nss", "auc_judd", "mse", "mse_empty")
        ]
    lines += [
        row("missed words: F1", "words/f1", "words/f1, all marked"),
        row("missed words: AUC", "words/auc"),
    ]
    for name in SCORES:
        lines += [row(f"{name}: {key}", f"score/{name}/{key}") for key in ("plcc", "srcc", "mse")]
    lines += [
        "",
        "Looking at nothing: the mean of the training's maps, every word marked (no word marked gives F1 0), the mean score. Three "
        "people: simulated annotators, who click places of the true maps and round scores (`annotators.py`), against the "
        "exact truth.",
        "",
        "F1 of the missed words by what they state: "
        + ", ".join(f"{name} {value:.2f}" for name, value in report["words by part"].items())
        + ".",
        "",
        "| aim | at least | found | reached |",
        "|---|---|---|---|",
    ]
    for name, bar in report["bars"].items():
        reached = "yes" if bar["found"] >= bar["at least"] else "no"
        lines.append(f"| {name} | {bar['at least']} | {bar['found']:.3f} | {reached} |")
    return "\n".join(lines) + "\n"


def main() -> str:
    held_out = read_examples(HELD_OUT)
    report = measure(FOLDER, held_out, read_examples(TRAIN))
    write_json(FILES[0], report, digits=4)
    with atomic_path(FILES[1]) as temporary:
        temporary.write_text(as_markdown(report), encoding="utf-8")
    return f"measure: {FILES[1]}"


if __name__ == "__main__":
    run_stage(main)
