"""Views of an image that know no text: a network's pooled features, and the pixels themselves."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from promptroute.core.errors import UserError
from promptroute.core.image import to_rgb
from promptroute.core.plain import Section
from promptroute.encoders.base import ImageEncoder
from promptroute.encoders.weights import load_with_processor
from promptroute.io.files import sha256
from promptroute.io.weights import weights_id

if TYPE_CHECKING:
    from PIL.Image import Image


class PooledFeatures(ImageEncoder):
    """The pooled output of an image network of transformers, as `facebook/convnext-tiny-224` (768; arXiv 2201.03545).

    Args:
        model: hub id, or path of a folder that `save_pretrained` wrote, with its image processor.
        revision: for a hub id, the commit, 40 hexadecimal digits.
    """

    has_texts = False
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    incidental: ClassVar[frozenset[str]] = ImageEncoder.incidental | {"model", "revision"}

    model: str
    revision: str | None = None

    def weights(self) -> Section:
        """Give the folder's checksum, or the hub id with its commit; raises UserError as `weights_id`."""
        return weights_id(self.model, self.revision)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, AutoModel

        _ = self.weights()
        fix = "give a hub id with its commit, or a folder with config.json, preprocessor_config.json and model.safetensors"
        return load_with_processor(
            AutoImageProcessor, AutoModel, self.model, self.revision, self.device, "the image network", fix
        )

    def encode_images(self, images: "Sequence[Image]") -> np.ndarray:
        """Encode a batch of images; see `ImageEncoder.encode_images`."""
        import torch

        processor, network = self._parts
        pixels = processor([to_rgb(image) for image in images], return_tensors="pt").to(self.device)
        with torch.inference_mode():
            pooled = getattr(network(**pixels), "pooler_output", None)
        if pooled is None:
            raise UserError(f"{self.model}: gives no pooled output; name a network that does, as ConvNeXt")
        return np.asarray(pooled.reshape(len(images), -1).float().cpu().numpy())


class MobileNetFeatures(ImageEncoder):
    """The pooled features of a MobileNet v1 by timm, of any width, as the small world's NIMA has.

    Args:
        checkpoint: path of a .safetensors file with its state.
        side: pixels that it sees along each axis.
    """

    has_texts = False
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    incidental: ClassVar[frozenset[str]] = ImageEncoder.incidental | {"checkpoint"}

    checkpoint: str
    side: int = Field(224, ge=32)

    def weights(self) -> Section:
        """Check-sum the file; raises UserError where it is absent."""
        if not Path(self.checkpoint).is_file():
            raise UserError(f"{self.checkpoint}: no such file; give a MobileNet's state as .safetensors")
        return {"sha256": sha256(self.checkpoint)}

    @cached_property
    def _network(self) -> Any:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from timm.models.efficientnet import _gen_mobilenet_v1  # timm has no public name for other widths

        _ = self.weights()
        try:
            state = load_file(self.checkpoint)
            classes, features = state["classifier.weight"].shape
            network = _gen_mobilenet_v1(
                "mobilenetv1_100", features / 1024, pretrained=False, num_classes=classes, bn_eps=1e-3
            )
            network.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            line = str(error).strip().splitlines()[-1].strip()
            raise UserError(
                f"{self.checkpoint}: no state of timm's mobilenetv1_100 ({line}); give one"
            ) from error
        return network.eval().to(self.device)

    def encode_images(self, images: "Sequence[Image]") -> np.ndarray:
        """Encode a batch of images; see `ImageEncoder.encode_images`."""
        import torch

        rows = torch.from_numpy(_pixels(images, self.side)).permute(0, 3, 1, 2).to(self.device)
        with torch.inference_mode():
            network = self._network
            pooled = network.forward_head(network.forward_features(rows.float() / 127.5 - 1), pre_logits=True)
        return np.asarray(pooled.cpu().numpy())


class Pixels(ImageEncoder):
    """The pixels themselves, for a learner that trains an image network: side · side · 3 values, 0 to 255, row by row.

    Args:
        side: pixels along each axis; the shorter side is resized to it and the centre cropped.
    """

    has_texts = False
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)

    side: int = Field(224, ge=16)

    def encode_images(self, images: "Sequence[Image]") -> np.ndarray:
        """Encode a batch of images; see `ImageEncoder.encode_images`."""
        return _pixels(images, self.side).reshape(len(images), -1).astype(np.float32)


def _pixels(images: "Sequence[Image]", side: int) -> np.ndarray:
    """Resize the shorter side, bicubic, and crop the centre: uint8 [n, side, side, 3]."""
    from PIL import Image, ImageOps

    return np.stack(
        [np.asarray(ImageOps.fit(to_rgb(image), (side, side), Image.Resampling.BICUBIC)) for image in images]
    )
