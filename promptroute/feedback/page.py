"""A page of the images that a network judges worst and best: truth beside prediction."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from promptroute.core.plain import Section
from promptroute.feedback.evaluation import Judged
from promptroute.feedback.examples import Examples
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.overlay import tinted

_STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "section{border-top:1px solid #ddd;padding:1rem 0}figure{display:inline-block;margin:0 .6rem 0 0}"
    "figure img{width:11rem;image-rendering:pixelated}figcaption{font-size:12px;color:#555}"
    "s{color:#b00}td,th{padding:0 .8rem 0 0;text-align:right}td:first-child,th:first-child{text-align:left}"
)


def error_of(record: Section, threshold: float) -> float:
    """Return how wrong the network is about an image, 0..1: the mean of the errors of its scores, maps and words.

    Of scores the mean absolute error; of maps the root of the mean squared error; of words the share that is marked wrongly.
    """
    scores = [abs(record["true"][name] - value) for name, value in record["predicted"].items()]
    parts = [float(np.nanmean(scores))] if not np.isnan(scores).all() else []
    maps = [np.sqrt(one["mse"]) for one in record["maps"].values() if one]
    parts += [float(np.mean(maps))] if maps else []
    if "probabilities" in record and len(record["words"]):
        parts.append(float(np.mean((record["probabilities"] >= threshold) != record["labels"])))
    return float(np.mean(parts))


def examples_page(
    judged: Judged, examples: Examples, network: FeedbackNetwork, title: str, each: int = 12
) -> str:
    """Show the images that the network is most and least wrong about.

    Args:
        judged: what `evaluate` found.
        examples: the same examples.
        network: the same network.
        title: of the page.
        each: how many of both.

    Returns:
        HTML that needs no other file.
    """
    errors = np.array([error_of(record, judged.threshold) for record in judged.images])
    order = np.argsort(errors, kind="stable")
    best, worst = order[:each], order[::-1][: min(each, max(0, len(order) - each))]
    parts = [f"<h1>{html.escape(title)}</h1>", _figures(judged)]
    for heading, rows in (("Most wrong", worst), ("Least wrong", best)):
        parts.append(f"<h2>{heading}</h2>")
        for row in rows:
            parts.append(
                _example(judged.images[row], examples, network, judged.threshold, float(errors[row]))
            )
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    return f"{head}{''.join(parts)}</html>\n"


def _figures(judged: Judged) -> str:
    rows = "".join(f"<tr><td>{name}<td>{value:.4f}" for name, value in sorted(judged.figures.items()))
    return f"<details><summary>Figures of all {len(judged.images)} images</summary><table>{rows}</table></details>"


def _example(
    record: Section, examples: Examples, network: FeedbackNetwork, threshold: float, error: float
) -> str:
    from PIL import Image

    batch = examples.batch(np.array([record["row"]]))
    given = network.predict(batch.pixel_values, batch.input_ids, batch.lengths, batch.task_ids)
    pixels = ((batch.pixel_values[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels)
    shown = [("image", image)]
    for at, name in enumerate(network.settings.heatmaps):
        predicted = given[f"heatmap_{name}"][0].float().cpu().numpy()
        for of, values in (("true", batch.heatmaps[0, at]), ("predicted", predicted)):
            if not np.isnan(values).any():
                shown.append((f"{name}, {of}", tinted(image, values, name)))
    figures = "".join(
        f'<figure><img alt="{caption}" src="data:image/png;base64,{_png(one)}"><figcaption>{caption}</figcaption></figure>'
        for caption, one in shown
    )
    scores = "".join(
        f"<tr><td>{name}<td>{record['true'][name]:.2f}<td>{value:.2f}"
        for name, value in record["predicted"].items()
    )
    texts = [f"<p>predicted: {_struck(record['words'], record.get('probabilities', ()), threshold)}"]
    if record["labels"] is not None:
        texts.insert(0, f"<p>true: {_struck(record['words'], record['labels'], 0.5)}")
    table = f"<table><tr><th>score<th>true<th>predicted{scores}</table>"
    return f"<section><p>Error {error:.3f}</p>{figures}{''.join(texts)}{table}</section>"


def _png(image: Any) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode("ascii")


def _struck(words: Sequence[str], values: Sequence[float] | np.ndarray, threshold: float) -> str:
    """Write words as HTML, those with a value from the threshold on struck out."""
    marked = [float(value) >= threshold for value in values] or [False] * len(words)
    return " ".join(
        f"<s>{html.escape(word)}</s>" if mark else html.escape(word)
        for word, mark in zip(words, marked, strict=True)
    )
