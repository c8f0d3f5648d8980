"""The tiny and the token autoencoder."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mini import train_tiny, train_vae, train_vq
from tests.mini.helpers import falls, short


@pytest.mark.slow
def test_tiny_and_vq_learn(vae: Any, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    assert falls(train_tiny.train(images, vae, short(60), "cpu")[1])
    monkeypatch.setattr(train_vq, "CODES", 16)
    monkeypatch.setattr(train_vq, "new_vq", lambda make=train_vq.new_vq: make(16))
    model, losses = train_vq.train(images, vae, short(40), "cpu")
    assert falls(losses)
    assert model.quantize.embedding.weight.shape == (16, train_vae.LATENTS)
