"""The folder of a graph: what is corrupt or hostile is refused in a sentence, before onnxruntime sees it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.encoders.bert_onnx import bert_model
from promptroute.encoders.onnx_folder import FACTS, MODEL, TOKENIZER, OnnxFolder, check_graph
from promptroute.io.files import sha256
from tests.encoders.test_bert_onnx import shape, tiny, weights_of

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "car", "a", "##s"]


def tokenizer_json() -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return str(made.to_str())


@pytest.fixture(scope="session")
def tiny_model() -> bytes:
    return bert_model(weights_of(tiny("bert")), shape(), "int8")


@pytest.fixture
def folder(tmp_path: Path, tiny_model: bytes) -> Path:
    made = tmp_path / "encoder"
    OnnxFolder.write(
        made, tiny_model, tokenizer_json(), layers=3, width=32, max_length=50, normalised=True, pooling="mean",
        precision="int8", weights_sha256="0" * 64,
    )  # fmt: skip
    return made


def put(folder: Path, name: str, content: bytes, **facts: Any) -> None:
    """Put a file into the folder with the right checksum, as a stranger would."""
    (folder / name).write_bytes(content)
    said = json.loads((folder / FACTS).read_text())
    said["sha256"][name] = sha256(folder / name)
    (folder / FACTS).write_text(json.dumps({**said, **facts}))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        OnnxFolder.read(folder).load(50)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and len(message) < 600
    return message


class TestUse:
    def test_each_text_alone(self, folder: Path) -> None:
        network = OnnxFolder.read(folder).load(50)
        texts = ["red car", "a", "", "red " * 30, "cars red a red", "a"]
        together, threaded = network.states(texts), network.states(texts, threads=3)
        assert together.shape == (6, 3, 32) and together.dtype == np.float32
        np.testing.assert_array_equal(threaded, together)
        for text, states in zip(texts, together, strict=True):
            np.testing.assert_array_equal(network.states([text])[0], states)
        assert network.states([]).shape == (0, 3, 32)

    def test_max_length(self, folder: Path) -> None:
        network = OnnxFolder.read(folder).load(4)
        same, other = network.states(["red car a", "red car red"])
        np.testing.assert_array_equal(same, other)


class TestCorrupt:
    @pytest.mark.parametrize("name", [FACTS, MODEL, TOKENIZER])
    def test_missing(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        assert "make it again" in refusal(folder)

    @pytest.mark.parametrize("name", [MODEL, TOKENIZER])
    def test_changed(self, folder: Path, name: str) -> None:
        with open(folder / name, "ab") as file:
            file.write(b"\0")
        assert "files changed since they were written together (SHA-256)" in refusal(folder)

    @pytest.mark.parametrize(
        ("facts", "place"),
        [
            ({"format": 2}, "format"),
            ({"width": 0}, "width"),
            ({"layers": "3"}, "layers"),
            ({"max_length": -1}, "max_length"),
            ({"pooling": "max"}, "pooling"),
            ({"code": "print()"}, "code"),
        ],
    )
    def test_facts(self, folder: Path, facts: dict[str, Any], place: str) -> None:
        put(folder, MODEL, (folder / MODEL).read_bytes(), **facts)
        assert f"not a sentence encoder ({place}" in refusal(folder)

    def test_facts_and_graph_differ(self, folder: Path) -> None:
        put(folder, MODEL, (folder / MODEL).read_bytes(), width=16)
        assert "the network gives float32 (3, 32), not float32 (3, 16)" in refusal(folder)

    def test_tokens_beyond_vocabulary(self, folder: Path) -> None:
        words = json.loads(tokenizer_json())
        words["model"]["vocab"]["red"] = 10_000
        put(folder, TOKENIZER, json.dumps(words).encode())
        assert "the network fails on" in refusal(folder)

    def test_not_a_tokenizer(self, folder: Path) -> None:
        put(folder, TOKENIZER, b"{}")
        assert "not a sentence encoder that can be run" in refusal(folder)


def node(**changes: Any) -> Any:
    """A model of one node, x + w, with changes that a stranger may make."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    made = helper.make_graph(
        [helper.make_node(changes.pop("op", "Add"), ["ids", "w"], ["states"], **changes)],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, [4])],
        [weight],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])


def outside(path: str) -> Any:
    """A model whose weights lie in another file."""
    model = node()
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = 1
    for key, value in (("location", path), ("offset", "0"), ("length", "16")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return model


def loop() -> Any:
    model = node()
    body = node().graph
    from onnx import helper

    model.graph.node.append(helper.make_node("If", ["ids"], ["z"], then_branch=body, else_branch=body))
    return model


def function() -> Any:
    from onnx import helper

    model = node()
    own = helper.make_function(
        "own", "Own", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 20)]
    )
    model.functions.append(own)
    return model


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "outside, above": (lambda: outside("../secret"), "which no encoder of ours has"),
    "outside, absolute": (lambda: outside("/etc/passwd"), "which no encoder of ours has"),
    "outside, beside": (lambda: outside("tokenizer.json"), "which no encoder of ours has"),
    "control flow": (loop, "names 'If'"),
    "function": (function, "has field 25"),
    "custom domain": (lambda: node(domain="com.microsoft"), "has field 7"),
    "other operator": (lambda: node(op="Mod"), "names 'Mod'"),
    "tensor in an attribute": (
        lambda: node(value=__import__("onnx").numpy_helper.from_array(np.zeros(1, np.float32))),
        "has field 5",
    ),
}  # fmt: skip


class TestHostile:
    @pytest.mark.parametrize("what", HOSTILE)
    def test_refused(self, folder: Path, what: str) -> None:
        make, message = HOSTILE[what]
        put(folder, MODEL, make().SerializeToString())
        assert message in refusal(folder)

    @pytest.mark.parametrize(
        "content", [b"", b"\0" * 100, b"PK\x03\x04", b"\x08\x0a", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", bytes(range(256)) * 4]
    )  # fmt: skip
    def test_no_model(self, folder: Path, content: bytes) -> None:
        put(folder, MODEL, content)
        refusal(folder)

    def test_wrong_types(self, folder: Path) -> None:
        """Weights of another type or shape: onnxruntime's refusal, in one line."""
        import onnx

        model = onnx.load_from_string((folder / MODEL).read_bytes())
        for weight in model.graph.initializer:
            if len(weight.dims) == 2:
                weight.dims[0] += 1
        put(folder, MODEL, model.SerializeToString())
        assert "not a sentence encoder that can be run" in refusal(folder)

    def test_prints_nothing(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Names that are no UTF-8: onnxruntime's own binding trips over them."""
        model = (folder / MODEL).read_bytes()
        put(folder, MODEL, model.replace(b"n5_0", b"\xff5_0", 1))
        refusal(folder)
        assert capfd.readouterr() == ("", "")


@given(st.data())
def test_changed_bytes(tiny_model: bytes, data: st.DataObject) -> None:
    """Whatever bytes come, the check ends in a sentence or finds nothing."""
    changed = bytearray(tiny_model)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(changed)))
    for model in (bytes(changed), bytes(changed[:end])):
        try:
            check_graph(model)
        except ValueError as error:
            assert "ONNX file" in str(error)


def test_copy_is_whole(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert OnnxFolder.read(tmp_path / "copy").facts == OnnxFolder.read(folder).facts
