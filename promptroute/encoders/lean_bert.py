"""Run a BERT encoder with no more around it than the arithmetic, for a single prompt on a single core.

The library's own pass is general: masks, hooks, caches, options. For a prompt of twenty tokens that, and matrix
products of awkward heights, take half the time. Vectors are equal to the library's up to float32 rounding.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

# Heights that products are fast at: a product with 12 rows takes longer than one with 16.
HEIGHT = 16
# A prompt of so many tokens or fewer is multiplied with weights that were laid out for its height beforehand,
# which halves its time; each height keeps its own copy of the weights.
PACKED = (16, 32, 48)


class LeanBert:
    """A frozen BERT model, batched without padding.

    All tokens of a batch stand below each other in one matrix, so that no product is spent on padding; only
    attention looks at each text alone.

    Args:
        network: transformers' `BertModel` with absolute positions and gelu; its weights are shared.
        tokenize: texts → token ids, cut to the model's length, special tokens included.

    Raises:
        ValueError: the model computes something else.
    """

    def __init__(self, network: Any, tokenize: Any) -> None:
        import torch

        config = network.config
        if (
            config.hidden_act != "gelu"
            or getattr(config, "position_embedding_type", "absolute") != "absolute"
        ):
            raise ValueError(f"{type(network).__name__} is not a BERT with gelu and absolute positions")
        self._heads, self._width, self._eps = (
            config.num_attention_heads,
            config.hidden_size,
            config.layer_norm_eps,
        )
        self._tokenize = tokenize
        weights: Mapping[str, torch.Tensor] = network.state_dict()
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = self._pair(weights, "embeddings.LayerNorm")
        self._layers = [self._layer(weights, f"encoder.layer.{i}.") for i in range(config.num_hidden_layers)]
        self._mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        self._packed: dict[tuple[int, int], torch.Tensor] = {}

    @staticmethod
    def _pair(weights: Mapping[str, "torch.Tensor"], name: str) -> "tuple[torch.Tensor, torch.Tensor]":
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def _layer(
        self, weights: Mapping[str, "torch.Tensor"], at: str
    ) -> "dict[str, tuple[torch.Tensor, torch.Tensor]]":
        import torch

        three = [self._pair(weights, f"{at}attention.self.{part}") for part in ("query", "key", "value")]
        return {
            "qkv": (torch.cat([w for w, _ in three]), torch.cat([b for _, b in three])),
            "out": self._pair(weights, f"{at}attention.output.dense"),
            "norm1": self._pair(weights, f"{at}attention.output.LayerNorm"),
            "up": self._pair(weights, f"{at}intermediate.dense"),
            "down": self._pair(weights, f"{at}output.dense"),
            "norm2": self._pair(weights, f"{at}output.LayerNorm"),
        }

    def _linear(self, x: "torch.Tensor", pair: "tuple[torch.Tensor, torch.Tensor]") -> "torch.Tensor":
        import torch

        weight, bias = pair
        height = len(x)
        if height in PACKED and self._mkl and x.device.type == "cpu" and x.dtype == torch.float32:
            key = (height, weight.data_ptr())
            if key not in self._packed:
                self._packed[key] = torch.ops.mkl._mkl_reorder_linear_weight(weight, height)
            return torch.ops.mkl._mkl_linear(x, self._packed[key], weight, bias, height)
        return torch.nn.functional.linear(x, weight, bias)

    def layers(self, texts: Sequence[str]) -> np.ndarray:
        """Return the mean over each text's tokens of every layer's states, the embeddings first.

        Returns:
            float32 [n, layers + 1, width].
        """
        return self.states(self._tokenize(list(texts)))

    def states(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Return `layers` of texts given as token ids, special tokens included."""
        import torch
        from torch.nn import functional as F

        device = self._words.device
        lengths = [len(tokens) for tokens in ids]
        total = sum(lengths)
        height = -(-total // HEIGHT) * HEIGHT
        width, heads = self._width, self._heads
        with torch.inference_mode():
            flat = torch.zeros(height, dtype=torch.long)
            flat[:total] = torch.tensor([token for tokens in ids for token in tokens])
            place = torch.zeros(height, dtype=torch.long)
            place[:total] = torch.cat([torch.arange(length) for length in lengths])
            flat, place = flat.to(device), place.to(device)
            x = F.layer_norm(self._words[flat] + self._places[place], (width,), *self._norm, self._eps)
            pooled = [self._mean(x, lengths)]
            for layer in self._layers:
                qkv = self._linear(x, layer["qkv"]).view(height, 3, heads, width // heads).permute(1, 2, 0, 3)
                seen = x.new_zeros(heads, height, width // heads)
                start = 0
                for length in lengths:
                    q, k, v = qkv[:, None, :, start : start + length]
                    seen[:, start : start + length] = F.scaled_dot_product_attention(q, k, v)[0]
                    start += length
                seen = seen.transpose(0, 1).reshape(height, width)
                x = F.layer_norm(x + self._linear(seen, layer["out"]), (width,), *layer["norm1"], self._eps)
                inner = F.gelu(self._linear(x, layer["up"]))
                x = F.layer_norm(x + self._linear(inner, layer["down"]), (width,), *layer["norm2"], self._eps)
                pooled.append(self._mean(x, lengths))
            result: np.ndarray = torch.stack(pooled, 1).float().cpu().numpy()
        return result

    @staticmethod
    def _mean(x: "torch.Tensor", lengths: list[int]) -> "torch.Tensor":
        import torch

        return torch.stack([part.mean(0) for part in torch.split(x[: sum(lengths)], lengths)])
