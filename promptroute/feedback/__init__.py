"""Rich human feedback (RAHF, CVPR 2024): four scores of an image, two maps over it, and the words that it misses.

The names here are what other programs use; each imports what it needs when it is called, so that the room itself needs
no torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptroute.core.plain import Section

if TYPE_CHECKING:
    import numpy as np

    from promptroute.feedback.network import FeedbackNetwork


def from_checkpoint(path: Path | str, config: Section, attention_mask: bool = True) -> "FeedbackNetwork":
    """Make a network of weights; see `promptroute.feedback.checkpoint.from_checkpoint`."""
    from promptroute.feedback import checkpoint

    return checkpoint.from_checkpoint(path, config, attention_mask)


def heatmap_metrics(predicted: "np.ndarray", truth: "np.ndarray") -> dict[str, "np.ndarray"]:
    """Compare maps with their truths; see `promptroute.feedback.heatmaps.heatmap_metrics`."""
    from promptroute.feedback import heatmaps

    return heatmaps.heatmap_metrics(predicted, truth)


def auc_judd(predicted: "np.ndarray", truth: "np.ndarray", original: bool = False) -> "np.ndarray":
    """Return each map's AUC-Judd; see `promptroute.feedback.heatmaps.auc_judd`."""
    from promptroute.feedback import heatmaps

    return heatmaps.auc_judd(predicted, truth, original)


def word_metrics(pairs: Sequence[tuple[str, str]], original: bool = False) -> list[dict[str, float]]:
    """Compare labelled prompts with their truths; see `promptroute.feedback.marking.word_metrics`."""
    from promptroute.feedback import marking

    return marking.word_metrics(pairs, original)


def convert(
    checkpoint: Path | str,
    folder: Path | str,
    config: Section | None = None,
    tokenizer: Path | str | None = None,
) -> int:
    """Turn the public checkpoint into a folder of safetensors; see `promptroute.feedback.checkpoint.convert`."""
    from promptroute.feedback import checkpoint as weights

    return weights.convert(checkpoint, folder, config, tokenizer)
