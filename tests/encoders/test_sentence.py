"""The real all-MiniLM-L6-v2, from the package of the extra `offline`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.encoders.base import encode_all
from promptroute.encoders.sentence import PACKAGES, SentenceEncoder

ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = PACKAGES[ID]
TEXTS = [
    "a cat on a mat",
    "a kitten on a rug",
    "quarterly tax report",
    "a cat on a mat, " * 40,
    "",
    "Ünïcödé 猫",
]


@pytest.fixture(scope="module")
def weights() -> Path:
    package = pytest.importorskip(PACKAGE, reason=f"{PACKAGE} (extra `offline`) is not installed")
    return Path(package.get_model_path())


@pytest.fixture(scope="module")
def minilm(weights: Path) -> SentenceEncoder:
    return SentenceEncoder(model=ID)


@pytest.fixture(scope="module")
def exact() -> SentenceEncoder:
    return SentenceEncoder(model=ID, precision="float32")


def test_equals_library(exact: SentenceEncoder, weights: Path) -> None:
    pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers (extra `dev`) is not installed"
    )
    from sentence_transformers import SentenceTransformer

    rows = encode_all(exact, TEXTS, 4, progress=False)
    assert rows.shape == (6, 384) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows, SentenceTransformer(str(weights), device="cpu").encode(TEXTS), atol=1e-5)
    assert rows[0] @ rows[1] > 0.5 > 0.2 > abs(rows[0] @ rows[2])  # it knows kittens from taxes


def test_int8_is_near(minilm: SentenceEncoder, exact: SentenceEncoder) -> None:
    cosines = (minilm.encode(TEXTS) * exact.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.97 and cosines.max() < 1 - 1e-6
    assert minilm.fingerprint() != exact.fingerprint()


@pytest.mark.parametrize("layers", [False, True])
def test_same_bits_in_any_batch(weights: Path, layers: bool) -> None:
    encoder = SentenceEncoder(model=ID, layers=layers)
    alone = [encoder.encode([text])[0] for text in TEXTS]
    for texts in (TEXTS, TEXTS[::-1], [*TEXTS[:2], "something else", *TEXTS[2:]]):
        for row, text in zip(encoder.encode(texts), texts, strict=True):
            if text in TEXTS:
                np.testing.assert_array_equal(row, alone[TEXTS.index(text)])
    threads = SentenceEncoder(model=ID, layers=layers, threads=3)
    np.testing.assert_array_equal(encode_all(threads, TEXTS, 2, progress=False), alone)
    assert threads.fingerprint() == encoder.fingerprint()


def test_truncated(minilm: SentenceEncoder) -> None:
    assert minilm.truncated(["word " * 300, "word", ""]) == [300 + 2 - 256, 0, 0]
    assert SentenceEncoder(model=ID, max_length=6).truncated(["red green blue grey white"]) == [1]


class TestFolder:
    def test_round_trip(self, minilm: SentenceEncoder, tmp_path: Path) -> None:
        minilm.save(tmp_path / "kept")
        assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
            "encoder.json", "model.onnx", "tokenizer.json"
        ]  # fmt: skip
        other = SentenceEncoder(model="somebody/else", folder=str(tmp_path / "kept"))
        assert other.fingerprint() == minilm.fingerprint()
        np.testing.assert_array_equal(other.encode(TEXTS), minilm.encode(TEXTS))

    def test_by_checksum(self, weights: Path, tmp_path: Path) -> None:
        SentenceEncoder(model=ID, packed=False).save(tmp_path / "kept")
        assert not (tmp_path / "kept").exists()

    def test_loads_no_torch(self, weights: Path, tmp_path: Path) -> None:
        SentenceEncoder(model=ID).save(tmp_path / "kept")
        code = (
            "import sys; from promptroute.encoders.sentence import SentenceEncoder\n"
            f"rows = SentenceEncoder(model='x', folder={str(tmp_path / 'kept')!r}).encode(['red car'])\n"
            "heavy = 'torch transformers sentence_transformers onnx huggingface_hub scipy'.split()\n"
            "print(rows.shape, [m for m in heavy if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "(1, 384) []"


def test_fingerprint_of_weights(minilm: SentenceEncoder, weights: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(weights, tmp_path / "copy")
    copy = SentenceEncoder(model=str(tmp_path / "copy"))
    assert copy.place() != minilm.place()
    assert copy.fingerprint() == minilm.fingerprint()
    assert minilm.description["model"] == ID and minilm.description["dim"] == 384
    assert SentenceEncoder(model=ID, max_length=16).fingerprint() != minilm.fingerprint()

    tensors = load_file(tmp_path / "copy" / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][0] += 0.5
    save_file(tensors, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    other = SentenceEncoder(model=str(tmp_path / "copy"))
    assert other.fingerprint() != minilm.fingerprint()
    assert other.description["weights_sha256"] != minilm.description["weights_sha256"]


def test_max_length(weights: Path) -> None:
    short = SentenceEncoder(model=ID, max_length=6)  # start, four words, end
    same, other = short.encode(["red green blue grey white", "red green blue grey black"])
    np.testing.assert_allclose(same, other, atol=1e-6)


class TestPlace:
    def test_folder(self, weights: Path) -> None:
        assert SentenceEncoder(model=str(weights)).place() == str(weights)

    def test_package(self, weights: Path) -> None:
        assert SentenceEncoder(model=ID).place() == str(weights)

    def test_absent_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(PACKAGES, ID, "no_such_package")
        assert SentenceEncoder(model=ID).place() == ID

    def test_another_model(self) -> None:
        assert SentenceEncoder(model="somebody/else").place() == "somebody/else"

    def test_package_is_no_setting(self) -> None:
        """A router folder can't choose a module to import."""
        with pytest.raises(UserError, match="package is no setting of SentenceEncoder"):
            SentenceEncoder(model=ID, package="os")

    def test_absent_says_what_to_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        absent = str(tmp_path / "absent")
        with pytest.raises(UserError, match=r"absent can't be loaded.*check the network"):
            SentenceEncoder(model=absent).encode(["a"])
        monkeypatch.setitem(PACKAGES, absent, "no_such_package")
        with pytest.raises(UserError, match=r"install the package no_such_package .*offline"):
            SentenceEncoder(model=absent).encode(["a"])


