"""Train the tiny network in a process of its own: FOLDER [slow | double], under torchrun or alone; prints the figures."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from promptroute.feedback.examples import ArrayExamples, Batch
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.training import TrainingSettings, train
from tests.feedback.made import make_examples, make_tokens, settings

PLAN = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-4, "warm_up": 2, "save_every": 0.0, "average": 0.9,
        "heatmap_loss": "cross-entropy"}  # fmt: skip


class Slow(ArrayExamples):
    """Examples that take their time, so that a kill meets a training that runs."""

    def batch(self, rows: np.ndarray) -> Batch:
        time.sleep(0.3)
        return super().batch(rows)


def run(folder: Path, how: str = "") -> list[dict[str, float]]:
    torch.manual_seed(0)
    sizes = settings()
    network = FeedbackNetwork(sizes)
    if how == "double":
        network.double()
    examples = make_examples(75, sizes)  # the last batch is smaller
    if how == "slow":
        examples = Slow(**vars(examples))
    history = train(
        network, TrainingSettings(**PLAN), examples, folder, make_examples(21, sizes, 1), make_tokens()
    )
    return history.epochs


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    epochs = run(Path(sys.argv[1]), *sys.argv[2:])
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(epochs))
    if "RANK" in os.environ:
        torch.distributed.destroy_process_group()
