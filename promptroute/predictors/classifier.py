"""The objective of CEMS, which learns to name the best model.

Lee & Lee, "Learning Prompt-Level Quality Variance for Cost-Effective Text-to-Image Generation", CIKM '24,
doi 10.1145/3627673.3679954.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.predictors.base import Array, Predictor, Seed, Validation

if TYPE_CHECKING:
    import torch

DROPOUT = 0.1
MAX_GRADIENT = 1.0  # norm that gradients are clipped to: the default of transformers' Trainer


def class_weights(labels: Array, classes: int) -> Array:
    """Return the weight of each class in the loss, float64 [m], in 0 … 1: (1 - its share of the labels)².

    Args:
        labels: int [n], the best model of each training prompt.
        classes: m.

    Raises:
        UserError: one model is the best for every prompt, so that its weight is 0 and nothing can be learned.
    """
    share = np.bincount(labels, minlength=classes) / len(labels)
    if share.max() == 1:
        raise UserError(
            f"model {share.argmax()} is the best for every training prompt, so a classifier has nothing to "
            f"learn; use another predictor, or prompts on which the models differ"
        )
    return (1 - share) ** 2


def linear_decay(step: int, steps: int) -> float:
    """Return the learning rate at `step` (0 … steps - 1) as a share of the first: 1 - step / steps, no warm-up."""
    return 1 - step / steps


def macro_f1(labels: Array, chosen: Array, classes: int) -> float:
    """Return the mean over the m classes of F1 = 2 · hits / (times labelled + times chosen), in 0 … 1; 0 for a
    class that is neither labelled nor chosen."""
    hits = np.bincount(labels[labels == chosen], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(chosen, minlength=classes)
    return float((2 * hits / np.maximum(both, 1)).mean())


def make_head(width: int, classes: int) -> "torch.nn.Sequential":
    """Make the head: dropout, linear [h → h], QuickGELU x · sigmoid(1.702 x), dropout, linear [h → m]."""
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


def decay_groups(network: "torch.nn.Module", weight_decay: float) -> list[Plain]:
    """Group parameters as transformers' Trainer does: no weight decay on biases and LayerNorms."""
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


class Classifier(Predictor):
    """A network that learns which model is the best (the first of equals), and predicts how probable that is.

    Predicts probabilities that each model is the best, in 0 … 1, rows summing to 1: they stand in for quality.
    Cross-entropy with class weights (1 - share)²; AdamW, learning rate falling linearly to 0, no weight decay on
    biases and LayerNorms; the epoch of best macro F1 on validation, which is therefore required, is kept.

    Args:
        epochs: passes over the training prompts.
        batch_size: prompts per step; the last of an epoch may be smaller.
        learning_rate: AdamW's at the first step, > 0.
        weight_decay: AdamW's, on all but biases and LayerNorms, 0 or more.
        seed: of the order of prompts, of dropout, and of the head's start.
    """

    incidental: ClassVar[frozenset[str]] = frozenset({"device"})  # here the size of a batch decides a result
    unit: ClassVar[Literal["quality", "probability"]] = "probability"

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 6.4e-6
    weight_decay: NonNegativeFloat = 0.1
    seed: Seed = 0

    _epoch: int

    def _required(self, validation: Validation) -> tuple[PromptBatch, Array]:
        """Return the validation prompts and their best models, int64 [v].

        Raises:
            UserError: there are none.
        """
        if validation is None:
            raise UserError(
                f"{type(self).__name__} chooses its best epoch by macro F1 on validation prompts, and none were given; "
                f"pass validation=(prompts, quality) to fit"
            )
        return validation[0], validation[1].argmax(1)

    def _train(
        self,
        network: "torch.nn.Module",
        logits: "Callable[[Array], torch.Tensor]",
        labels: Array,
        classes: int,
        score: Callable[[], float],
    ) -> int:
        """Train a network in place, and leave it as it was after its best epoch.

        Args:
            network: what is trained; on its device, in float32.
            logits: indices of training prompts, int [b] → the network's logits [b, m] for them.
            labels: int [n], the best model of each.
            classes: m.
            score: how well the network does on validation (macro F1), higher is better; called after every
                epoch with the network in evaluation mode. Between equals the earlier epoch is kept.

        Returns:
            The best epoch, from 1.

        Raises:
            UserError: one model is always the best; or the loss is not finite, with what to change.
        """
        import torch
        from tqdm import tqdm

        device = next(network.parameters()).device
        weights = torch.tensor(class_weights(labels, classes), dtype=torch.float32, device=device)
        best_models = torch.tensor(labels, dtype=torch.long, device=device)
        optimizer = torch.optim.AdamW(
            decay_groups(network, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.999), eps=1e-8
        )
        steps = -(-len(labels) // self.batch_size) * self.epochs
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: linear_decay(step, steps))

        def step(index: Array) -> float:
            # The mean weighs each prompt by its class: sum(w · loss) / sum(w).
            loss = torch.nn.functional.cross_entropy(
                logits(index).float(), best_models[torch.from_numpy(index).to(device)], weight=weights
            )
            if torch.isfinite(loss):
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
                optimizer.step()
                decay.step()
            return float(loss.item())

        with tqdm(total=steps, desc=type(self).__name__, unit="step", disable=None) as bar:
            return self._run_epochs(network, step, len(labels), score, bar)

    def _run_epochs(
        self,
        network: "torch.nn.Module",
        step: Callable[[Array], float],
        prompts: int,
        score: Callable[[], float],
        bar: Any,
    ) -> int:
        """Take `step` over every batch of every epoch; load and return the best epoch, see `_train`."""
        order = np.random.default_rng(self.seed)
        best, best_epoch, kept = -1.0, 0, {}
        for epoch in range(1, self.epochs + 1):
            network.train()
            shuffled = order.permutation(prompts)
            for start in range(0, prompts, self.batch_size):
                loss = step(shuffled[start : start + self.batch_size])
                if not np.isfinite(loss):
                    raise UserError(
                        f"{type(self).__name__}: the loss is {loss} in epoch {epoch}; lower learning_rate"
                    )
                bar.update()
            network.eval()
            f1 = score()
            bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}", macro_f1=f"{f1:.3f}")
            if f1 > best:
                best, best_epoch = f1, epoch
                kept = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
        network.load_state_dict(kept)
        return best_epoch


def softmax(logits: Array) -> Array:
    """Turn logits [n, m] into probabilities, float64 [n, m]."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
