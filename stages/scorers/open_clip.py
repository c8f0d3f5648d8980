"""CLIP models through open_clip: pictures and prompts → vectors in one space."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.records import BadInput
from stages.runtime import pick_dtype
from stages.runtime.hub import load_error
from stages.store import sha256
from stages.store.weights import weights_id

if TYPE_CHECKING:
    from PIL.Image import Image


class OpenClip:
    """A CLIP model (Radford et al. 2021, arXiv 2103.00020): both sides' projected embeddings.

    Args:
        model: an architecture that open_clip knows, as `ViT-B-32`; or the path of a folder with
            open_clip_config.json and open_clip_model.safetensors.
        pretrained: for an architecture, the tag of its weights, as `openai` or `laion2b_s12b_b42k`, or the
            path of a .safetensors file; unused for a folder.
        batch_size: pictures or prompts per batch.
        device: torch device.
        dtype: `auto` (float16 on a GPU, float32 on the CPU), or float32, float16, bfloat16.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        batch_size: int = 32,
        device: str = "cpu",
        dtype: str = "auto",
    ) -> None:
        self.model, self.pretrained = model, pretrained
        self.batch_size, self.device = batch_size, device
        self.dtype = pick_dtype(dtype, device, f"CLIP {model}")

    @property
    def fingerprint_parts(self) -> Mapping[str, Any]:
        """All that decides an embedding; reads local weights, to check-sum them."""
        weights: dict[str, str | None] = {"model": self.model, "pretrained": self.pretrained}
        if Path(self.model).is_dir():
            weights = {**weights_id(self.model, None)}
        elif self.pretrained is not None and Path(self.pretrained).is_file():
            weights["pretrained"] = sha256(self.pretrained)
        return {"weights": weights, "dtype": self.dtype, "open_clip": version("open_clip_torch")}

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        """The network, the picture's way to its input, and the tokenizer."""
        import open_clip

        folder = Path(self.model).is_dir()
        if folder:
            weights_id(self.model, None)
        elif self.pretrained is None:
            raise BadInput(
                f"CLIP {self.model}: no such folder, and pretrained names no weights; give a tag or a file"
            )
        elif Path(self.pretrained).is_file() and Path(self.pretrained).suffix != ".safetensors":
            raise BadInput(
                f"{self.pretrained}: give a .safetensors file; other formats can run code when read"
            )
        name = f"local-dir:{self.model}" if folder else self.model
        try:
            network, _, preprocess = open_clip.create_model_and_transforms(
                name,
                pretrained=None if folder else self.pretrained,
                precision={"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[self.dtype],
                device=self.device,
                weights_only=True,
            )
            tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # open_clip raises what its parts raise
            raise load_error(
                f"the CLIP model {self.model} ({self.pretrained})",
                self.device,
                self.model,
                error,
                "check its name and tag (open_clip.list_pretrained()), or give a folder with "
                "open_clip_config.json and open_clip_model.safetensors",
            ) from error
        return network.eval(), preprocess, tokenizer

    def encode_images(self, pictures: Sequence["Image"]) -> np.ndarray:
        """One batch: n pictures → float32 [n, d], not normalised."""
        import torch

        network, preprocess, _ = self._parts
        pixels = torch.stack([preprocess(picture.convert("RGB")) for picture in pictures]).to(self.device)
        with torch.inference_mode():
            return network.encode_image(pixels.to(getattr(torch, self.dtype))).float().cpu().numpy()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """One batch: n prompts → float32 [n, d], not normalised; what is too long is cut off."""
        import torch

        network, _, tokenizer = self._parts
        with torch.inference_mode():
            return network.encode_text(tokenizer(list(texts)).to(self.device)).float().cpu().numpy()
