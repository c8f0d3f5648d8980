"""Figures of a network on labelled images: those of the paper's tables, exact per image, and the open version's own.

Source: Liang et al. (CVPR 2024), tables 1 to 3.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.feedback.examples import Batch, Examples
from promptroute.feedback.heatmaps import auc_judd, heatmap_metrics
from promptroute.feedback.marking import ratios, word_metrics
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.ranks import Ranks
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens, labelled
from promptroute.feedback.writing import best_threshold, word_probabilities

WRITTEN_TOKENS = 100
"""Tokens that the open version writes at most."""
_ON_TRUTH = ("cc", "kld", "similarity", "nss", "auc_judd")


@dataclass(frozen=True)
class Judged:
    """What an evaluation found.

    Attributes:
        figures: by name, see `evaluate`.
        images: a record for each image, in the examples' order: its scores, true and predicted, figures of its maps, and
            its words' probabilities and labels.
        threshold: probability from which words counted as marked.
    """

    figures: dict[str, float]
    images: list[Plain]
    threshold: float


def evaluate(
    network: FeedbackNetwork,
    examples: Examples,
    tokens: WordTokens | None = None,
    batch_size: int = 32,
    threshold: float | None = None,
    original: bool = False,
    ranks: Ranks | None = None,
) -> Judged:
    """Judge a network.

    Args:
        network: on its device; is put into evaluation mode.
        examples: labelled images.
        tokens: the tokenizer; None leaves the words out.
        batch_size: images a batch; decides no figure but those of `original`.
        threshold: probability from which a word is marked; None chooses it here by F1, as on a validation set.
        original: add the open version's figures (`original/…`): free writing, words compared by position, its curve for
            AUC-Judd, means over batches of batch means.
        ranks: the processes that share the work; each gets all figures.

    Returns:
        Figures, NaN where undefined: `score/NAME/plcc`, `/srcc`, `/mse`; `heatmap/NAME/mse` over all images, `/mse_empty`
        over those with an empty truth, and over the others `/cc`, `/kld`, `/similarity`, `/nss`, `/auc_judd`;
        `words/precision`, `/recall`, `/f1` of the marked words, pooled over all; `words/auc` of the probabilities;
        `words/image/…` precision, recall and F1 of class 1 and `macro` averaged over images, as the paper's table does.

    Raises:
        UserError: there is no example.
    """
    if not len(examples):
        raise UserError("there is no example to judge by; check the data")
    ranks = ranks or Ranks()
    network.eval()
    own = np.arange(ranks.rank, len(examples), ranks.world)
    images: list[Plain] = []
    for start in range(0, len(own), batch_size):
        images += _judge(network, examples, own[start : start + batch_size], tokens, original)
    images = ranks.gather(images)
    settings = network.settings
    figures = _score_figures(images, settings) | _map_figures(images, settings)
    threshold, words = _word_figures(images, threshold)
    figures |= words
    if original:
        figures |= _original_figures(images, settings, batch_size)
    return Judged(figures, images, threshold)


@torch.no_grad()
def _judge(
    network: FeedbackNetwork, examples: Examples, rows: np.ndarray, tokens: WordTokens | None, original: bool
) -> list[Plain]:
    """Judge one batch: a record for each image."""
    batch, settings = examples.batch(rows), network.settings
    given = network.predict(batch.pixel_values, batch.input_ids, batch.lengths, batch.task_ids)
    prompts = [examples.words(int(row)) for row in rows]
    labels = [examples.labels(int(row)) for row in rows]
    records: list[Plain] = [
        {
            "row": int(row),
            "words": words,
            "labels": marked,
            "true": dict(zip(settings.scores, batch.scores[at].tolist(), strict=True)),
            "predicted": {name: float(given[f"score_{name}"][at]) for name in settings.scores},
            "maps": {},
        }
        for at, (row, words, marked) in enumerate(zip(rows, prompts, labels, strict=True))
    ]
    for at, name in enumerate(settings.heatmaps):
        predicted = given[f"heatmap_{name}"].double().cpu().numpy()
        for record, figures in zip(records, _maps(predicted, batch.heatmaps[:, at], original), strict=True):
            record["maps"][name] = figures
    labelled_rows = [at for at, marked in enumerate(labels) if marked is not None]
    if tokens is not None and labelled_rows:
        kept = {
            name: value[labelled_rows]
            for name, value in given.items()
            if name in ("encoder_last_hidden_state", "text_attended")
        }
        found = word_probabilities(network, kept, [prompts[at] for at in labelled_rows], tokens)
        for at, probabilities in zip(labelled_rows, found, strict=True):
            records[at]["probabilities"] = probabilities
        if original:
            _write(network, batch, records, labelled_rows, tokens)
    return records


def _maps(predicted: np.ndarray, truth: np.ndarray, original: bool) -> list[dict[str, float]]:
    """Give figures of each map: those that say something of its truth; none where nobody knows it."""
    known = np.flatnonzero(~np.isnan(truth[:, 0, 0]))
    given: list[dict[str, float]] = [{} for _ in truth]
    if not len(known):
        return given
    predicted, truth = predicted[known], truth[known]
    figures = heatmap_metrics(predicted, truth)
    figures["auc_judd"] = auc_judd(predicted, truth)
    if original:
        figures["auc_judd_original"] = auc_judd(predicted, truth, original=True)
    empty = truth.sum(axis=(1, 2)) == 0
    for at, row in enumerate(known):
        given[row] = {
            name: float(values[at]) for name, values in figures.items() if name == "mse" or not empty[at]
        }
    return given


def _write(
    network: FeedbackNetwork, batch: Batch, records: list[Plain], rows: list[int], tokens: WordTokens
) -> None:
    """Add the texts that the network writes freely."""
    written = network.generate_ids(batch.pixel_values, batch.input_ids, batch.lengths, WRITTEN_TOKENS)
    for at in rows:
        records[at]["written"] = tokens.text(written[at])


def _mean(values: Sequence[float]) -> float:
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation; NaN where one is constant or there are fewer than two."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _score_figures(images: Sequence[Section], settings: NetworkSettings) -> dict[str, float]:
    from scipy.stats import rankdata

    figures = {}
    for name in settings.scores:
        pairs = np.array([(one["true"][name], one["predicted"][name]) for one in images], float)
        true, predicted = pairs[~np.isnan(pairs[:, 0])].T
        figures[f"score/{name}/plcc"] = correlation(true, predicted)
        figures[f"score/{name}/srcc"] = correlation(rankdata(true), rankdata(predicted))
        figures[f"score/{name}/mse"] = _mean((true - predicted) ** 2)
    return figures


def _map_figures(images: Sequence[Section], settings: NetworkSettings) -> dict[str, float]:
    figures = {}
    for name in settings.heatmaps:
        maps = [one["maps"][name] for one in images if one["maps"][name]]
        figures[f"heatmap/{name}/mse"] = _mean([one["mse"] for one in maps])
        figures[f"heatmap/{name}/mse_empty"] = _mean([one["mse"] for one in maps if "cc" not in one])
        for figure in _ON_TRUTH:
            figures[f"heatmap/{name}/{figure}"] = _mean([one[figure] for one in maps if figure in one])
    return figures


def _word_figures(images: Sequence[Section], threshold: float | None) -> tuple[float, dict[str, float]]:
    """Choose the threshold where it isn't given; judge marks on words by it."""
    judged = [one for one in images if "probabilities" in one]
    if not judged:
        return 0.5 if threshold is None else threshold, {}
    probabilities = np.concatenate([one["probabilities"] for one in judged])
    true = np.concatenate([one["labels"] for one in judged]).astype(bool)
    if threshold is None:
        threshold = best_threshold(probabilities, true)
    marked = probabilities >= threshold
    precision, recall, f1 = ratios(float((marked & true).sum()), float(marked.sum()), float(true.sum()))
    figures = {
        "words/precision": precision,
        "words/recall": recall,
        "words/f1": f1,
        "words/auc": float(auc_judd(probabilities[None, None], true[None, None].astype(float))[0]),
        "words/threshold": threshold,
    }
    texts = [
        (
            " ".join(labelled(one["words"], one["probabilities"] >= threshold)),
            " ".join(labelled(one["words"], one["labels"])),
        )
        for one in judged
    ]
    return threshold, figures | _averaged(word_metrics(texts), "words/image")


