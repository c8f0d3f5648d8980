"""Train the network: params `network`, `training` → richhf/data/network/, richhf/data/history.json."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from promptroute.core.errors import UserError
from promptroute.feedback.checkpoint import save, start
from promptroute.feedback.evaluation import evaluate
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.ranks import Ranks, joined
from promptroute.feedback.richhf import ShardExamples
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens
from promptroute.feedback.training import TrainingSettings, train
from promptroute.io.files import write_json
from promptroute.runtime.device import pick_device
from promptroute.runtime.stage import run_stage
from richhf.settings import DATA, NETWORK, PROJECT, SHARDS, load_params, place


def main() -> str:
    params = load_params()
    processes = params["compute"]["processes"]
    if processes > 1 and "RANK" not in os.environ:
        launcher = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
        ]
        if subprocess.run([*launcher, "-m", "richhf.train"]).returncode:
            raise UserError("a process of the training failed; its message stands above")
        return f"{NETWORK}: trained by {processes} processes"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with joined(pick_device(params["compute"]["device"], params["compute"]["threads"])) as device:
        return fit(params, device)


def fit(params: Mapping[str, Any], device: str) -> str:
    import torch

    torch.manual_seed(params["seed"])
    settings = NetworkSettings(**params["network"])
    network = FeedbackNetwork(settings, params["attention_mask"])
    begin = params["start"] or {}
    if begin:
        start(network, place(begin["vit"]), place(begin["t5"]))
    tokenizer = place(params["data"]["tokenizer"])
    tokens = WordTokens(tokenizer)
    sides = [ShardExamples(SHARDS / side, side, tokens, settings) for side in ("train", "dev")]
    plan = TrainingSettings(seed=params["seed"], **params["training"])
    history = train(
        network.to(device), plan, sides[0], PROJECT / "cache" / "training", sides[1], tokens, live()
    )
    if Ranks.current().first:
        threshold = evaluate(network, sides[1], tokens, plan.evaluate_batch).threshold
        save(network, NETWORK, tokenizer, threshold=threshold)
        write_json(DATA / "history.json", history.epochs)
    return f"{NETWORK}: epoch {history.best_epoch} of {plan.epochs} is best, {history.best:.4f}"


def live() -> Callable[[Mapping[str, float]], None] | None:
    """Show each epoch's figures while the training runs, as DVCLive's plots where it is installed."""
    if find_spec("dvclive") is None or not Ranks.current().first:
        return None
    live_class: Any = import_module("dvclive").Live
    shown = live_class(
        str(PROJECT / "cache" / "live"), resume=True, report=None, dvcyaml=None, save_dvc_exp=False
    )

    def report(figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            shown.log_metric(name, value)
        shown.next_step()

    return report


if __name__ == "__main__":
    run_stage(main, __doc__)
