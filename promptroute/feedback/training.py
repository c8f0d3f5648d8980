"""Training of the feedback network: seeded by step, resumable, on one process or several."""

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.feedback.checkpoint import TIED, load_state, read_state
from promptroute.feedback.evaluation import evaluate, selection
from promptroute.feedback.examples import Batch, Examples
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.ranks import Ranks
from promptroute.feedback.settings import START
from promptroute.feedback.texts import WordTokens
from promptroute.io.files import atomic_path

log = logging.getLogger(__name__)


class TrainingSettings(Component):
    """How the network is trained.

    Settings:
        epochs: passes over the examples.
        batch_size: examples of a step, over all processes together.
        learning_rate, final_learning_rate: at the start, and where the cosine ends.
        decoder_rate: share of the rate that T5's decoder learns with.
        warm_up: steps in which the rate rises from 0.
        schedule: `cosine`, a step at a time; `epochs`, once an epoch and one epoch late, as the open version.
        weight_decay: AdamW's, on matrices; on every parameter with `decay_all`.
        betas: AdamW's.
        clip: largest norm of the gradient; None: any.
        score_weight, heatmap_weight, word_weight: of the parts of the loss.
        heatmap_loss: `squared` error, as published, or `cross-entropy`, whose gradient doesn't vanish where a map is nearly
            empty: most of a map is, so that a network that starts from nothing may never leave the empty map otherwise.
        count_padding: whether padding of the targets counts as words, as in the open version.
        average: decay of the moving average of the weights that is evaluated and kept; 0: none.
        bf16: compute in bfloat16 where that is safe; weights stay float32.
        frozen: beginnings of names of weights that don't learn.
        select: best epoch by the mean of `bounded` figures, or by the open version's (`published`); see `selection`.
        evaluate_every: epochs between evaluations.
        evaluate_batch: images a batch then; decides no figure.
        save_every: seconds between checkpoints.
        loaders: threads that prepare the next batches meanwhile; 0: none.
        seed: of order and dropout.
    """

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    final_learning_rate: float = Field(default=1e-5, ge=0)
    decoder_rate: float = Field(default=1.0, ge=0)
    warm_up: int = Field(default=100, ge=0)
    schedule: Literal["cosine", "epochs"] = "cosine"
    weight_decay: float = Field(default=0.01, ge=0)
    decay_all: bool = False
    betas: list[float] = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    clip: float | None = Field(default=1.0, gt=0)
    score_weight: float = Field(default=1.0, ge=0)
    heatmap_weight: float = Field(default=1.0, ge=0)
    word_weight: float = Field(default=1.0, ge=0)
    heatmap_loss: Literal["squared", "cross-entropy"] = "squared"
    count_padding: bool = False
    average: float = Field(default=0.0, ge=0, lt=1)
    bf16: bool = False
    frozen: list[str] = Field(default=[])
    select: Literal["bounded", "published"] = "bounded"
    evaluate_every: int = Field(default=1, ge=1)
    evaluate_batch: int = Field(default=32, ge=1)
    save_every: float = Field(default=300.0, ge=0)
    loaders: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)

    def rate(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: from 0.
            steps: of the whole training.
            per_epoch: steps of an epoch.
        """
        if self.schedule == "epochs":
            progress = max(0, step // per_epoch - 1) / self.epochs
        else:
            progress = step / steps
        falling = 0.5 + 0.5 * math.cos(math.pi * progress)
        rate = self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * falling
        return rate * min(1.0, (step + 1) / (self.warm_up + 1))


class _Losses(nn.Module):
    """The network with its losses, as sums over the examples of a batch: what several processes can add up."""

    def __init__(self, network: FeedbackNetwork, settings: TrainingSettings) -> None:
        super().__init__()
        self.network, self.settings = network, settings

    def forward(self, batch: Plain, counts: Tensor) -> dict[str, Tensor]:
        """Return each part of the loss: this process's share of the mean over the step's examples.

        Args:
            batch: tensors by the names of `Batch`.
            counts: [scores + maps + 1]: scores that are there, maps, and words, over all processes.
        """
        network = self.network
        given = network(
            batch["pixel_values"],
            batch["input_ids"],
            batch["lengths"],
            batch["target_ids"],
            batch["task_ids"],
        )
        parts = {}
        for at, name in enumerate(network.settings.scores):
            truth = batch["scores"][:, at]
            there = ~truth.isnan()
            error = (given[f"score_{name}"].float() - truth.nan_to_num()).square()
            parts[f"score_{name}"] = (error * there).sum() / counts[at]
        for at, name in enumerate(network.settings.heatmaps):
            truth = batch["heatmaps"][:, at]
            there = ~truth[:, 0, 0].isnan()
            error = _map_error(given[f"heatmap_{name}"].float(), truth.nan_to_num(), self.settings)
            parts[f"heatmap_{name}"] = (error.mean(dim=(1, 2)) * there).sum() / counts[
                len(self.network.settings.scores) + at
            ]
        targets = batch["target_ids"]
        each = nn.functional.cross_entropy(
            given["target_logits"].float().transpose(1, 2), targets, reduction="none"
        )
        parts["words"] = (each * _counted(targets, self.settings)).sum() / counts[-1]
        return parts

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Weigh the parts of the loss."""
        kinds = ("score", "heatmap", "word")
        weights = {kind: getattr(self.settings, f"{kind}_weight") for kind in kinds}
        weighted = [
            weights[next(kind for kind in kinds if name.startswith(kind))] * value
            for name, value in parts.items()
        ]
        return torch.stack(weighted).sum()


def _map_error(predicted: Tensor, truth: Tensor, settings: TrainingSettings) -> Tensor:
    """Return the error of each pixel of maps: [b, side, side] in 0..1, both → the same."""
    if settings.heatmap_loss == "squared":
        return (predicted - truth).square()
    p = predicted.clamp(1e-6, 1 - 1e-6)
    return -(truth * p.log() + (1 - truth) * (1 - p).log())


def _counted(targets: Tensor, settings: TrainingSettings) -> Tensor:
    """Return which tokens of the targets count: bool [b, l]."""
    return torch.ones_like(targets, dtype=torch.bool) if settings.count_padding else targets != START


def _to_network(batch: Batch, network: FeedbackNetwork) -> Plain:
    device = network.device
    tensors: Plain = {
        name: torch.as_tensor(getattr(batch, name), device=device)
        for name in ("pixel_values", "input_ids", "lengths", "target_ids", "scores", "heatmaps")
    }
    tensors["pixel_values"] = tensors["pixel_values"].to(network.visual_token_projection.weight.dtype)
    tasks = {name: torch.as_tensor(ids, device=device) for name, ids in batch.task_ids.items()}
    return tensors | {"task_ids": {name: (ids, (ids != START).sum(dim=1)) for name, ids in tasks.items()}}


@dataclass
class History:
    """What a training has come to.

    Attributes:
        step: steps that are done.
        epochs: figures of each epoch: `epoch`, `rate`, `loss`, parts of the loss, and of validation.
        best: the highest selection figure, and its epoch (-1: none yet).
        sums: the running epoch's sums of the parts of the loss.
    """

    step: int = 0
    epochs: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = -1
    sums: dict[str, float] = field(default_factory=dict)


class _State:
    """All that a training changes: weights, their moving average, the optimiser's moments, the history."""

    def __init__(self, network: FeedbackNetwork, settings: TrainingSettings) -> None:
        self.network, self.settings = network, settings
        for name, value in network.named_parameters():
            if name.startswith(tuple(settings.frozen)):
                value.requires_grad_(False)
        self.learning = {name: value for name, value in network.named_parameters() if value.requires_grad}
        if not self.learning:
            raise UserError(
                f"frozen is {settings.frozen}, so that nothing learns; leave some weights out of it"
            )
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, value in self.learning.items():
            share = settings.decoder_rate if name.startswith("t5.decoder.") else 1.0
            decay = settings.weight_decay if settings.decay_all or value.ndim > 1 else 0.0
            groups.setdefault((share, decay), []).append(value)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": values, "weight_decay": decay, "share": share}
                for (share, decay), values in groups.items()
            ],
            lr=settings.learning_rate,
            betas=(settings.betas[0], settings.betas[1]),
        )
        self.average = (
            {name: value.detach().clone() for name, value in self.learning.items()}
            if settings.average
            else {}
        )
        self.history = History()

    def update(self, rate: float) -> None:
        """Take an optimiser's step with the gradients that are there."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.learning.values(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.history.step += 1
        if self.average:
            decay = min(self.settings.average, self.history.step / (self.history.step + 9))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.learning.values()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their average, where there is one."""
        for name, value in self.average.items():
            kept = self.learning[name].detach().clone()
            self.learning[name].copy_(value)
            value.copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """Give all that a checkpoint holds."""
        found = {f"weights.{key}": value for key, value in weights_of(self.network).items()}
        found |= {f"average.{key}": value for key, value in self.average.items()}
        for key, value in self.learning.items():
            for part, moment in self.optimizer.state.get(value, {}).items():
                found[f"{part}.{key}"] = moment
        return {key: value.detach().cpu().contiguous().clone() for key, value in found.items()}

    def save(self, path: Path, about: str) -> None:
        """Write a checkpoint, whole or not at all."""
        from safetensors.torch import save_file

        with atomic_path(path) as temporary:
            save_file(self.tensors(), temporary, {"history": json.dumps(vars(self.history)), "about": about})

    def resume(self, path: Path, about: str) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: it is of another training, or can't be read.
        """
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file

        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            tensors = load_file(path)
        except SafetensorError as error:
            raise UserError(
                f"{path}: not a checkpoint that can be read ({error}); delete it to begin again"
            ) from error
        if metadata.get("about") != about:
            raise UserError(
                f"{path}: a checkpoint of another training; delete it to begin again, or give its settings"
            )
        self.history = History(**json.loads(metadata["history"]))
        self.network.load_state_dict(
            {
                key.removeprefix("weights."): value
                for key, value in tensors.items()
                if key.startswith("weights.")
            },
            strict=False,  # tied names are kept once
        )
        for key, value in self.learning.items():
            if self.average:
                self.average[key].copy_(tensors[f"average.{key}"])
            if f"step.{key}" in tensors:
                moments = {
                    part: tensors[f"{part}.{key}"].to(value.device) for part in ("exp_avg", "exp_avg_sq")
                }
                self.optimizer.state[value] = {"step": tensors[f"step.{key}"], **moments}


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights, tied ones once."""
    return {name: value for name, value in network.state_dict().items() if name not in TIED}


