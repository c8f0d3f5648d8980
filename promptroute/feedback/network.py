"""The feedback network: a ViT sees the image, T5 reads prompt and patches together, heads give scores and maps.

Source: Liang et al., "Rich Human Feedback for Text-to-Image Generation" (CVPR 2024, arXiv 2312.10240), section 4. The
names of the weights are those of the public checkpoint, but for the ViT's blocks, which transformers 5 renamed.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.feedback.settings import END, START, NetworkSettings


class ChannelNorm(nn.Module):
    """Divide each position's channels by their root mean square, and scale them: [b, c, h, w] → the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ScoreHead(nn.Module):
    """Feature map [b, width, grid, grid] → a score in 0..1 [b]."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        channels = [settings.width, *settings.score_channels]
        self.conv_layers = nn.Sequential()
        for inputs, outputs in itertools.pairwise(channels):
            self.conv_layers.extend([_convolution(inputs, outputs), ChannelNorm(outputs), nn.ReLU()])
        widths = [channels[-1] * settings.grid**2, *settings.score_layers]
        self.linear_layers = nn.Sequential()
        for inputs, outputs in itertools.pairwise(widths):
            self.linear_layers.extend([nn.Linear(inputs, outputs), nn.ReLU()])
        self.linear_layers.append(nn.Linear(widths[-1], 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_layers(self.conv_layers(features).flatten(1)).sigmoid()[:, 0]


class HeatmapHead(nn.Module):
    """Feature map [b, width, grid, grid] → a map in 0..1 [b, side, side]."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        first, second = settings.heatmap_widths
        self.conv_layers = nn.Sequential(
            _convolution(settings.width, first), nn.ReLU(), ChannelNorm(first),
            _convolution(first, second), nn.ReLU(), ChannelNorm(second),
        )  # fmt: skip
        self.deconv_layers, self.conv_layers2 = nn.ModuleList(), nn.ModuleList()
        widths = [second, *settings.doubling_widths]
        for inputs, outputs in itertools.pairwise(widths):
            doubling = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
            self.deconv_layers.append(nn.Sequential(doubling, ChannelNorm(outputs), nn.ReLU()))
            self.conv_layers2.append(
                nn.Sequential(
                    _convolution(outputs, outputs), ChannelNorm(outputs), nn.ReLU(),
                    _convolution(outputs, outputs), ChannelNorm(outputs),
                )
            )  # fmt: skip
        self.last_conv1 = _convolution(widths[-1], widths[-1])
        self.last_conv2 = _convolution(widths[-1], 1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv_layers(features)
        for doubling, branch in zip(self.deconv_layers, self.conv_layers2, strict=True):
            x = doubling(x)
            x = torch.relu(x + branch(x))
        return self.last_conv2(torch.relu(self.last_conv1(x))).sigmoid()[:, 0]


class FeedbackNetwork(nn.Module):
    """ViT, T5 and heads.

    Args:
        settings: sizes and heads.
        attention_mask: whether padding is left out of attention, so that an image's result doesn't depend on what else
            stands in its batch. The public weights were trained without.
    """

    def __init__(self, settings: NetworkSettings, attention_mask: bool = True) -> None:
        super().__init__()
        self.settings, self.attention_mask = settings, attention_mask
        self.vit = _vit(settings)
        self.vit.pooler.requires_grad_(False)  # the checkpoint has one; nothing uses it
        self.visual_token_projection = nn.Linear(settings.vit_width, settings.width)
        self.t5 = _t5(settings)
        self.heatmap_predictor: nn.Module
        self.score_predictor: nn.Module
        if settings.variant == "multi-head":
            self.heatmap_predictor = nn.ModuleDict(
                {name: HeatmapHead(settings) for name in settings.heatmaps}
            )
            self.score_predictor = nn.ModuleDict({name: ScoreHead(settings) for name in settings.scores})
        else:
            self.heatmap_predictor, self.score_predictor = HeatmapHead(settings), ScoreHead(settings)

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.visual_token_projection.weight.device

    def see(self, pixel_values: Tensor) -> Tensor:
        """Turn images [b, 3, side, side] into visual tokens [b, 1 + grid², width]."""
        return self.visual_token_projection(self.vit(pixel_values).last_hidden_state)

    def read(self, visual: Tensor, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode visual tokens and a text together.

        Args:
            visual: [b, v, width].
            ids: int64 [b, t], padded on the right.
            lengths: int64 [b], how many of them are the text's own.

        Returns:
            [b, v + t, width]; and which positions may be attended to, int64 [b, v + t].
        """
        attended = torch.ones(len(ids), visual.shape[1] + ids.shape[1], dtype=torch.int64, device=ids.device)
        if self.attention_mask:
            attended[:, visual.shape[1] :] = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        together = torch.cat([visual, self.t5.shared(ids).to(visual.dtype)], dim=1)
        return self.t5.encoder(inputs_embeds=together, attention_mask=attended).last_hidden_state, attended

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        lengths: Tensor,
        target_ids: Tensor | None = None,
        task_ids: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Predict scores and maps; with targets, the text too.

        Args:
            pixel_values: float32 [b, 3, side, side] in -1..1.
            input_ids: int64 [b, t], prompts padded on the right with 0.
            lengths: int64 [b].
            target_ids: int64 [b, l], labelled prompts, padded with 0.
            task_ids: of the augmented variant: output → ids and lengths of the prompts with their task.

        Returns:
            `score_NAME` [b], `heatmap_NAME` [b, side, side], `encoder_last_hidden_state`, `text_attended`; with targets
            `target_logits` [b, l, vocabulary].
        """
        visual = self.see(pixel_values)
        encoded, attended = self.read(visual, input_ids, lengths)
        given = {"encoder_last_hidden_state": encoded, "text_attended": attended[:, visual.shape[1] :]}
        if self.settings.variant == "multi-head":
            features = dict.fromkeys(self.settings.outputs, self._features(encoded))
        else:
            features = {
                name: self._features(self.read(visual, *(task_ids or {})[name])[0])
                for name in self.settings.outputs
            }
        given |= {name: self._head(name)(value) for name, value in features.items()}
        if target_ids is not None:
            started = torch.cat([torch.full_like(target_ids[:, :1], START), target_ids[:, :-1]], dim=1)
            given["target_logits"] = self.write(given, started)
        return given

    def _features(self, encoded: Tensor) -> Tensor:
        grid = self.settings.grid
        return encoded[:, 1 : 1 + grid * grid].transpose(1, 2).reshape(len(encoded), -1, grid, grid)

    def _head(self, output: str) -> nn.Module:
        kind, _, name = output.partition("_")
        heads = self.score_predictor if kind == "score" else self.heatmap_predictor
        return heads[name] if isinstance(heads, nn.ModuleDict) else heads

    def memory(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the decoder sees of a pass: the text's part of the encoder's output, and its mask."""
        attended = given["text_attended"]
        return given["encoder_last_hidden_state"][:, -attended.shape[1] :], attended

    def write(self, given: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Predict each next token of texts that begin with `START`: int64 [b, l] → logits [b, l, vocabulary]."""
        return self.token_logits(self.decode(*self.memory(given), ids))

    def decode(self, text: Tensor, attended: Tensor, ids: Tensor) -> Tensor:
        """Read beginnings of texts: memory (as `memory` gives it), int64 [b, l] → states [b, l, width]."""
        decoder = self.t5.decoder
        return decoder(
            ids, encoder_hidden_states=text, encoder_attention_mask=attended, use_cache=False
        ).last_hidden_state

    def token_logits(self, states: Tensor) -> Tensor:
        """Turn the decoder's states into logits of the next token: [..., width] → [..., vocabulary]."""
        return self.t5.lm_head(states * self.settings.width**-0.5)

    @torch.no_grad()
    def predict(
        self,
        pixel_values: np.ndarray,
        input_ids: np.ndarray,
        lengths: np.ndarray,
        task_ids: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Tensor]:
        """Predict from arrays, as `outputs`, but leave tensors on their device, for `word_probabilities` to go on with."""
        pixels, ids, sizes, _, tasks = self._tensors(pixel_values, input_ids, lengths, None, task_ids)
        return self(pixels, ids, sizes, None, tasks)

    @torch.no_grad()
    def outputs(
        self,
        pixel_values: np.ndarray,
        input_ids: np.ndarray,
        lengths: np.ndarray,
        target_ids: np.ndarray | None = None,
        task_ids: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Predict from arrays.

        Args:
            pixel_values, input_ids, lengths, target_ids: as `forward`.
            task_ids: of the augmented variant: output → ids of the prompts with their task, padded with 0.

        Returns:
            float32 `score_NAME` [b], `heatmap_NAME` [b, side, side], `encoder_last_hidden_state` [b, 1 + grid² + t, width];
            with targets `target_logits` [b, l, vocabulary] and `target_loss` [1], the mean over all tokens of the
            targets (without attention mask, as the public network has it, over their padding too).

        Raises:
            UserError: an array has another shape than the network takes, or ids outside of the vocabulary.
        """
        given = self(*self._tensors(pixel_values, input_ids, lengths, target_ids, task_ids))
        shown = {name: value for name, value in given.items() if name != "text_attended"}
        if target_ids is not None:
            targets = torch.as_tensor(target_ids, device=self.device)
            kept = torch.ones_like(targets, dtype=torch.bool)
            shown["target_loss"] = token_loss(
                given["target_logits"], targets, targets != START if self.attention_mask else kept
            )[None]
        return {name: value.float().cpu().numpy() for name, value in shown.items()}

    @torch.no_grad()
    def generate_ids(
        self, pixel_values: np.ndarray, input_ids: np.ndarray, lengths: np.ndarray, max_new_tokens: int
    ) -> np.ndarray:
        """Write the labelled prompts freely and greedily.

        Returns:
            int64 [b, at most 1 + max_new_tokens]: ids that begin with the start id; after its end a text is filled with 0.
        """
        pixels, ids, sizes, _, _ = self._tensors(pixel_values, input_ids, lengths, None, None, tasks=False)
        visual = self.see(pixels)
        encoded, attended = self.read(visual, ids, sizes)
        from transformers.modeling_outputs import BaseModelOutput

        text = encoded[:, visual.shape[1] :]
        written = self.t5.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=text),
            attention_mask=attended[:, visual.shape[1] :],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
        )
        return written.cpu().numpy()

    def _tensors(
        self,
        pixel_values: np.ndarray,
        input_ids: np.ndarray,
        lengths: np.ndarray,
        target_ids: np.ndarray | None,
        task_ids: Mapping[str, np.ndarray] | None,
        tasks: bool = True,
    ) -> tuple[Any, ...]:
        """Check arrays, and move them to the device."""
        side, n = self.settings.image_side, len(pixel_values)
        if pixel_values.shape != (n, 3, side, side):
            raise UserError(f"pixel_values has shape {pixel_values.shape}; expected (n, 3, {side}, {side})")
        texts = {"input_ids": input_ids, "target_ids": target_ids}
        if tasks and self.settings.variant == "augmented":
            if absent := [name for name in self.settings.outputs if name not in (task_ids or {})]:
                raise UserError(
                    f"the augmented network needs ids of the prompts with each task, and has none for {absent[0]}"
                )
            texts |= dict(task_ids or {})
        for name, ids in texts.items():
            if ids is not None and (ids.ndim != 2 or len(ids) != n):
                raise UserError(f"{name} has shape {ids.shape}; expected ({n}, tokens)")
            if ids is not None and ids.size and not 0 <= ids.min() <= ids.max() < self.settings.vocabulary:
                raise UserError(
                    f"{name} holds ids {ids.min()} to {ids.max()}; expected 0 to {self.settings.vocabulary - 1}"
                )
        if lengths.shape != (n,) or not ((lengths >= 1) & (lengths <= input_ids.shape[1])).all():
            raise UserError(
                f"lengths are {lengths.tolist()[:5]}; expected {n} numbers, 1 to {input_ids.shape[1]}"
            )

        def moved(ids: np.ndarray | None) -> Tensor | None:
            return None if ids is None else torch.as_tensor(ids, dtype=torch.int64, device=self.device)

        tasked = {name: moved(ids) for name, ids in (task_ids or {}).items()}
        return (
            torch.as_tensor(
                pixel_values, dtype=self.visual_token_projection.weight.dtype, device=self.device
            ),
            moved(input_ids),
            moved(lengths),
            moved(target_ids),
            {name: (ids, (ids != START).sum(dim=1)) for name, ids in tasked.items() if ids is not None},
        )


def token_loss(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Return the mean cross-entropy of the tokens that count.

    Args:
        logits: [b, l, vocabulary].
        targets: int64 [b, l].
        counted: bool [b, l]; where it is nowhere true, the loss is 0.
    """
    each = nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
    return (each * counted).sum() / counted.sum().clamp(min=1)


def _vit(settings: NetworkSettings) -> Any:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=settings.vit_width,
        num_hidden_layers=settings.vit_layers,
        num_attention_heads=settings.vit_heads,
        intermediate_size=settings.vit_mlp,
        image_size=settings.image_side,
        patch_size=settings.patch_side,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-12,
        qkv_bias=True,
    )
    return ViTModel(config)


def _t5(settings: NetworkSettings) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config: Plain = {
        "vocab_size": settings.vocabulary,
        "d_model": settings.width,
        "d_ff": settings.mlp,
        "d_kv": settings.head_width,
        "num_layers": settings.layers,
        "num_decoder_layers": settings.decoder_layers,
        "num_heads": settings.heads,
        "dropout_rate": settings.dropout,
        "feed_forward_proj": "relu",
        "layer_norm_epsilon": 1e-6,
        "pad_token_id": START,
        "eos_token_id": END,
        "decoder_start_token_id": START,
        "tie_word_embeddings": True,
    }
    return T5ForConditionalGeneration(T5Config(**config))
