"""The quality predictor of CEMS, as published."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError, reason
from promptroute.predictors.base import Array, Validation
from promptroute.predictors.classifier import Classifier, macro_f1, make_head, softmax
from promptroute.runtime.clip_text import load_clip_text

if TYPE_CHECKING:
    import torch


class Cems(Classifier):
    """The classifier of CEMS (see `Classifier` for its objective): a CLIP text encoder, fine-tuned whole.

    Pooled output → dropout 0.1 → linear (h → h) → QuickGELU → dropout 0.1 → linear (h → m). The defaults are the
    paper's. Needs the prompts' texts alone; embeddings are not used.

    Args:
        encoder: hub id, or path of a folder with a CLIP (text) model in safetensors and its tokenizer.
        revision: the hub's branch, tag or commit.
        epochs, batch_size, learning_rate, weight_decay, seed: see `Classifier`.
        max_length: longest prompt in tokens, 3 or more (start, a token, end), the rest is cut off; 77 is CLIP's limit.
        device: torch device, as `cpu` or `cuda`; a loaded predictor is on the cpu.
        dtype: "float32", or "bfloat16" for mixed precision (weights stay float32).
    """

    encoder: str = "openai/clip-vit-base-patch16"
    revision: str | None = None
    max_length: int = Field(77, ge=3)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    learned: ClassVar[tuple[str, ...]] = ("epoch",)
    _network: Any
    _tokenizer: Any

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        held, best = self._required(validation)
        import torch

        encoder, tokenizer = load_clip_text(self.encoder, self.revision, self.device)
        m = quality.shape[1]
        devices = [torch.device(self.device)] if torch.device(self.device).type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            head = make_head(encoder.config.hidden_size, m).to(self.device)
            network: Any = torch.nn.ModuleDict({"encoder": encoder, "head": head})
            tokens = self._tokenize(tokenizer, prompts.texts)
            held_tokens = self._tokenize(tokenizer, held.texts)

            def logits(index: Array) -> "torch.Tensor":
                return self._logits(network, tokenizer, [tokens[i] for i in index])

            def score() -> float:
                return macro_f1(best, self._all_logits(network, tokenizer, held_tokens).argmax(1), m)

            epoch = self._train(network, logits, quality.argmax(1), m, score)
        self._network, self._tokenizer, self._epoch = network.eval(), tokenizer, epoch

    def _tokenize(self, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids: list[list[int]] = tokenizer(clean, truncation=True, max_length=self.max_length)["input_ids"]
        return ids

    def _logits(self, network: Any, tokenizer: Any, tokens: list[list[int]]) -> "torch.Tensor":
        """Return the logits [b, m] of a batch, padded to its longest prompt."""
        import torch

        padded = tokenizer.pad({"input_ids": tokens}, return_tensors="pt").to(self.device)
        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            logits: torch.Tensor = network["head"](network["encoder"](**padded).pooler_output)
        return logits

    def _all_logits(self, network: Any, tokenizer: Any, tokens: list[list[int]]) -> Array:
        """Return the logits of all, float64 [n, m], in batches."""
        import torch

        with torch.inference_mode():
            parts = [
                self._logits(network, tokenizer, tokens[start : start + self.batch_size])
                .double()
                .cpu()
                .numpy()
                for start in range(0, len(tokens), self.batch_size)
            ]
        return np.concatenate(parts)

    def _predict(self, prompts: PromptBatch) -> Array:
        network = self._network.to(self.device)
        return softmax(
            self._all_logits(network, self._tokenizer, self._tokenize(self._tokenizer, prompts.texts))
        )

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = super()._state(folder)
        self._network["encoder"].save_pretrained(folder / "encoder")
        self._tokenizer.save_pretrained(folder / "encoder")
        head = self._network["head"].state_dict()
        return state, arrays | {f"head.{name}": value.cpu().numpy() for name, value in head.items()}

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        import torch

        super()._restore(folder, state, arrays)
        if not (folder / "encoder").is_dir():  # else its name would be taken for a hub id
            raise ValueError("the folder encoder is missing")
        try:
            encoder, tokenizer = load_clip_text(str(folder / "encoder"), None, self.device)
        except UserError as error:  # it speaks of the setting; here the folder is at fault
            raise ValueError(f"its encoder can't be loaded: {reason(error.__cause__)}") from error
        values = {name.removeprefix("head."): torch.from_numpy(rows) for name, rows in arrays.items()}
        head = make_head(encoder.config.hidden_size, len(values["4.bias"]))
        try:
            head.load_state_dict(values)
        except RuntimeError as error:
            raise ValueError(f"the head doesn't fit: {error}") from error
        self._network = torch.nn.ModuleDict({"encoder": encoder, "head": head}).eval()
        self._tokenizer = tokenizer