def epoch_rows(n: int, settings: TrainingSettings, epoch: int) -> Iterator[np.ndarray]:
    """Yield the rows of each step of an epoch, all n of them in an order that seed and epoch decide."""
    order = np.random.default_rng([settings.seed, epoch]).permutation(n)
    for start in range(0, n, settings.batch_size):
        yield order[start : start + settings.batch_size]


def _ahead(make: Callable[[np.ndarray], Batch], rows: list[np.ndarray], threads: int) -> Iterator[Batch]:
    """Yield the batches of rows in order, with threads that make the next ones meanwhile."""
    if not threads:
        yield from map(make, rows)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(make, one) for one in rows[: threads + 1])
        try:
            for at in range(len(rows)):
                batch = waiting.popleft().result()
                if at + threads + 1 < len(rows):
                    waiting.append(pool.submit(make, rows[at + threads + 1]))
                yield batch
        finally:
            for one in waiting:
                one.cancel()


def train(
    network: FeedbackNetwork,
    settings: TrainingSettings,
    examples: Examples,
    folder: Path | str,
    validation: Examples | None = None,
    tokens: WordTokens | None = None,
    report: Callable[[Mapping[str, float]], None] | None = None,
) -> History:
    """Train a network; leave the best epoch's weights in it (the last, without validation).

    A step depends on nothing but the state before it, the seed and its number: a killed training that is begun again
    goes on from its last checkpoint and, on a CPU, ends with the same bits. With several processes (`torchrun`) each
    takes its part of every step's examples, and the gradient is that of one process with all of them.

    Args:
        network: on its device; trained in place.
        settings: how.
        examples: what to learn from.
        folder: of checkpoints: `last.safetensors` and `best.safetensors`.
        validation: what the best epoch is chosen by.
        tokens: the tokenizer, for the words of the validation.
        report: is given the figures of each epoch, in the first process.

    Returns:
        The history.

    Raises:
        UserError: there are no examples, the checkpoint is of another training, or the loss is not finite.
    """
    if not len(examples):
        raise UserError("there is no example to train on; check the data")
    folder, ranks = Path(folder), Ranks.current()
    folder.mkdir(parents=True, exist_ok=True)
    about = _about(network, settings, examples)
    state = _State(network, settings)
    last = folder / "last.safetensors"
    if last.is_file():
        state.resume(last, about)
        log.info("resuming at step %d of %s", state.history.step, last)
    runner = _Runner(state, examples, ranks)
    history = state.history
    while history.step < runner.steps:
        runner.epoch(last, about)
        epoch = history.step // runner.per_epoch - 1
        figures = runner.finish_epoch(epoch)
        if validation is not None and (
            (epoch + 1) % settings.evaluate_every == 0 or history.step == runner.steps
        ):
            figures |= _judge(state, epoch, validation, tokens, ranks, folder / "best.safetensors")
        history.epochs.append(figures)
        if ranks.first:
            state.save(last, about)
            if report is not None:
                report(figures)
        ranks.wait()
    _leave(state, folder, validation is not None)
    network.eval()
    return history


