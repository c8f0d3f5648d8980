"""What the feedback network is made of: sizes, heads, variant."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.plain import Section

SCORES = ("plausibility", "alignment", "aesthetics", "overall")
"""Scores of an image, each 0 to 1, higher is better; in the order of RichHF's published network."""
HEATMAPS = ("implausibility", "misalignment")
"""Maps over an image, each 0 to 1: where it is implausible, and where it misses its prompt."""
START, END = 0, 1
"""T5's ids: padding, which also begins every text that is written, and the end of a text."""
MAX_TOKENS = 512
"""Tokens of a prompt that T5 was trained on."""

_LARGEST = 1 << 20  # of any size: a folder may come from a stranger


class NetworkSettings(Component):
    """Sizes and heads of the network; the defaults are the published one: ViT-L/16 at 384 pixels, and T5-base.

    Settings:
        variant: `multi-head`, a head for each score and map; `augmented`, one head of each kind, and the task put before
            the prompt ("augmented prompt" in the paper).
        scores, heatmaps: what is predicted.
        image_side, patch_side: pixels of the image that the ViT sees, and of its patches.
        vit_width, vit_layers, vit_heads, vit_mlp: the ViT's.
        width, mlp, layers, decoder_layers, heads, head_width, vocabulary: T5's.
        heatmap_widths: channels of a heatmap head's first two convolutions.
        doubling_widths: channels after each doubling of the side; log2(patch_side) of them give maps of the image's side.
        score_widths: channels of a score head's convolutions; None: the published shares of `width`.
        score_layers: widths of the linear layers after them.
        dropout: T5's, in training.
    """

    variant: Literal["multi-head", "augmented"] = "multi-head"
    scores: list[str] = Field(default=list(SCORES), min_length=1)
    heatmaps: list[str] = Field(default=list(HEATMAPS), min_length=1)
    image_side: int = Field(default=384, ge=1, le=_LARGEST)
    patch_side: int = Field(default=16, ge=1, le=_LARGEST)
    vit_width: int = Field(default=1024, ge=1, le=_LARGEST)
    vit_layers: int = Field(default=24, ge=1, le=1024)
    vit_heads: int = Field(default=16, ge=1, le=_LARGEST)
    vit_mlp: int = Field(default=4096, ge=1, le=_LARGEST)
    width: int = Field(default=768, ge=1, le=_LARGEST)
    mlp: int = Field(default=3072, ge=1, le=_LARGEST)
    layers: int = Field(default=12, ge=1, le=1024)
    decoder_layers: int = Field(default=12, ge=1, le=1024)
    heads: int = Field(default=12, ge=1, le=_LARGEST)
    head_width: int = Field(default=64, ge=1, le=_LARGEST)
    vocabulary: int = Field(default=32128, ge=3, le=_LARGEST)
    heatmap_widths: list[int] = Field(default=[768, 384], min_length=2, max_length=2)
    doubling_widths: list[int] = Field(default=[768, 384, 384, 192], min_length=1)
    score_widths: list[int] | None = None
    score_layers: list[int] = Field(default=[512, 128], min_length=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def model_post_init(self, _: Any) -> None:
        """Refuse an image that patches don't fill, and a ViT whose heads don't share its width."""
        for whole, part in (("image_side", "patch_side"), ("vit_width", "vit_heads")):
            if getattr(self, whole) % getattr(self, part):
                raise UserError(
                    f"{whole} is {getattr(self, whole)}, which {part} {getattr(self, part)} doesn't divide; give a multiple"
                )

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_side // self.patch_side

    @property
    def map_side(self) -> int:
        """Pixels of a predicted map along a side."""
        return self.grid * 2 ** len(self.doubling_widths)

    @property
    def score_channels(self) -> list[int]:
        """Channels of a score head's convolutions."""
        return self.score_widths or [max(1, self.width // share) for share in (1, 2, 4, 8, 16, 64)]

    @property
    def outputs(self) -> list[str]:
        """Names of all that the heads give: `score_NAME`, `heatmap_NAME`."""
        return [*(f"score_{name}" for name in self.scores), *(f"heatmap_{name}" for name in self.heatmaps)]

    def task(self, output: str) -> str:
        """Return what the augmented variant puts before the prompt to ask for an output."""
        kind, _, name = output.partition("_")
        return f"<output> {kind.upper()}: {name} </output> "


def precision(dtype: str, device: str) -> str:
    """Decide what a network computes in; float16 is too narrow for T5."""
    return ("float32" if device.startswith("cpu") else "bfloat16") if dtype == "auto" else dtype


def read_settings(config: Section, keys: Sequence[str] = ()) -> NetworkSettings:
    """Read the network's settings from a configuration.

    Args:
        config: settings of `NetworkSettings`; or sizes as transformers name them, in sections `vit` and `t5`, beside
            `score_types`, `heatmap_types` and `multi_heads`.
        keys: names of the weights, from which the variant is read where the configuration doesn't say.

    Raises:
        UserError: a size is missing or no number.
    """
    if "vit" not in config:
        return NetworkSettings(**{key: value for key, value in config.items() if key != "_target_"})
    augmented = any(key.startswith("score_predictor.conv_layers.") for key in keys)
    multi = config.get("multi_heads", not augmented)
    try:
        vit, t5 = config["vit"], config["t5"]
        doublings = round(math.log2(vit["patch_size"]))
        return NetworkSettings(
            variant="multi-head" if multi else "augmented",
            scores=list(config.get("score_types", SCORES)),
            heatmaps=list(config.get("heatmap_types", HEATMAPS)),
            image_side=vit["image_size"],
            patch_side=vit["patch_size"],
            vit_width=vit["hidden_size"],
            vit_layers=vit["num_hidden_layers"],
            vit_heads=vit["num_attention_heads"],
            vit_mlp=vit["intermediate_size"],
            width=t5["d_model"],
            mlp=t5["d_ff"],
            layers=t5["num_layers"],
            decoder_layers=t5["num_decoder_layers"],
            heads=t5["num_heads"],
            head_width=t5["d_kv"],
            vocabulary=t5["vocab_size"],
            doubling_widths=[768, 384, 384, 192][-doublings:],
        )
    except KeyError as error:
        raise UserError(
            f"the network's configuration has no {error}; give all sizes of vit and t5"
        ) from error
