"""CLIP's text side as a prompt encoder."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.encoders.sentence import first_line
from promptroute.encoders.weights import fingerprint, weights_sha256

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer


class ClipTextEncoder:
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

    def __init__(
        self,
        model: str = "openai/clip-vit-base-patch16",
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 64,
        max_length: int | None = None,
    ) -> None:
        self.model, self.revision = model, revision
        self.device, self.dtype = device, dtype
        self.batch_size, self.max_length = batch_size, max_length

    @cached_property
    def _parts(self) -> "tuple[CLIPTextModel, CLIPTokenizer]":
        import torch
        from transformers import CLIPTextModel, CLIPTokenizer

        # Untyped: the library's types lack a null revision, and the pair that loading info makes.
        loader: Any = CLIPTextModel
        tokenizers: Any = CLIPTokenizer
        try:
            tokenizer = tokenizers.from_pretrained(self.model, revision=self.revision)
            network, loading = loader.from_pretrained(
                self.model,
                revision=self.revision,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=getattr(torch, self.dtype),
                output_loading_info=True,
            )
            if missing := sorted(loading["missing_keys"]):  # else they would be random, with only a warning
                raise ValueError(f"the weights lack {missing[0]} and {len(missing) - 1} others")
            # Without its files a tokenizer still loads, and turns every word into the same token.
            vocabulary, size = tokenizer.get_vocab(), network.config.vocab_size
            if not set(vocabulary) - set(tokenizer.all_special_tokens) or max(vocabulary.values()) >= size:
                raise ValueError(f"its tokenizer has {len(vocabulary)} tokens, the model {size}")
            network = network.to(self.device)
        except Exception as error:  # transformers raises what its parts raise
            raise UserError(
                f"the CLIP text encoder {self.model} can't be loaded on {self.device} "
                f"({type(error).__name__}: {first_line(error)}); give the path of a folder with the model "
                f"(safetensors) and its tokenizer, check the network, or choose text_encoder=minilm or text_encoder=none"
            ) from error
        return network.eval(), tokenizer

    @property
    def _length(self) -> int:
        limit = int(self._parts[0].config.max_position_embeddings)
        return limit if self.max_length is None else min(self.max_length, limit)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One batch: n texts → float32 [n, d].

        Raises:
            UserError: the model can't be loaded.
        """
        import torch

        network, tokenizer = self._parts
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            pooled = network(**tokens).pooler_output
        return pooled.float().cpu().numpy()

    @cached_property
    def _facts(self) -> dict[str, Any]:
        network = self._parts[0]
        return {
            "encoder": type(self).__name__,
            "dim": int(network.config.hidden_size),
            "max_length": self._length,
            "dtype": self.dtype,
            "weights_sha256": weights_sha256(network.parameters()),
        }

    @property
    def description(self) -> Mapping[str, Any]:
        return {"model": self.model, "revision": self.revision} | self._facts

    @property
    def fingerprint(self) -> str:
        return fingerprint(self._facts)
