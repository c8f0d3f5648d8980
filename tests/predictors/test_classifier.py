"""The classifier of CEMS: its arithmetic by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from promptroute.core.errors import UserError
from promptroute.predictors.cems_frozen import CemsFrozen
from promptroute.predictors.classifier import class_weights, decay_groups, linear_decay, macro_f1, make_head


def train_classifier(network: Any, logits: Any, labels: np.ndarray, score: Any, **settings: Any) -> int:
    """Train on two classes."""
    return CemsFrozen(**settings)._train(network, logits, labels, 2, score)


def test_class_weights() -> None:
    labels = np.array([0, 0, 0, 1])  # shares 3/4, 1/4, 0
    np.testing.assert_allclose(class_weights(labels, 3), [1 / 16, 9 / 16, 1])


def test_linear_decay() -> None:
    assert [linear_decay(step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_macro_f1(pairs: list[tuple[int, int]]) -> None:
    true, chosen = np.array(pairs).T
    expected = f1_score(true, chosen, labels=range(4), average="macro", zero_division=0)
    assert macro_f1(true, chosen, 4) == pytest.approx(expected)


def test_head() -> None:
    import torch

    head = make_head(2, 3).eval()
    assert [type(layer).__name__ for layer in head] == ["Dropout", "Linear", "QuickGelu", "Dropout", "Linear"]
    assert head[0].p == head[3].p == 0.1 and head[1].out_features == 2
    x = torch.tensor([[0.5, -2.0]])
    hidden = x @ head[1].weight.T + head[1].bias
    expected = hidden / (1 + torch.exp(-1.702 * hidden)) @ head[4].weight.T + head[4].bias
    torch.testing.assert_close(head(x), expected)


def test_decay_groups(tiny_clip: Path) -> None:
    import torch
    from transformers import CLIPTextModel

    network = torch.nn.ModuleDict(
        {"encoder": CLIPTextModel.from_pretrained(tiny_clip), "head": make_head(32, 3)}
    )
    decayed, kept = decay_groups(network, 0.1)
    assert decayed["weight_decay"] == 0.1 and kept["weight_decay"] == 0
    names = {id(p): name for name, p in network.named_parameters()}
    for group, wanted in ((decayed, False), (kept, True)):
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            assert (name.endswith(".bias") or "layer_norm" in name) == wanted, name
    assert not names  # every parameter stands in one group


class TestTrain:
    def test_first_step(self) -> None:
        """AdamW's first step on one weighted cross-entropy, from its definition (Loshchilov & Hutter 2019)."""
        import torch

        network = torch.nn.Linear(2, 2)
        weight, bias = network.weight.detach().clone(), network.bias.detach().clone()
        x, labels = torch.tensor([[0.1, -0.2], [0.3, 0.1], [0.2, 0.2]]), np.array([0, 0, 1])
        train_classifier(
            network,
            lambda i: network(x[torch.from_numpy(i)]),
            labels,
            lambda: 1.0,
            epochs=1,
            batch_size=3,
            learning_rate=0.01,
            weight_decay=0.1,
        )
        loss_weight = torch.tensor([1 / 9, 1 / 9, 4 / 9])  # (1 - 2/3)² twice, (1 - 1/3)²
        error = torch.softmax(x @ weight.T + bias, 1) - torch.eye(2)[labels]
        error = error * (loss_weight / loss_weight.sum())[:, None]
        gradient, bias_gradient = error.T @ x, error.sum(0)  # norm < 1: not clipped
        # The first step of Adam is lr · gradient / (|gradient| + eps); weights shrink by lr · decay first.
        expected = weight * (1 - 0.01 * 0.1) - 0.01 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(network.weight.detach(), expected)
        torch.testing.assert_close(
            network.bias.detach(), bias - 0.01 * bias_gradient / (bias_gradient.abs() + 1e-8)
        )

    def test_rates(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        rates = []
        step = torch.optim.AdamW.step

        def watched(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            rates.append(self.param_groups[0]["lr"])
            return step(self, *args, **kwargs)

        monkeypatch.setattr(torch.optim.AdamW, "step", watched)
        network, x = torch.nn.Linear(1, 2), torch.ones(5, 1)
        train_classifier(
            network,
            lambda i: network(x[torch.from_numpy(i)]),
            np.array([0, 0, 1, 1, 1]),
            lambda: 0.5,
            epochs=2,
            batch_size=2,
            learning_rate=1.0,
            weight_decay=0,
        )
        # Five prompts in batches of two are three steps an epoch, the last of one prompt.
        np.testing.assert_allclose(rates, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])

    def test_best_epoch(self) -> None:
        import torch

        network, x = torch.nn.Linear(1, 2), torch.ones(4, 1)
        scores, states = iter([0.2, 0.7, 0.7, 0.1]), []

        def score() -> float:
            assert not network.training
            states.append(network.weight.detach().clone())
            return next(scores)

        best = train_classifier(
            network,
            lambda i: network(x[torch.from_numpy(i)]),
            np.array([0, 1, 1, 1]),
            score,
            epochs=4,
            batch_size=2,
            learning_rate=0.1,
            weight_decay=0,
        )
        assert best == 2
        torch.testing.assert_close(network.weight.detach(), states[1])
        assert not torch.equal(states[1], states[2])

    def test_nan_loss(self) -> None:
        import torch

        network = torch.nn.Linear(1, 2)
        with pytest.raises(UserError, match="loss is nan in epoch 1; lower learning_rate"):
            train_classifier(
                network,
                lambda i: network(torch.full((2, 1), torch.nan)),
                np.array([0, 1]),
                lambda: 1.0,
                epochs=1,
                batch_size=2,
                learning_rate=1,
                weight_decay=0,
            )
