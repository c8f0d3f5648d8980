"""Train the augmented variant briefly, one head of each kind and the task before the prompt: params `feedback_augmented`.

It begins with the ViT and T5 of mini/weights/feedback, and new heads. It shows that the variant learns; its weights aren't
kept. Prints figures of validation before and after, beside the errors of the training examples' means.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from mini.feedback.render import TRAIN, VALIDATION, Examples, read_examples
from mini.feedback.train import as_arrays
from mini.settings import load_settings
from mini.training import compute_device
from promptroute.feedback.checkpoint import TOKENIZER, load
from promptroute.feedback.evaluation import evaluate
from promptroute.feedback.examples import ArrayExamples
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens
from promptroute.feedback.training import TrainingSettings, train
from promptroute.runtime.stage import run_stage

WEIGHTS = Path("mini/weights/feedback")


def augmented(network: FeedbackNetwork) -> FeedbackNetwork:
    """Return a network of the other variant with the same ViT and T5."""
    made = FeedbackNetwork(NetworkSettings(**network.settings.model_dump() | {"variant": "augmented"}))
    kept = {name: value for name, value in network.state_dict().items() if "_predictor." not in name}
    made.load_state_dict(kept, strict=False)
    return made


def first(examples: Examples, n: int) -> Examples:
    """Return the first n examples."""
    return Examples(**{name: value[:n] for name, value in vars(examples).items()})


def figures(network: FeedbackNetwork, examples: ArrayExamples, tokens: WordTokens) -> dict[str, float]:
    """Return the errors of scores and maps, and how well words' probabilities rank."""
    found = evaluate(network, examples, tokens).figures
    return {name: value for name, value in found.items() if name.endswith("/mse") or name == "words/auc"}


def constant(learned: ArrayExamples, judged: ArrayExamples) -> dict[str, float]:
    """Return the errors of the means of scores and maps."""
    names = learned.settings
    errors = [
        ("score", names.scores, (judged.scores - learned.scores.mean(axis=0)) ** 2),
        ("heatmap", names.heatmaps, (judged.heatmaps - learned.heatmaps.mean(axis=0)) ** 2),
    ]
    return {
        f"{kind}/{name}/mse": float(np.mean(error[:, at]))
        for kind, of, error in errors
        for at, name in enumerate(of)
    }


def main() -> str:
    settings = load_settings("feedback_augmented")
    torch.manual_seed(settings["seed"])
    tokens = WordTokens(WEIGHTS / TOKENIZER)
    network = augmented(load(WEIGHTS)).to(compute_device())
    learned, judged = (
        as_arrays(first(read_examples(folder), settings[key]), tokens, network.settings)
        for folder, key in ((TRAIN, "examples"), (VALIDATION, "judged"))
    )
    before = figures(network, judged, tokens)
    plan = TrainingSettings(
        epochs=settings["epochs"], batch_size=16, learning_rate=1e-3, warm_up=10, heatmap_loss="cross-entropy",
        seed=settings["seed"],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        train(network, plan, learned, folder)
    after, means = figures(network, judged, tokens), constant(learned, judged)
    lines = [
        f"{name} {before[name]:.3f} → {after[name]:.3f}"
        + (f", the mean {means[name]:.3f}" if name in means else "")
        for name in before
    ]
    return "augmented: " + "; ".join(lines)


if __name__ == "__main__":
    run_stage(main, __doc__)
