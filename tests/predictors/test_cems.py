"""The classifier of CEMS: its arithmetic by hand, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.cems import Cems
from promptroute.predictors.cems_frozen import CemsFrozen
from promptroute.predictors.classifier import (
    Schedule,
    class_weights,
    decay_groups,
    linear_decay,
    macro_f1,
    make_head,
    train_classifier,
)
from promptroute.predictors.folder import load_predictor, save_predictor


def test_class_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])  # shares 3/4, 1/4, 0
    np.testing.assert_allclose(class_weights(labels, 3), [1 / 16, 9 / 16, 1])


def test_linear_decay_by_hand() -> None:
    assert [linear_decay(step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, chosen = np.array(pairs).T
    expected = f1_score(true, chosen, labels=range(4), average="macro", zero_division=0)
    assert macro_f1(true, chosen, 4) == pytest.approx(expected)


def test_the_head_by_hand() -> None:
    import torch

    head = make_head(2, 3).eval()
    assert [type(layer).__name__ for layer in head] == ["Dropout", "Linear", "QuickGelu", "Dropout", "Linear"]
    assert head[0].p == head[3].p == 0.1 and head[1].out_features == 2
    x = torch.tensor([[0.5, -2.0]])
    hidden = x @ head[1].weight.T + head[1].bias
    expected = hidden / (1 + torch.exp(-1.702 * hidden)) @ head[4].weight.T + head[4].bias
    torch.testing.assert_close(head(x), expected)


def test_no_weight_decay_on_biases_and_layer_norms(tiny_clip: Path) -> None:
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


def test_one_step_equals_one_written_out() -> None:
    """AdamW's first step on one weighted cross-entropy, from its definition (Loshchilov & Hutter 2019)."""
    import torch

    network = torch.nn.Linear(2, 2)
    weight, bias = network.weight.detach().clone(), network.bias.detach().clone()
    x, labels = torch.tensor([[0.1, -0.2], [0.3, 0.1], [0.2, 0.2]]), np.array([0, 0, 1])
    train_classifier(
        network,
        lambda i: network(x[torch.from_numpy(i)]),
        labels,
        2,
        Schedule(1, 3, 0.01, 0.1, 0),
        lambda: 1.0,
        "t",
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


def test_the_learning_rate_falls_to_zero_over_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
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
        2,
        Schedule(2, 2, 1.0, 0, 0),
        lambda: 0.5,
        "t",
    )
    # Five prompts in batches of two are three steps an epoch, the last of one prompt.
    np.testing.assert_allclose(rates, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_the_best_epoch_is_kept_the_earlier_of_equals() -> None:
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
        2,
        Schedule(4, 2, 0.1, 0, 0),
        score,
        "t",
    )
    assert best == 2
    torch.testing.assert_close(network.weight.detach(), states[1])
    assert not torch.equal(states[1], states[2])


def test_a_loss_that_is_not_finite_is_reported() -> None:
    import torch

    network = torch.nn.Linear(1, 2)
    with pytest.raises(UserError, match="loss is nan in epoch 1; lower learning_rate"):
        train_classifier(
            network,
            lambda i: network(torch.full((2, 1), torch.nan)),
            np.array([0, 1]),
            2,
            Schedule(1, 2, 1, 0, 0),
            lambda: 1.0,
            "t",
        )


def toy(n: int, seed: int) -> tuple[PromptBatch, np.ndarray]:
    """Prompts that start with the word that says which of two models is better."""
    random = np.random.default_rng(seed)
    best = random.integers(0, 2, n)
    texts = [f"{('red', 'zoo')[b]} {' '.join(random.choice(['cat', 'dog', 'sun'], 3))}" for b in best]
    return PromptBatch(texts), np.eye(2)[best]


def test_cems_learns_and_loads_back_bit_equal(tiny_clip: Path, tmp_path: Path) -> None:
    train, validation, (test, quality) = toy(160, 0), toy(40, 1), toy(60, 2)
    predictor = Cems(str(tiny_clip), epochs=6, batch_size=16, learning_rate=3e-3).fit(*train, validation)
    predicted = predictor.predict(test)
    assert (predicted.argmax(1) == quality.argmax(1)).mean() > 0.95
    save_predictor(predictor, tmp_path / "saved")
    np.testing.assert_array_equal(load_predictor(tmp_path / "saved").predict(test), predicted)


