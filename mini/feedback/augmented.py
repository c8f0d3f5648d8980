"""Train the augmented variant briefly, one head of each kind and the task before the prompt: params `feedback_augmented`.

It shows that the variant learns; its weights aren't kept. Prints the mean error of maps and scores, and how well words' marks
rank, before and after, beside those of the training examples' means.
"""

import tempfile

import numpy as np
import torch

from mini.feedback.render import TRAIN, VALIDATION, Examples, read_examples
from mini.feedback.targets import PATCH
from mini.feedback.tokens import train_tokenizer
from mini.feedback.train import as_arrays
from mini.scenes import SIDE
from mini.settings import load_settings
from mini.training import compute_device
from promptroute.feedback.evaluation import evaluate
from promptroute.feedback.examples import ArrayExamples
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens
from promptroute.feedback.training import TrainingSettings, train
from promptroute.runtime.stage import run_stage


def augmented_settings(vocabulary: int) -> NetworkSettings:
    """Return sizes for a training of minutes."""
    return NetworkSettings(
        variant="augmented", image_side=SIDE, patch_side=PATCH,
        vit_width=64, vit_layers=2, vit_heads=4, vit_mlp=128,
        width=48, mlp=96, layers=2, decoder_layers=1, heads=4, head_width=12, vocabulary=vocabulary,
        heatmap_widths=[16, 12], doubling_widths=[12, 8], score_widths=[8, 4], score_layers=[16], dropout=0.0,
    )  # fmt: skip


def first(examples: Examples, n: int) -> Examples:
    """Return the first n examples."""
    arrays = {name: value[:n] for name, value in vars(examples).items()}
    return Examples(**arrays)


def figures(network: FeedbackNetwork, examples: ArrayExamples, tokens: WordTokens) -> dict[str, float]:
    """Return the figures that are printed."""
    found = evaluate(network, examples, tokens).figures
    names = ("score/plausibility", "score/overall", "heatmap/implausibility", "heatmap/misalignment")
    return {f"{name}/mse": found[f"{name}/mse"] for name in names} | {"words/auc": found["words/auc"]}


def constant(learned: ArrayExamples, judged: ArrayExamples) -> dict[str, float]:
    """Return the errors of the means."""
    return {
        "score/plausibility/mse": float(np.var(judged.scores[:, 0] - learned.scores[:, 0].mean())),
        "heatmap/implausibility/mse": float(
            np.mean((judged.heatmaps[:, 0] - learned.heatmaps[:, 0].mean(0)) ** 2)
        ),
    }


def main() -> str:
    settings = load_settings("feedback_augmented")
    torch.manual_seed(settings["seed"])
    parts = [
        first(read_examples(TRAIN), settings["examples"]),
        first(read_examples(VALIDATION), settings["judged"]),
    ]
    plain = augmented_settings(3)
    texts = [row["text"] for row in parts[0].rows]
    tokenizer = train_tokenizer([*texts, *(plain.task(output) for output in plain.outputs)])
    network = FeedbackNetwork(augmented_settings(tokenizer.get_vocab_size())).to(compute_device())
    tokens = WordTokens(tokenizer)
    learned, judged = (as_arrays(part, tokens, network.settings) for part in parts)
    before = figures(network, judged, tokens)
    plan = TrainingSettings(
        epochs=settings["epochs"],
        batch_size=16,
        learning_rate=2e-3,
        heatmap_loss="cross-entropy",
        seed=settings["seed"],
    )
    with tempfile.TemporaryDirectory() as folder:
        train(network, plan, learned, folder)
    after, means = figures(network, judged, tokens), constant(learned, judged)
    lines = [
        f"{name} {before[name]:.3f} → {after[name]:.3f}"
        + (f" (the mean: {means[name]:.3f})" if name in means else "")
        for name in before
    ]
    return "augmented: " + ", ".join(lines)


if __name__ == "__main__":
    run_stage(main, __doc__)
