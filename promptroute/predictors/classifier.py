"""What `cems` and `cems-frozen` share: the objective of CEMS, which learns to name the best model.

Lee & Lee, "Learning Prompt-Level Quality Variance for Cost-Effective Text-to-Image Generation", CIKM '24,
doi 10.1145/3627673.3679954.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.predictors.base import Array

if TYPE_CHECKING:
    import torch

DROPOUT = 0.1
MAX_GRADIENT = 1.0  # norm that gradients are clipped to: the default of transformers' Trainer


def class_weights(labels: Array, classes: int) -> Array:
    """Weight of each class in the loss, float64 [m], in 0 … 1: (1 - its share of the labels)².

    Args:
        labels: int [n], the best model of each training prompt.
        classes: m.

    Raises:
        UserError: one model is the best for every prompt, so that its weight is 0 and nothing can be learnt.
    """
    share = np.bincount(labels, minlength=classes) / len(labels)
    if share.max() == 1:
        raise UserError(
            f"model {share.argmax()} is the best for every training prompt, so a classifier has nothing to "
            f"learn; use another predictor, or prompts on which the models differ"
        )
    return (1 - share) ** 2


def linear_decay(step: int, steps: int) -> float:
    """Learning rate at `step` (0 … steps - 1) as a share of the first: 1 - step / steps, no warm-up."""
    return 1 - step / steps


def macro_f1(labels: Array, chosen: Array, classes: int) -> float:
    """Mean over the m classes of F1 = 2 · hits / (times labelled + times chosen), in 0 … 1; 0 for a class
    that is neither labelled nor chosen."""
    hits = np.bincount(labels[labels == chosen], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(chosen, minlength=classes)
    return float((2 * hits / np.maximum(both, 1)).mean())


def make_head(width: int, classes: int) -> "torch.nn.Sequential":
    """Dropout, linear [h → h], QuickGELU x · sigmoid(1.702 x), dropout, linear [h → m]."""
    from torch import Tensor, nn

    class QuickGelu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1.702 * x).sigmoid()

    return nn.Sequential(
        nn.Dropout(DROPOUT),
        nn.Linear(width, width),
        QuickGelu(),
        nn.Dropout(DROPOUT),
        nn.Linear(width, classes),
    )


def decay_groups(network: "torch.nn.Module", weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups as transformers' Trainer makes them: no weight decay on biases and LayerNorms."""
    from torch import nn

    norms = {
        id(p) for module in network.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()
    }
    groups: tuple[list[Any], list[Any]] = ([], [])
    for name, parameter in network.named_parameters():
        groups["bias" in name.split(".")[-1] or id(parameter) in norms].append(parameter)
    return [
        {"params": groups[False], "weight_decay": weight_decay},
        {"params": groups[True], "weight_decay": 0.0},
    ]


@dataclass(frozen=True)
class Schedule:
    """How a classifier is trained.

    Attributes:
        epochs: passes over the training prompts.
        batch_size: prompts per step; the last of an epoch may be smaller.
        learning_rate: AdamW's at the first step; falls linearly to 0.
        weight_decay: AdamW's, on all but biases and LayerNorms.
        seed: of the order of prompts, and of dropout.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate is {self.learning_rate}; expected above 0")


def train_classifier(
    network: "torch.nn.Module",
    logits: "Callable[[Array], torch.Tensor]",
    labels: Array,
    classes: int,
    schedule: Schedule,
    score: Callable[[], float],
    name: str,
) -> int:
    """Train a network in place, and leave it as it was after its best epoch.

    Args:
        network: what is trained; on its device, in float32.
        logits: indices of training prompts, int [b] → the network's logits [b, m] for them.
        labels: int [n], the best model of each.
        classes: m.
        schedule: the settings.
        score: how well the network does on validation (macro F1), higher is better; called after every
            epoch with the network in evaluation mode. Between equals the earlier epoch is kept.
        name: for the progress bar.

    Returns:
        The best epoch, from 1.

    Raises:
        UserError: one model is always the best; or the loss is not finite, with what to change.
    """
    import torch
    from tqdm import tqdm

    device = next(network.parameters()).device
    weights = torch.tensor(class_weights(labels, classes), dtype=torch.float32, device=device)
    truth = torch.tensor(labels, dtype=torch.long, device=device)
    optimizer = torch.optim.AdamW(
        decay_groups(network, schedule.weight_decay), lr=schedule.learning_rate, betas=(0.9, 0.999), eps=1e-8
    )
    per_epoch = -(-len(labels) // schedule.batch_size)
    steps = per_epoch * schedule.epochs
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: linear_decay(step, steps))
    order = np.random.default_rng(schedule.seed)
    best, best_epoch, kept = -1.0, 0, {}
    with tqdm(total=steps, desc=name, unit="step") as bar:
        for epoch in range(1, schedule.epochs + 1):
            network.train()
            shuffled = order.permutation(len(labels))
            for start in range(0, len(labels), schedule.batch_size):
                index = shuffled[start : start + schedule.batch_size]
                # The mean weighs each prompt by its class: sum(w · loss) / sum(w).
                loss = torch.nn.functional.cross_entropy(
                    logits(index).float(), truth[torch.from_numpy(index).to(device)], weight=weights
                )
                if not torch.isfinite(loss):
                    raise UserError(
                        f"{name}: the loss is {loss.item()} in epoch {epoch}; lower learning_rate"
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
                optimizer.step()
                decay.step()
                bar.update()
            network.eval()
            f1 = score()
            bar.set_postfix(epoch=epoch, loss=f"{loss.item():.3f}", macro_f1=f"{f1:.3f}")
            if f1 > best:
                best, best_epoch = f1, epoch
                kept = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
    network.load_state_dict(kept)
    return best_epoch


def softmax(logits: Array) -> Array:
    """Logits [n, m] → probabilities float64 [n, m]."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def need_validation(validation: Any, kind: str) -> None:
    """Refuse to go without what the best epoch is chosen on.

    Raises:
        UserError: there is no validation set.
    """
    if validation is None:
        raise UserError(
            f"{kind} chooses its best epoch by macro F1 on validation prompts, and none were given; "
            f"pass validation=(prompts, quality) to fit"
        )