def test_cems_fine_tunes_the_encoder_whole(tiny_clip: Path) -> None:
    from transformers import CLIPTextModel

    predictor = Cems(str(tiny_clip), epochs=1, learning_rate=1e-3).fit(*toy(64, 0), toy(32, 1))
    before = dict(CLIPTextModel.from_pretrained(tiny_clip).named_parameters())
    after = dict(predictor._network["encoder"].named_parameters())
    assert before.keys() == after.keys()
    # Positions beyond the longest prompt see no gradient, but AdamW decays them too: every tensor moves.
    assert all((before[name] != after[name]).any() for name in before)


def test_cems_has_the_papers_settings() -> None:
    paper = Cems()
    assert paper.encoder == "openai/clip-vit-base-patch16"
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.weight_decay) == (10, 32, 6.4e-6, 0.1)
    assert (paper.max_length, paper.device, paper.dtype) == (77, "cpu", "float32")


def test_cems_cuts_long_prompts_and_ignores_padding(tiny_clip: Path) -> None:
    predictor = Cems(str(tiny_clip), epochs=1, learning_rate=1e-3).fit(*toy(32, 0), toy(16, 1))
    long = "red " * 76
    alone = predictor.predict(PromptBatch([long]))
    np.testing.assert_array_equal(predictor.predict(PromptBatch([long + "zoo zoo zoo"])), alone)
    short = predictor.predict(PromptBatch(["zoo"]))
    np.testing.assert_allclose(
        predictor.predict(PromptBatch(["zoo", long])), np.vstack([short, alone]), atol=1e-6
    )


def test_cems_in_mixed_precision_agrees_with_float32(tiny_clip: Path) -> None:
    whole = Cems(str(tiny_clip), epochs=1, learning_rate=1e-3).fit(*toy(32, 0), toy(16, 1))
    predicted = whole.predict(toy(8, 2)[0])
    whole.dtype = "bfloat16"
    mixed = whole.predict(toy(8, 2)[0])
    np.testing.assert_allclose(mixed, predicted, atol=0.02)
    assert (mixed != predicted).any()


def test_cems_leaves_the_random_state_alone(tiny_clip: Path) -> None:
    import torch

    torch.manual_seed(5)
    state = torch.get_rng_state()
    Cems(str(tiny_clip), epochs=1).fit(*toy(32, 0), toy(16, 1))
    assert torch.equal(torch.get_rng_state(), state)


def test_cems_frozen_learns_from_embeddings() -> None:
    random = np.random.default_rng(0)

    def data(n: int) -> tuple[PromptBatch, np.ndarray]:
        vectors = random.normal(size=(n, 8)).astype(np.float32)
        best = (vectors[:, :3].argmax(1) + 1) % 3
        return PromptBatch([f"p{i}" for i in range(n)], {"e": vectors}), np.eye(3)[best]

    train, validation, (test, quality) = data(600), data(200), data(300)
    predicted = CemsFrozen(epochs=30, learning_rate=1e-2).fit(*train, validation).predict(test)
    assert (predicted.argmax(1) == quality.argmax(1)).mean() > 0.9


def test_bad_settings(tmp_path: Path) -> None:
    for options, message in [
        ({"dtype": "float16"}, "expected one of float32, bfloat16"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"max_length": 2}, "max_length is 2"),
    ]:
        with pytest.raises(UserError, match=message):
            Cems(**options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"absent can't be loaded.*predictor=cems-frozen"):
        Cems(str(tmp_path / "absent")).fit(*toy(8, 0), toy(8, 1))


def test_an_encoder_without_its_tokenizers_files_is_refused(tiny_clip: Path, tmp_path: Path) -> None:
    """Such a tokenizer loads without complaint, and makes the same token of every word."""
    import shutil

    shutil.copytree(tiny_clip, tmp_path / "clip", ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(UserError, match=r"its tokenizer has 2 tokens, the model 80.*predictor\.encoder"):
        Cems(str(tmp_path / "clip")).fit(*toy(8, 0), toy(8, 1))


def test_missing_weights_are_refused_not_made_up(tiny_clip: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_clip, tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    lost = next(name for name in weights if "final_layer_norm.weight" in name)
    save_file(
        {k: v for k, v in weights.items() if k != lost},
        tmp_path / "clip" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match=r"the weights lack .*final_layer_norm"):
        Cems(str(tmp_path / "clip")).fit(*toy(8, 0), toy(8, 1))


def test_a_saved_encoder_that_is_gone_is_never_looked_for_on_the_hub(tiny_clip: Path, tmp_path: Path) -> None:
    import shutil

    save_predictor(Cems(str(tiny_clip), epochs=1).fit(*toy(16, 0), toy(8, 1)), tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "encoder")
    with pytest.raises(UserError, match=r"the folder encoder is missing.*train it again"):
        load_predictor(tmp_path / "saved")
