"""The quality predictor of CEMS, as published."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Learner, Validation
from promptroute.predictors.classifier import (
    Schedule,
    macro_f1,
    make_head,
    need_validation,
    softmax,
    train_classifier,
)

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16")


@dataclass
class Cems(Learner):
    """The classifier of CEMS (see `promptroute.predictors.classifier`): a CLIP text encoder, fine-tuned whole.

    Pooled output → dropout 0.1 → linear (h → h) → QuickGELU → dropout 0.1 → linear (h → m). Label: the model
    of highest quality (the first of equals). Cross-entropy with class weights (1 - share)²; AdamW, learning
    rate falling linearly to 0, no weight decay on biases and LayerNorms; the epoch of best macro F1 on
    validation, which is therefore required, is kept. The defaults are the paper's.

    Needs the prompts' texts alone; embeddings are not used. Predicts probabilities that each model is the
    best, in 0 … 1, rows summing to 1: they stand in for quality.

    Args:
        encoder: hub id, or path of a folder with a CLIP (text) model in safetensors and its tokenizer.
        revision: the hub's branch, tag or commit.
        epochs, batch_size, learning_rate, weight_decay, seed: see `Schedule`.
        max_length: longest prompt in tokens, the rest is cut off; 77 is CLIP's limit.
        device: torch device, as `cpu` or `cuda`. A loaded predictor is on the cpu until this is set.
        dtype: "float32", or "bfloat16" for mixed precision (weights stay float32).
    """

    kind: ClassVar[str] = "cems"
    predicts: ClassVar[str] = "probability"
    encoder: str = "openai/clip-vit-base-patch16"
    revision: str | None = None
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 6.4e-6
    weight_decay: float = 0.1
    max_length: int = 77
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"cems: dtype is {self.dtype!r}; expected one of {', '.join(DTYPES)}")
        if self.max_length < 3:
            raise UserError(
                f"cems: max_length is {self.max_length}; expected 3 or more (start, a token, end)"
            )
        self._schedule()

    def _schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch_size, self.learning_rate, self.weight_decay, self.seed)

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        need_validation(validation, self.kind)
        assert validation is not None
        import torch

        encoder, tokenizer = self._load_encoder(self.encoder, self.revision)
        held, m = validation[1].argmax(1), quality.shape[1]
        devices = [torch.device(self.device)] if torch.device(self.device).type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            head = make_head(encoder.config.hidden_size, m).to(self.device)
            network: Any = torch.nn.ModuleDict({"encoder": encoder, "head": head})
            tokens = self._tokenize(tokenizer, prompts.texts)
            held_tokens = self._tokenize(tokenizer, validation[0].texts)

            def logits(index: Array) -> "torch.Tensor":
                return self._logits(network, tokenizer, [tokens[i] for i in index])

            def score() -> float:
                return macro_f1(held, self._all_logits(network, tokenizer, held_tokens).argmax(1), m)

            epoch = train_classifier(
                network, logits, quality.argmax(1), m, self._schedule(), score, self.kind
            )
        self._network, self._tokenizer, self._epoch = network.eval(), tokenizer, epoch

    def _load_encoder(self, place: str, revision: str | None = None) -> tuple[Any, Any]:
        """CLIP text model on our device in float32, and its tokenizer.

        Raises:
            UserError: it can't be loaded, or some of its weights are missing.
        """
        import torch
        from transformers import CLIPTextModel, CLIPTokenizer

        # Untyped: the library's types lack a null revision, and the pair that loading info makes.
        loader: Any = CLIPTextModel
        tokenizers: Any = CLIPTokenizer
        try:
            tokenizer = tokenizers.from_pretrained(place, revision=revision)
            encoder, loading = loader.from_pretrained(
                place,
                revision=revision,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            if missing := sorted(loading["missing_keys"]):  # else they would be random, with only a warning
                raise ValueError(f"the weights lack {missing[0]} and {len(missing) - 1} others")
            # Without its files a tokenizer still loads, and turns every word into the same token.
            vocabulary, size = tokenizer.get_vocab(), encoder.config.vocab_size
            if not set(vocabulary) - set(tokenizer.all_special_tokens) or max(vocabulary.values()) >= size:
                raise ValueError(f"its tokenizer has {len(vocabulary)} tokens, the model {size}")
            return encoder.to(self.device), tokenizer
        except Exception as error:  # transformers raises what its parts raise
            raise UserError(
                f"the CLIP text encoder {place} can't be loaded on {self.device} ({_reason(error)}); set predictor.encoder to a folder with a CLIP text model (safetensors) and its "
                f"tokenizer, check the network, or use predictor=cems-frozen, which needs neither"
            ) from error

    def _tokenize(self, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids: list[list[int]] = tokenizer(clean, truncation=True, max_length=self.max_length)["input_ids"]
        return ids

    def _logits(self, network: Any, tokenizer: Any, tokens: list[list[int]]) -> "torch.Tensor":
        """Logits [b, m] of one batch, padded to its longest prompt."""
        import torch

        padded = tokenizer.pad({"input_ids": tokens}, return_tensors="pt").to(self.device)
        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            logits: torch.Tensor = network["head"](network["encoder"](**padded).pooler_output)
        return logits

    def _all_logits(self, network: Any, tokenizer: Any, tokens: list[list[int]]) -> Array:
        """Logits float64 [n, m], in batches."""
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

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {
            "device": "cpu"
        }  # where it was trained says nothing about where it is used

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        self._network["encoder"].save_pretrained(folder / "encoder")
        self._tokenizer.save_pretrained(folder / "encoder")
        head = self._network["head"].state_dict()
        return {"epoch": self._epoch}, {f"head.{name}": value.cpu().numpy() for name, value in head.items()}

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        import torch

        if not (folder / "encoder").is_dir():  # else its name would be taken for a hub id
            raise ValueError("the folder encoder is missing")
        try:
            encoder, tokenizer = self._load_encoder(str(folder / "encoder"))
        except UserError as error:  # it speaks of the setting; here the folder is at fault
            raise ValueError(f"its encoder can't be loaded: {_reason(error.__cause__)}") from error
        values = {name.removeprefix("head."): torch.from_numpy(rows) for name, rows in arrays.items()}
        head = make_head(encoder.config.hidden_size, len(values["4.bias"]))
        try:
            head.load_state_dict(values)
        except RuntimeError as error:
            raise ValueError(f"the head doesn't fit: {error}") from error
        self._network = torch.nn.ModuleDict({"encoder": encoder, "head": head}).eval()
        self._tokenizer, self._epoch = tokenizer, state["epoch"]


def _reason(error: BaseException | None) -> str:
    """An error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
