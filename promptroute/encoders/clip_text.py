"""CLIP's text side as a prompt encoder."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from promptroute.core.plain import Plain, Section
from promptroute.encoders.base import TextEncoder
from promptroute.encoders.weights import weights_sha256
from promptroute.runtime.clip_text import load_clip_text

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer


class ClipTextEncoder(TextEncoder):
    """The pooled output of a CLIP text model: the last layer's state, after the final layer norm, of the
    token that ends the text (Radford et al. 2021, arXiv 2103.00020, section 2.4); before the projection
    into the space that images share, as in the predictor of CEMS.

    Only safetensors are read, and no code that comes with a model is run.

    Args:
        model: hub id, or path of a folder with a CLIP (text) model and its tokenizer.
        revision: the hub's branch, tag or commit.
        device: torch device, as `cpu` or `cuda`.
        dtype: torch dtype of the weights, as `float32`.
        batch_size: texts per batch.
        max_length: longest input in tokens, the rest is cut off; the model's own (77) where None.
    """

    model: str
    revision: str | None = None
    dtype: str = "float32"
    max_length: PositiveInt | None = None

    @cached_property
    def _parts(self) -> "tuple[CLIPTextModel, CLIPTokenizer]":
        network, tokenizer = load_clip_text(self.model, self.revision, self.device, self.dtype)
        return network.eval(), tokenizer

    @property
    def _length(self) -> int:
        limit = int(self._parts[0].config.max_position_embeddings)
        return limit if self.max_length is None else min(self.max_length, limit)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch: n texts → float32 [n, d]; see `TextEncoder`."""
        import torch

        network, tokenizer = self._parts
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            pooled = network(**tokens).pooler_output
        return pooled.float().cpu().numpy()

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode` cuts off each text; see `TextEncoder.truncated`."""
        tokens = self._parts[1](list(texts), truncation=False)["input_ids"]
        return [max(len(row) - self._length, 0) for row in tokens]

    @cached_property
    def _weights(self) -> Plain:
        network = self._parts[0]
        return {
            "dim": int(network.config.hidden_size),
            "max_length": self._length,
            "weights_sha256": weights_sha256(
                parameter.detach().cpu().float().numpy() for parameter in network.parameters()
            ),
        }

    def weights(self) -> Section:
        """Return width, longest input in tokens, and the weights' checksum. Loads the model."""
        return self._weights
