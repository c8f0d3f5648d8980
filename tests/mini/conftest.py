"""Images and briefly trained models that the tests of this folder share."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mini import train_clip, train_vae
from mini.inputs import TextInputs, embed_texts
from mini.scenes import render
from mini.tokens import train_tokenizer
from tests.mini.helpers import CAPTIONS, TEXTS, falls, short


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    return np.stack([render(caption.scene) for caption in CAPTIONS])


@pytest.fixture(scope="session")
def clip_folder(images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an untrained CLIP."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = train_tokenizer(TEXTS)
    train_clip.save(folder, train_clip.Learner(len(tokenizer)), tokenizer)
    return folder


@pytest.fixture(scope="session")
def texts(clip_folder: Path) -> TextInputs:
    return embed_texts(*train_clip.text_encoder(clip_folder), TEXTS, "cpu")


@pytest.fixture(scope="session")
def trained_vae(images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("vae"))
        model, losses = train_vae.train(images, short(40), "cpu")
    assert falls(losses)
    return model


@pytest.fixture
def vae(trained_vae: Any) -> Any:
    """Copy the autoencoder, for a pipeline converts it."""
    return copy.deepcopy(trained_vae)
