"""Precision, recall and F1 of the words that an image misses, from labelled prompts as text."""

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

MARK = "_0"
"""What stands behind a word that the image misses."""
_WRONG = -1


def word_metrics(pairs: Sequence[tuple[str, str]], original: bool = False) -> list[dict[str, float]]:
    """Compare labelled prompts with their truths, word by word; class 1 is the words that are marked with `_0`.

    Args:
        pairs: (predicted text, true text).
        original: compare by position, as the open version does: a word too many or too few makes all later ones wrong.
            Otherwise words are first aligned by their longest common runs, so that it costs that word alone.

    Returns:
        For each pair `seq/STATISTIC/CLASS`, where STATISTIC is precision, recall, f1-score or support, CLASS is 0, 1,
        macro_avg, weighted_avg and, where no accuracy is defined, micro_avg; else `seq/accuracy`. An undefined ratio is
        0. Which of the two there is follows scikit-learn's report: of 1.3 (accuracy only where both classes, and no wrong
        word, occur) with `original`, else of 1.9 (accuracy wherever no wrong word occurs).
    """
    return [_report(*_labels(predicted, true, original), original) for predicted, true in pairs]


def split_mark(word: str) -> tuple[str, int]:
    """Split a word from one mark: (word, 1 where it is marked)."""
    return (word.removesuffix(MARK), 1) if word.endswith(MARK) else (word, 0)


def _labels(predicted: str, true: str, by_position: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give predicted and true classes [words of the truth]; -1 for a word that isn't written as it should be."""
    written = [split_mark(word) for word in predicted.split()]
    expected = [split_mark(word) for word in true.split()]
    truth = np.array([mark for _, mark in expected], int)
    given = np.full(len(expected), _WRONG)
    if by_position:
        matches = [(at, at) for at in range(min(len(written), len(expected)))]
    else:
        blocks = SequenceMatcher(
            None, [word for word, _ in written], [word for word, _ in expected], autojunk=False
        ).get_matching_blocks()
        matches = [(a + step, b + step) for a, b, size in blocks for step in range(size)]
    for at, place in matches:
        if written[at][0] == expected[place][0]:
            given[place] = written[at][1]
    return given, truth


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def ratios(hits: float, predicted: float, true: float) -> tuple[float, float, float]:
    """Return precision, recall and F1 of counts; 0 where one is undefined."""
    return _ratio(hits, predicted), _ratio(hits, true), _ratio(2 * hits, predicted + true)


def _report(given: np.ndarray, truth: np.ndarray, original: bool) -> dict[str, float]:
    names = ("precision", "recall", "f1-score")
    counts = np.array(
        [[((given == c) & (truth == c)).sum(), (given == c).sum(), (truth == c).sum()] for c in (0, 1)], float
    )
    each = np.array([ratios(*row) for row in counts])
    support = counts[:, 2]
    shares = support / support.sum() if support.sum() else support
    columns = {"0": each[0], "1": each[1], "macro_avg": each.mean(axis=0), "weighted_avg": shares @ each}
    supports = {"0": support[0], "1": support[1], "macro_avg": support.sum(), "weighted_avg": support.sum()}
    occurring = set(given.tolist()) | set(truth.tolist())
    accurate = occurring == {0, 1} if original else occurring <= {0, 1}
    if not accurate:
        columns["micro_avg"], supports["micro_avg"] = np.array(ratios(*counts.sum(axis=0))), support.sum()
    report = {
        f"seq/{name}/{column}": float(value)
        for column, values in columns.items()
        for name, value in zip(names, values, strict=True)
    }
    report |= {f"seq/support/{column}": float(value) for column, value in supports.items()}
    if accurate:
        report["seq/accuracy"] = _ratio(float((given == truth).sum()), len(truth))
    return report
