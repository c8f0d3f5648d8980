"""A sentence encoder in a folder of its own: an ONNX graph, its tokenizer, and what both mean.

Such a folder may come from a stranger, within a router. So the graph is read by a closed list before onnxruntime sees
it: the operators that our own graphs are made of, weights inside the file, no control flow, no function, no domain but
the standard one. What this can't tell: whether the vectors are any good, and how much memory and time they take.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptroute.core.errors import UserError, reason
from promptroute.core.parsing import first_fault
from promptroute.encoders.bert_onnx import INPUT, OPERATORS, OUTPUT
from promptroute.encoders.tokens import read_tokenizer, tokenize
from promptroute.io.files import atomic_path, sha256, write_json

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

FACTS, MODEL, TOKENIZER = "encoder.json", "model.onnx", "tokenizer.json"
NODES = 5000  # of a graph; 24 layers take about 900
FILES = (MODEL, TOKENIZER)


class Facts(BaseModel):
    """encoder.json.

    Attributes:
        format: of the folder.
        sha256: file → its SHA-256.
        layers, width: of the states, [layers, width] a text.
        max_length: tokens that the network can take.
        normalised: whether a sentence embedding has unit length.
        pooling, precision, weights_sha256: where the states come from; see `promptroute.encoders.bert_onnx`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal[1] = 1
    sha256: dict[str, str]
    layers: int = Field(gt=0, le=1000)
    width: int = Field(gt=0, le=100_000)
    max_length: int = Field(gt=2, le=1_000_000)
    normalised: bool
    pooling: Literal["mean", "cls"]
    precision: Literal["int8", "float32"]
    weights_sha256: str


