"""Read a sentence-transformers folder: a BERT's weights, its tokenizer, and how it pools. No code of it is run."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Plain
from promptroute.encoders.bert_onnx import Precision, Shape, bert_model
from promptroute.encoders.onnx_folder import OnnxFolder
from promptroute.encoders.weights import weights_sha256
from promptroute.io.files import sha256

WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"
MODULES, LENGTH, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
PATTERNS = [WEIGHTS, TOKENIZER, "*.json", "*/config.json"]
"""What of a hub's repository is fetched."""


class Unfit(ValueError):
    """The model computes something that this room can't write as a graph."""


@dataclass(frozen=True)
class Source:
    """A sentence-transformers folder.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    def sha256(self) -> str:
        """Return a checksum of all that decides a vector, whatever the folder is called.

        Raises:
            OSError: weights or tokenizer are absent.
        """
        others = [self._json(name) for name in (CONFIG, MODULES, LENGTH, PROMPTS)]
        parts = [sha256(self.folder / WEIGHTS), sha256(self.folder / TOKENIZER), others, self._pooling()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def export(self, to: Path, precision: Precision) -> None:
        """Write the model as an `OnnxFolder`.

        Raises:
            UserError: the package `onnx` is missing.
            Unfit, OSError, ValueError: the model is of another kind, absent or corrupt.
        """
        from safetensors.numpy import load_file

        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise UserError(
                "to make a sentence encoder of a model's weights the package onnx is needed, which is not installed; "
                "pip install 'promptroute[pipeline]'"
            ) from error
        shape, normalised = self._shape(), self._normalised()
        loaded = load_file(self.folder / WEIGHTS)
        end = "embeddings.word_embeddings.weight"
        prefix = next((name.removesuffix(end) for name in loaded if name.endswith(end)), "")
        weights = {
            name.removeprefix(prefix): np.asarray(values, np.float32)
            for name, values in loaded.items()
            if name.startswith((f"{prefix}embeddings.", f"{prefix}encoder.")) and values.dtype.kind == "f"
        }
        try:
            model = bert_model(weights, shape, precision)
        except KeyError as error:
            raise Unfit(f"{WEIGHTS} lacks {error.args[0]}") from error
        places, width = weights["embeddings.position_embeddings.weight"].shape
        longest = (self._json(LENGTH) or {}).get("max_seq_length") or places
        OnnxFolder.write(
            to,
            model,
            (self.folder / TOKENIZER).read_text(encoding="utf-8"),
            layers=shape.layers + 1,
            width=width,
            max_length=min(longest, places - shape.first_place),
            normalised=normalised,
            pooling=shape.pooling,
            precision=precision,
            weights_sha256=weights_sha256(weights.values()),
        )

    def _shape(self) -> Shape:
        config = self._json(CONFIG)
        if config is None:
            raise Unfit(f"{CONFIG} is absent")
        kind = config.get("model_type")
        if kind not in ("bert", "roberta", "xlm-roberta"):
            raise Unfit(f"it is a {kind}, not a BERT or RoBERTa")
        if config.get("hidden_act", "gelu") != "gelu":
            raise Unfit(f"it has {config['hidden_act']}, not gelu")
        if config.get("position_embedding_type") not in (None, "absolute"):
            raise Unfit(f"its positions are {config['position_embedding_type']}, not absolute")
        pooling = self._pooling()
        if pooling not in ("mean", "cls"):
            raise Unfit(f"it pools by {pooling}, not by mean or cls")
        return Shape(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            eps=float(config.get("layer_norm_eps", 1e-12)),
            first_place=0 if kind == "bert" else int(config.get("pad_token_id", 1)) + 1,
            pooling=pooling,
        )

    def _modules(self) -> list[Plain]:
        return list(self._json(MODULES) or [])

    def _normalised(self) -> bool:
        names = [str(module.get("type")).rpartition(".")[2] for module in self._modules()]
        if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
            raise Unfit(
                f"its modules are {', '.join(names) or 'none'}, not Transformer, Pooling (and Normalize)"
            )
        if (self._json(LENGTH) or {}).get("do_lower_case"):
            raise Unfit("it lowers a text's case before its tokenizer does")
        if (self._json(PROMPTS) or {}).get("default_prompt_name"):
            raise Unfit("it sets words of its own before each text")
        return len(names) == 3

    def _pooling(self) -> Any:
        place = next((str(one.get("path")) for one in self._modules() if one.get("idx") == 1), "1_Pooling")
        config = self._json(f"{place}/{CONFIG}") or {}
        old = [
            name.removeprefix("pooling_mode_")
            for name, on in config.items()
            if "pooling_mode_" in name and on
        ]
        modes = config.get("pooling_mode", old or "mean")
        modes = [modes] if isinstance(modes, str) else list(modes)
        return (
            {"mean_tokens": "mean", "cls_token": "cls"}.get(modes[0], modes[0]) if len(modes) == 1 else modes
        )

    def _json(self, name: str) -> Any:
        """Read a JSON file of the folder; None where it is absent."""
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()) or not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise Unfit(f"{name} is not JSON: {reason(error)}") from error
