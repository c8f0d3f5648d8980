"""The real all-MiniLM-L6-v2, from the package of the extra `offline`."""

import json
import shutil
from pathlib import Path

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


def test_equals_library(minilm: SentenceEncoder, weights: Path) -> None:
    from sentence_transformers import SentenceTransformer

    rows = encode_all(minilm, TEXTS, 4, progress=False)
    assert rows.shape == (6, 384) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows, SentenceTransformer(str(weights), device="cpu").encode(TEXTS), atol=1e-5)
    assert rows[0] @ rows[1] > 0.5 > 0.2 > abs(rows[0] @ rows[2])  # it knows kittens from taxes


def test_rows_are_independent(minilm: SentenceEncoder) -> None:
    together = minilm.encode(TEXTS)
    for row, text in zip(together, TEXTS, strict=True):
        np.testing.assert_allclose(minilm.encode([text])[0], row, atol=1e-5)


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


def test_layers(minilm: SentenceEncoder, weights: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    layers = SentenceEncoder(model=ID, layers=True)
    rows = encode_all(layers, TEXTS, 4, progress=False)
    assert rows.shape == (6, 7 * 384) == (6, layers.description["dim"])
    last = rows[:, -384:]
    np.testing.assert_allclose(
        last / np.linalg.norm(last, axis=1, keepdims=True), minilm.encode(TEXTS), atol=1e-5
    )
    tokens = AutoTokenizer.from_pretrained(weights)(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(weights)(**tokens, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(rows[0], torch.cat([one[0].mean(0) for one in states]).numpy(), atol=1e-5)
    assert layers.fingerprint() != minilm.fingerprint()


def test_layers_need_bert(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "model")
    config = tmp_path / "model" / "1_Pooling" / "config.json"
    facts = json.loads(config.read_text())
    changed = {name: False for name in facts if name.startswith("pooling_mode")}
    config.write_text(json.dumps({**facts, **changed, "pooling_mode_cls_token": True}))
    with pytest.raises(UserError, match="its layers can't be read; set layers to false"):
        SentenceEncoder(model=str(tmp_path / "model"), layers=True).encode(["a cat"])
    assert SentenceEncoder(model=str(tmp_path / "model")).encode(["a cat"]).shape == (1, 384)
