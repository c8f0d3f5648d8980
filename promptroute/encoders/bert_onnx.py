"""Write a BERT as an ONNX graph of standard operators: one text in, the mean over its tokens of each layer's states out.

A graph sees one text at a time, at its own length. So nothing is padded or masked, and a text's vector can't depend on
what else is encoded: its bits are the same alone and in any batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

OPSET, IR = 20, 10  # opset 20 brings Gelu; onnxruntime reads both since 1.18
INPUT, OUTPUT = "ids", "states"
Precision = Literal["int8", "float32"]
OPERATORS = frozenset(
    {"Add", "Cast", "Concat", "DynamicQuantizeLinear", "Gather", "Gelu", "LayerNormalization", "MatMul", "MatMulInteger",
     "Mul", "ReduceMean", "Reshape", "Shape", "Slice", "Softmax", "Transpose"}
)  # fmt: skip
"""All that a graph of ours is made of."""
VERSION = 1
"""Raised by whoever changes what a graph computes."""
TOP = 63
"""Largest quantised weight: 7 bits, so that CPUs which add pairs of products in 16 bits don't saturate, and every CPU
gets the same integers."""


@dataclass(frozen=True)
class Shape:
    """What a BERT's configuration says of its arithmetic.

    Attributes:
        layers, heads, eps: of the network.
        first_place: position of the first token: 0 for BERT, padding's id + 1 for RoBERTa.
        pooling: "mean" over tokens, or "cls", the first token.
    """

    layers: int
    heads: int
    eps: float
    first_place: int
    pooling: Literal["mean", "cls"]


@dataclass
class _Graph:
    """Collects nodes and constants; each method adds an operation and returns its result's name."""

    precision: Precision
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, value: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def many(self, operator: str, inputs: "list[str]", outputs: int, **attributes: Any) -> list[str]:
        from onnx import helper

        names = [f"n{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def __call__(self, operator: str, *inputs: "str | np.ndarray", **attributes: Any) -> str:
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        return self.many(operator, names, 1, **attributes)[0]

    def rows(self, table: np.ndarray, at: str) -> str:
        """Look up rows of a table [v, d]; as int8 each row has a scale of its own."""
        if self.precision == "float32":
            return self("Gather", table, at)
        whole, scale = quantise(table, axis=1, top=127)
        return self("Mul", self("Cast", self("Gather", whole, at), to=1), self("Gather", scale, at))

    def matrix(self, x: str) -> list[str]:
        """Prepare [n, d] for `linear`: as it is, or as integers from 0 to 255 with scale and zero of this text."""
        return [x] if self.precision == "float32" else self.many("DynamicQuantizeLinear", [x], 3)

    def linear(self, x: list[str], weight: np.ndarray, bias: np.ndarray) -> str:
        """Return x · weightᵀ + bias, weight [out, in]."""
        if self.precision == "float32":
            return self("Add", self("MatMul", x[0], weight.T), bias)
        whole, scale = quantise(weight, axis=1, top=TOP)
        sums = self("MatMulInteger", x[0], whole.T, x[2])
        return self("Add", self("Mul", self("Cast", sums, to=1), self("Mul", x[1], scale[:, 0])), bias)


def quantise(values: np.ndarray, axis: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return integers int8 from -top to top, and float32 scales along `axis`, with values ≈ integers · scales."""
    scale = np.abs(values).max(axis=axis, keepdims=True).astype(np.float32) / np.float32(top)
    scale = np.where(scale > 0, scale, np.float32(1))
    return np.rint(values / scale).astype(np.int8), scale


@dataclass
class _Bert(_Graph):
    """Writes a BERT's parts; names are those of its weights, x is float32 [n, d]."""

    weights: Mapping[str, np.ndarray] = field(kw_only=True)
    shape: Shape = field(kw_only=True)

    def pair(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return weight and bias."""
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def norm(self, x: str, name: str) -> str:
        """Normalise each token's state."""
        return self("LayerNormalization", x, *self.pair(name), axis=-1, epsilon=self.shape.eps)

    def pooled(self, x: str) -> str:
        """Reduce [n, d] to [1, d]."""
        if self.shape.pooling == "cls":
            return self("Slice", x, np.array([0]), np.array([1]))
        return self("ReduceMean", x, np.array([0]), keepdims=1)

    def embedded(self) -> str:
        """Return the embeddings' layer: words, places and the one type of token there is."""
        words = self.weights["embeddings.word_embeddings.weight"]
        places = self.weights["embeddings.position_embeddings.weight"][self.shape.first_place :]
        places = places + self.weights["embeddings.token_type_embeddings.weight"][0]
        many = self("Shape", INPUT)
        here = self("Slice", places, np.array([0]), many)
        return self.norm(self("Add", self.rows(words, INPUT), here), "embeddings.LayerNorm")

    def layer(self, x: str, at: str, width: int) -> str:
        """Return the next layer's states: attention of all tokens to all, then two matrices."""
        each = width // self.shape.heads
        three = [self.pair(f"{at}attention.self.{part}") for part in ("query", "key", "value")]
        # The query is scaled here rather than at each text.
        three[0] = tuple(part / np.float32(np.sqrt(each)) for part in three[0])  # type: ignore[assignment]
        joined = self.linear(
            self.matrix(x), np.concatenate([w for w, _ in three]), np.concatenate([b for _, b in three])
        )
        split = self("Reshape", joined, np.array([0, 3, self.shape.heads, each]))
        heads = self("Transpose", split, perm=[1, 2, 0, 3])  # [3, heads, n, d / heads]
        q, k, v = (self("Gather", heads, np.array(part), axis=0) for part in range(3))
        seen = self("Softmax", self("MatMul", q, self("Transpose", k, perm=[0, 2, 1])), axis=-1)
        mixed = self("Transpose", self("MatMul", seen, v), perm=[1, 0, 2])
        flat = self("Reshape", mixed, np.array([0, width]))
        out = self.linear(self.matrix(flat), *self.pair(f"{at}attention.output.dense"))
        x = self.norm(self("Add", x, out), f"{at}attention.output.LayerNorm")
        inner = self("Gelu", self.linear(self.matrix(x), *self.pair(f"{at}intermediate.dense")))
        out = self.linear(self.matrix(inner), *self.pair(f"{at}output.dense"))
        return self.norm(self("Add", x, out), f"{at}output.LayerNorm")


def bert_model(weights: Mapping[str, np.ndarray], shape: Shape, precision: Precision) -> bytes:
    """Return an ONNX file: int64 ids [n] of one text → float32 [layers + 1, d], the embeddings' layer first.

    Args:
        weights: as transformers names them in a `BertModel`, float32.
        shape: the rest of the configuration.
        precision: of matrices; "int8" quantises them by output and what they multiply by text.

    Raises:
        KeyError, ValueError: a weight is missing or of another shape.
    """
    from onnx import TensorProto, helper

    graph = _Bert(precision, weights=weights, shape=shape)
    x = graph.embedded()
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    layers = [graph.pooled(x)]
    for number in range(shape.layers):
        x = graph.layer(x, f"encoder.layer.{number}.", width)
        layers.append(graph.pooled(x))
    graph.nodes.append(helper.make_node("Concat", layers, [OUTPUT], axis=0))
    made = helper.make_graph(
        graph.nodes,
        "bert",
        [helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["tokens"])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [shape.layers + 1, width])],
        graph.constants,
    )
    model = helper.make_model(
        made, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="promptroute"
    )
    return bytes(model.SerializeToString(deterministic=True))