def _about(network: FeedbackNetwork, settings: TrainingSettings, examples: Examples) -> str:
    """Say what a checkpoint must agree in with the training that goes on from it."""
    about = [
        settings.model_dump(exclude={"loaders", "save_every", "evaluate_batch"}),
        network.settings.fingerprint()["settings"],
        network.attention_mask,
        len(examples),
    ]
    return json.dumps(about, sort_keys=True)


def _judge(
    state: _State, epoch: int, validation: Examples, tokens: WordTokens | None, ranks: Ranks, best: Path
) -> dict[str, float]:
    """Return an epoch's figures of validation, and its `selection`; write its weights to `best` if it is the best yet."""
    settings, network, history = state.settings, state.network, state.history
    state.swap()
    published = settings.select == "published"
    judged = evaluate(network, validation, tokens, settings.evaluate_batch, original=published, ranks=ranks)
    chosen = selection(judged.figures, network.settings, settings.select)
    if chosen > history.best:
        history.best, history.best_epoch = chosen, epoch
        if ranks.first:
            _save_weights(network, best)
    state.swap()
    return judged.figures | {"selection": chosen}


def _save_weights(network: FeedbackNetwork, path: Path) -> None:
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in weights_of(network).items()},
            temporary,
        )


def _leave(state: _State, folder: Path, chosen: bool) -> None:
    """Put the weights that are kept into the network: the best epoch's, or the last ones' average."""
    if chosen and state.history.best_epoch >= 0:
        load_state(state.network, read_state(folder / "best.safetensors"), str(folder / "best.safetensors"))
    else:
        state.swap()


