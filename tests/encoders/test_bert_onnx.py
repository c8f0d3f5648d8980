"""The graph against transformers, on tiny random networks of each kind."""

from typing import Any

import numpy as np
import pytest

from promptroute.encoders.bert_onnx import INPUT, OPERATORS, OUTPUT, Shape, bert_model, quantise
from promptroute.encoders.onnx_folder import check_graph

IDS = [[2, 7, 9, 3], [2, 3], [2, *range(4, 40), 3]]


def tiny(kind: str) -> Any:
    """A random network, 32 wide, 2 layers, 2 heads, a vocabulary of 60."""
    import torch
    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

    facts = {
        "vocab_size": 60, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 50, "pad_token_id": 1,
    }  # fmt: skip
    config, network = (BertConfig, BertModel) if kind == "bert" else (RobertaConfig, RobertaModel)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = network(config(**facts), add_pooling_layer=False)
        for parameter in made.parameters():  # not the small values, zeros and ones that a network begins with
            torch.nn.init.normal_(parameter, std=0.3)
        return made.eval()


def run(model: bytes, ids: list[int]) -> np.ndarray:
    from onnxruntime import InferenceSession

    (states,) = InferenceSession(model).run([OUTPUT], {INPUT: np.array(ids)})
    return np.asarray(states)


def shape(kind: str = "bert", **changes: Any) -> Shape:
    first = 0 if kind == "bert" else 2
    return Shape(
        **{"layers": 2, "heads": 2, "eps": 1e-12, "first_place": first, "pooling": "mean", **changes}
    )


def weights_of(network: Any) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in network.state_dict().items()}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_equals_transformers(kind: str, pooling: Any) -> None:
    import torch

    network = tiny(kind)
    model = bert_model(weights_of(network), shape(kind, pooling=pooling), "float32")
    for ids in IDS:
        with torch.inference_mode():
            states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states
        pooled = [state[0].mean(0) if pooling == "mean" else state[0, 0] for state in states]
        np.testing.assert_allclose(run(model, ids), torch.stack(pooled).numpy(), atol=2e-5)


def test_int8_is_near() -> None:
    weights = weights_of(tiny("bert"))
    exact, whole = (bert_model(weights, shape(), precision) for precision in ("float32", "int8"))  # type: ignore[arg-type]
    assert len(whole) < len(exact) / 2
    for ids in IDS:
        expected = run(exact, ids)
        assert 0 < np.linalg.norm(run(whole, ids) - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_standard_and_valid(precision: Any) -> None:
    import onnx

    model = bert_model(weights_of(tiny("bert")), shape(), precision)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    graph = onnx.load_from_string(model).graph
    assert {node.op_type for node in graph.node} <= OPERATORS and {node.domain for node in graph.node} == {""}
    check_graph(model)
    assert bert_model(weights_of(tiny("bert")), shape(), precision) == model, "the same bytes each time"


def test_every_operator_is_used() -> None:
    import onnx

    used = {
        node.op_type
        for precision in ("float32", "int8")
        for pooling in ("mean", "cls")
        for node in onnx.load_from_string(
            bert_model(weights_of(tiny("bert")), shape(pooling=pooling), precision)  # type: ignore[arg-type]
        ).graph.node
    }
    assert used == OPERATORS, "nothing is allowed that isn't needed"


def test_quantise_by_hand() -> None:
    whole, scale = quantise(np.array([[1.0, -2.0], [0.0, 0.0], [0.3, 0.1]], np.float32), axis=1, top=4)
    assert whole.tolist() == [[2, -4], [0, 0], [4, 1]] and whole.dtype == np.int8
    np.testing.assert_allclose(scale[:, 0], [0.5, 1.0, 0.075], rtol=1e-6)


def test_missing_weight() -> None:
    weights = weights_of(tiny("bert"))
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(KeyError, match=r"layer\.1\.output\.dense\.bias"):
        bert_model(weights, shape(), "int8")