def _averaged(reports: Sequence[Mapping[str, float]], prefix: str) -> dict[str, float]:
    """Average words' figures over images, by the keys that the paper's table may mean: class 1, and macro."""
    names = {"precision": "precision", "recall": "recall", "f1-score": "f1"}
    return {
        f"{prefix}/{column}/{shown}": _mean([one[f"seq/{name}/{key}"] for one in reports])
        for column, key in (("missed", "1"), ("macro", "macro_avg"))
        for name, shown in names.items()
    }


def _original_figures(
    images: Sequence[Section], settings: NetworkSettings, batch_size: int
) -> dict[str, float]:
    """Give the open version's figures where it computes others than we."""
    figures = {}
    for name in settings.heatmaps:
        errors = [one["maps"][name]["mse"] for one in images if one["maps"][name]]
        batches = [np.mean(errors[start : start + batch_size]) for start in range(0, len(errors), batch_size)]
        figures[f"original/heatmap/{name}/mse"] = _mean(batches)
        figures[f"original/heatmap/{name}/auc_judd"] = _mean(
            [one["maps"][name]["auc_judd_original"] for one in images if "cc" in one["maps"][name]]
        )
    pairs = [
        (one["written"], " ".join(labelled(one["words"], one["labels"])))
        for one in images
        if "written" in one
    ]
    reports = word_metrics(pairs, original=True)
    collected: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        for key, value in report.items():
            collected[f"original/{key}"].append(value)
    return figures | {key: float(np.mean(values)) for key, values in collected.items()}


def selection(figures: Mapping[str, float], settings: NetworkSettings, how: str) -> float:
    """Return what the best epoch has the highest of.

    Args:
        figures: as `evaluate` gives them.
        settings: the network's.
        how: `bounded`: the mean of three means, each of figures of at most 1: PLCC and SRCC over scores; CC, similarity
            and AUC-Judd over maps; F1 of the marked words. `published`: the open version's sum, in which NSS, that has no
            bound, weighs most; it needs its figures.
    """

    def value(name: str) -> float:
        found = figures.get(name, float("nan"))
        return 0.0 if np.isnan(found) else found

    scores = [value(f"score/{name}/{of}") for name in settings.scores for of in ("plcc", "srcc")]
    if how == "published":
        maps = [
            value(f"heatmap/{name}/{of}") for name in settings.heatmaps for of in ("nss", "cc", "similarity")
        ]
        maps += [value(f"original/heatmap/{name}/auc_judd") for name in settings.heatmaps]
        words = (value("original/seq/precision/macro_avg") + value("original/seq/f1-score/1")) / 2
        return float(np.mean(scores) + words + sum(maps) / 4)
    maps = [
        value(f"heatmap/{name}/{of}") for name in settings.heatmaps for of in ("cc", "similarity", "auc_judd")
    ]
    parts = [float(np.mean(scores)), float(np.mean(maps))] + (
        [value("words/f1")] if "words/f1" in figures else []
    )
    return float(np.mean(parts))