class _Runner:
    """Steps of a training."""

    def __init__(self, state: _State, examples: Examples, ranks: Ranks) -> None:
        self.state, self.examples, self.ranks = state, examples, ranks
        settings = state.settings
        self.per_epoch = math.ceil(len(examples) / settings.batch_size)
        self.steps = settings.epochs * self.per_epoch
        self.losses = _Losses(state.network, settings)
        self.module: Any = self.losses
        if ranks.world > 1:
            self.module = nn.parallel.DistributedDataParallel(self.losses)
        self.began, self.first = time.monotonic(), state.history.step

    def epoch(self, checkpoint: Path, about: str) -> None:
        """Take the steps that are left of the running epoch."""
        state, history, settings = self.state, self.state.history, self.state.settings
        saved = time.monotonic()
        self.module.train()
        number = history.step // self.per_epoch
        left = list(epoch_rows(len(self.examples), settings, number))[history.step % self.per_epoch :]
        own = [rows[self.ranks.rank :: self.ranks.world] for rows in left]
        # With fewer examples than processes one is taken that counts for nothing.
        batches = _ahead(
            self.examples.batch,
            [mine if len(mine) else rows[:1] for mine, rows in zip(own, left, strict=True)],
            settings.loaders,
        )
        for mine, batch in zip(own, batches, strict=True):
            self.step(batch, 1.0 if len(mine) else 0.0)
            now = time.monotonic()
            if history.step % 50 == 0 or history.step % self.per_epoch == 0:
                self.progress(now)
            inside = history.step % self.per_epoch  # an epoch's end is saved with its figures
            if self.ranks.first and inside and now - saved > settings.save_every:
                state.save(checkpoint, about)
                saved = now

    def step(self, examples: Batch, weight: float) -> None:
        """Take one step with this process's examples, that count with a weight."""
        state, settings, ranks = self.state, self.state.settings, self.ranks
        step = state.history.step
        torch.manual_seed((settings.seed * 1_000_003 + step) * 1009 + ranks.rank)  # of dropout
        batch = _to_network(examples, state.network)
        local = torch.cat(
            [(~batch["scores"].isnan()).sum(dim=0).float(),
             (~batch["heatmaps"][:, :, 0, 0].isnan()).sum(dim=0).float(),
             _counted(batch["target_ids"], settings).sum()[None].float()]
        )  # fmt: skip
        counts = ranks.sum(local * weight).clamp(min=1)
        with torch.autocast(state.network.device.type, torch.bfloat16, enabled=settings.bf16):
            parts = self.module(batch, counts)
        loss = self.losses.total(parts) * weight
        values = ranks.sum(
            torch.stack([loss.detach(), *(value.detach() * weight for value in parts.values())])
        )
        if not torch.isfinite(values[0]):
            raise UserError(
                f"the loss of step {step} is {values[0].item()}; lower learning_rate, or check the data"
            )
        torch.autograd.backward(loss * ranks.world)  # processes' gradients are averaged
        state.update(settings.rate(step, self.steps, self.per_epoch))
        sums = state.history.sums
        for name, value in zip(("loss", *parts), values.tolist(), strict=True):
            sums[name] = sums.get(name, 0.0) + value

    def progress(self, now: float) -> None:
        """Say how far the training is, how fast it goes, and how long it will take."""
        step = self.state.history.step
        pace = (now - self.began) / max(1, step - self.first)
        mean = self.state.history.sums["loss"] / ((step - 1) % self.per_epoch + 1)
        if self.ranks.first:
            log.info(
                "step %d/%d, epoch %d, loss %.4f, %.2f s a step, %.1f min left",
                step, self.steps, (step - 1) // self.per_epoch, mean, pace, pace * (self.steps - step) / 60,
            )  # fmt: skip

    def finish_epoch(self, epoch: int) -> dict[str, float]:
        """Return an epoch's mean losses, and begin the next."""
        history, settings = self.state.history, self.state.settings
        figures = {"epoch": float(epoch), "rate": settings.rate(history.step - 1, self.steps, self.per_epoch)}
        figures |= {f"loss/{name}": value / self.per_epoch for name, value in history.sums.items()}
        history.sums = {}
        return figures
