"""Inputs of the generators' training, computed once: latents of the scenes, embeddings of their captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mini.tokens import encode
from mini.training import to_tensor

BATCH = 128


@dataclass(frozen=True)
class TextInputs:
    """Embedded captions, as the generators take them.

    Attributes:
        states: of the text encoder, float16 [n, CONTEXT, width].
        pooled: float16 [n, dimensions], its projected embedding.
        empty_states, empty_pooled: those of the empty caption, float32 [CONTEXT, width] and [dimensions].
    """

    states: Tensor
    pooled: Tensor
    empty_states: Tensor
    empty_pooled: Tensor

    def batch(self, rows: NDArray[np.int64], drop: NDArray[np.bool_], device: str) -> tuple[Tensor, Tensor]:
        """Return states and pooled embeddings of some rows, float32; those of a dropped row are the empty caption's."""
        states, pooled = self.states[rows].float(), self.pooled[rows].float()
        states[torch.from_numpy(drop)] = self.empty_states
        pooled[torch.from_numpy(drop)] = self.empty_pooled
        return states.to(device), pooled.to(device)


@torch.no_grad()
def embed_texts(
    encoder: Any, tokenizer: Any, texts: Sequence[str], device: str, layer: int = -1
) -> TextInputs:
    """Encode captions.

    Args:
        encoder: `CLIPTextModelWithProjection`.
        texts: the captions.
        layer: layer whose states to take: -1, the last, normalised, as `StableDiffusionPipeline`; -2, the layer before, as
            `AmusedPipeline`.
    """
    encoder = encoder.to(device)

    def run(part: Sequence[str]) -> tuple[Tensor, Tensor]:
        out = encoder(encode(tokenizer, list(part)).to(device), output_hidden_states=True)
        states = out.last_hidden_state if layer == -1 else out.hidden_states[layer]
        return states.cpu(), out.text_embeds.cpu()

    parts = [run(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    states, pooled = (torch.cat([part[index].half() for part in parts]) for index in (0, 1))
    empty_states, empty_pooled = run([""])
    return TextInputs(states, pooled, empty_states[0], empty_pooled[0])


@torch.no_grad()
def encode_images(images: NDArray[np.uint8], encode_batch: Callable[[Tensor], Tensor], device: str) -> Tensor:
    """Run images, uint8 [n, 64, 64, 3], through an encoder in batches; return its outputs on the CPU."""
    parts = [
        encode_batch(to_tensor(images[start : start + BATCH], device)).cpu()
        for start in range(0, len(images), BATCH)
    ]
    return torch.cat(parts)