@dataclass(frozen=True)
class OnnxFolder:
    """A folder whose files are whole.

    Attributes:
        path: where it lies.
        facts: what its encoder.json says.
    """

    path: Path
    facts: Facts

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote; the network itself is loaded by `load`.

        Raises:
            UserError: a file is absent, corrupt or changed.
        """
        try:
            facts = Facts.model_validate_json((path / FACTS).read_bytes())
            found = {name: sha256(path / name) for name in FILES}
        except ValidationError as error:
            raise UserError(
                f"{path / FACTS}: not a sentence encoder ({first_fault(error)}); make it again"
            ) from error
        except OSError as error:
            raise UserError(
                f"{path}: not a whole sentence encoder ({reason(error)}); make it again"
            ) from error
        if facts.sha256 != found:
            raise UserError(
                f"{path}: files changed since they were written together (SHA-256); make it again"
            )
        return cls(path, facts)

    @staticmethod
    def write(path: Path, model: bytes, tokenizer: str, **facts: Any) -> None:
        """Write a folder, whole or not at all; `facts` are those of `Facts` but for checksums."""
        with atomic_path(path) as temporary:
            temporary.mkdir(parents=True)
            (temporary / MODEL).write_bytes(model)
            (temporary / TOKENIZER).write_text(tokenizer, encoding="utf-8")
            sums = {name: sha256(temporary / name) for name in FILES}
            write_json(temporary / FACTS, Facts(sha256=sums, **facts).model_dump())

    def load(self, max_length: int) -> "Network":
        """Load the network, and try it on one text.

        Args:
            max_length: tokens that a text is cut to.

        Raises:
            UserError: it is no network of this kind.
        """
        try:
            tokenizer = read_tokenizer((self.path / TOKENIZER).read_text(encoding="utf-8"))
            tokenizer.enable_truncation(max_length)
            network = Network(_session(self.path / MODEL), tokenizer, self.facts)
            network.states(["a red car"])
        except Exception as error:  # neither library raises anything narrower
            raise UserError(
                f"{self.path}: not a sentence encoder that can be run ({reason(error)}); make it again"
            ) from error
        return network


@dataclass(frozen=True)
class Network:
    """A loaded network. Several threads may use it at once."""

    session: "InferenceSession"
    tokenizer: "Tokenizer"
    facts: Facts

    def states(self, texts: Sequence[str], threads: int = 1) -> np.ndarray:
        """Return each layer's pooled state of n texts, float32 [n, layers, width]; each text by itself.

        Raises:
            ValueError: the network doesn't take the tokenizer's tokens, or gives something else than it says.
        """
        return self.of_ids([one.ids for one in tokenize(self.tokenizer, texts)], threads)

    def of_ids(self, ids: Sequence[Sequence[int]], threads: int = 1) -> np.ndarray:
        """Return `states` of texts given as token ids, special tokens included."""
        if threads == 1 or len(ids) == 1:
            found = list(map(self._one, ids))
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(self._one, ids))
        return np.stack(found) if found else np.empty((0, self.facts.layers, self.facts.width), np.float32)

    def _one(self, ids: Sequence[int]) -> np.ndarray:
        try:
            (states,) = self.session.run([OUTPUT], {INPUT: np.array(ids, np.int64)})
        except Exception as error:  # onnxruntime's errors have no narrower base
            raise ValueError(f"the network fails on {len(ids)} tokens: {reason(error)}") from error
        if states.shape != (self.facts.layers, self.facts.width) or states.dtype != np.float32:
            raise ValueError(
                f"the network gives {states.dtype} {states.shape}, not float32 "
                f"({self.facts.layers}, {self.facts.width})"
            )
        return states


def _session(path: Path) -> "InferenceSession":
    """Open a checked ONNX file on one thread.

    Raises:
        ValueError: see `check_graph`. Otherwise what onnxruntime raises.
    """
    from onnxruntime import InferenceSession, SessionOptions

    model = path.read_bytes()
    check_graph(model)
    options = SessionOptions()
    # A text is many small operations: threads would wait for each other. Texts may go on threads of their own.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # faults are raised; nothing is to be printed too
    return InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


Schema = Mapping[int, Any]
_TENSOR: Schema = dict.fromkeys((1, 2, 8, 9))  # dims, type, name, values; no data in other files
_ATTRIBUTE: Schema = dict.fromkeys((1, 2, 3, 8, 20))  # name, float, int, ints, type; no graph, so no loops
_NODE: Schema = {1: None, 2: None, 4: OPERATORS, 5: _ATTRIBUTE}  # inputs, outputs, operator; no domain
_GRAPH: Schema = {1: _NODE, 2: None, 5: _TENSOR, 11: None, 12: None}  # nodes, name, weights, inputs, outputs
_MODEL: Schema = {
    1: None,
    2: None,
    7: _GRAPH,
    8: {1: frozenset({""}), 2: None},
}  # versions, producer; no functions


def check_graph(model: bytes) -> None:
    """Refuse an ONNX file that holds anything but our own operators and their weights.

    It is read as protocol buffers (onnx.proto of ONNX 1.17), field by field: what is not listed is refused, whether
    onnxruntime would use it or not.

    Raises:
        ValueError: says what is foreign.
    """
    _check(memoryview(model), _MODEL, "model")


def _check(data: memoryview, schema: Schema, where: str) -> None:
    nodes = 0
    for number, value in _fields(data):
        nodes += schema is _GRAPH and number == 1
        if nodes > NODES:
            raise ValueError(f"the ONNX file has more than {NODES} operations")
        if number not in schema:
            raise ValueError(f"the ONNX file's {where} has field {number}, which no encoder of ours has")
        inner = schema[number]
        if inner is None:
            continue
        if not isinstance(value, memoryview):
            raise ValueError(f"the ONNX file's {where} has a number as field {number}")
        if isinstance(inner, Mapping):
            _check(value, inner, f"{where}.{number}")
        elif (name := bytes(value[:100]).decode("utf-8", "replace")) not in inner:
            raise ValueError(f"the ONNX file names {name!r}, which no encoder of ours does")


def _fields(data: memoryview) -> "Iterator[tuple[int, int | memoryview]]":
    """Give the fields of a protocol buffer message: number, and bytes or an integer of no interest."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = (
            (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(data, at) if kind == 2 else (-1, at)
        )
        if not 0 <= size <= len(data) - at:
            raise ValueError("the ONNX file is cut short or no ONNX file")
        yield number, data[at : at + size] if kind == 2 else 0
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("the ONNX file is cut short or no ONNX file")