def test_refuses_pickle_and_code(weights: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    pickled = tmp_path / "pickled"
    shutil.copytree(weights, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safetensors"):
        SentenceEncoder(model=str(pickled)).encode(["a"])

    foreign = tmp_path / "foreign"
    shutil.copytree(weights, foreign)
    (foreign / "own_code.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Module: pass\n"
    )
    modules = json.loads((foreign / "modules.json").read_text())
    modules[2]["type"] = "own_code.Module"
    (foreign / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match="can't be loaded"):
        SentenceEncoder(model=str(foreign)).encode(["a"])
    assert not (tmp_path / "ran").exists()


def test_layers(weights: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    layers = SentenceEncoder(model=ID, precision="float32", layers=True)
    rows = encode_all(layers, TEXTS, 4, progress=False)
    assert rows.shape == (6, 7 * 384) == (6, layers.description["dim"])
    assert layers.sentence_width == 384
    tokens = AutoTokenizer.from_pretrained(weights)(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(weights)(**tokens, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(rows[0], torch.cat([state[0].mean(0) for state in states]).numpy(), atol=1e-5)


def changed(weights: Path, folder: Path, file: str, **facts: Any) -> Path:
    """A copy of the model's folder that says something else of itself."""
    shutil.copytree(weights, folder)
    said = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**said, **facts} if isinstance(said, dict) else facts["modules"]))
    return folder


def test_pools_by_first_token(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers (extra `dev`) is not installed"
    )
    from sentence_transformers import SentenceTransformer

    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    folder = changed(weights, tmp_path / "cls", "1_Pooling/config.json", **modes)
    rows = SentenceEncoder(model=str(folder), precision="float32").encode(TEXTS)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(rows, expected, atol=1e-5)


MODULE = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}


@pytest.mark.parametrize(
    ("file", "facts", "message"),
    [
        ("config.json", {"model_type": "mpnet"}, "it is a mpnet, not a BERT or RoBERTa"),
        ("config.json", {"hidden_act": "relu"}, "it has relu, not gelu"),
        ("config.json", {"position_embedding_type": "relative_key"}, "its positions are relative_key"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, r"it pools by \['mean_tokens', 'max_tokens'\]"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "it pools by lasttoken"),
        ("modules.json", {"modules": [MODULE]}, "its modules are Transformer, not"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "lowers a text's case"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "words of its own"),
    ],
)  # fmt: skip
def test_refuses_other_kinds(weights: Path, tmp_path: Path, file: str, facts: Any, message: str) -> None:
    folder = changed(weights, tmp_path / "model", file, **facts)
    with pytest.raises(UserError, match=message):
        SentenceEncoder(model=str(folder)).encode(["a cat"])


def test_absent_onnx(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=r"the package onnx is needed.*pip install 'promptroute\[pipeline\]'"):
        SentenceEncoder(model=ID).encode(["a cat"])
