"""CLIP models through open_clip: images and prompts → vectors of one space."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import model_validator

from promptroute.core.errors import UserError
from promptroute.core.image import to_rgb
from promptroute.core.plain import Plain, Section
from promptroute.encoders.base import ImageEncoder
from promptroute.io.files import sha256
from promptroute.io.weights import require_commit, weights_id
from promptroute.runtime.decoding import each
from promptroute.runtime.device import pick_dtype
from promptroute.runtime.hub import load_error

if TYPE_CHECKING:
    from PIL.Image import Image


SAFE_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""What open_clip's repositories on the hub call their weights, where a tag doesn't say."""


class OpenClip(ImageEncoder):
    """A CLIP model (Radford et al. 2021, arXiv 2103.00020): both sides' projected embeddings.

    Args:
        model: an architecture that open_clip knows, as `ViT-B-32`; or the path of a folder with
            open_clip_config.json and open_clip_model.safetensors.
        pretrained: for an architecture, the tag of its weights, as `openai` or `laion2b_s12b_b42k`, or the
            path of a .safetensors file; unused for a folder.
        revision: for a tag, the commit of its repository on the hub, 40 hexadecimal digits.
        dtype: auto (float16 on a GPU, float32 on the CPU), or float32, float16, bfloat16.
    """

    model: str
    pretrained: str | None = None
    revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    version = 2  # 16-bit grey is scaled, transparent pixels are blended with white
    libraries = ("open_clip_torch",)
    incidental = ImageEncoder.incidental | {"model", "pretrained", "revision", "dtype"}

    @model_validator(mode="after")
    def _suits_the_device(self) -> Self:
        try:
            _ = self.precision
        except UserError as error:
            raise ValueError(str(error).removeprefix(f"CLIP {self.model}: ")) from error
        return self

    @cached_property
    def precision(self) -> str:
        """Return the torch dtype's name that `dtype` means on the device."""
        return pick_dtype(self.dtype, self.device, f"CLIP {self.model}")

    def weights(self) -> Section:
        """Give the checksum of a folder or file, or the tag with its commit; and the precision.

        Raises:
            UserError: no such folder or file, or a tag without a commit.
        """
        return {**self._weights, "precision": self.precision}

    @cached_property
    def _weights(self) -> Section:
        if Path(self.model).is_dir():
            if self.pretrained is not None:
                raise UserError(
                    f"CLIP {self.model}: is a folder with weights of its own, so pretrained={self.pretrained} would change "
                    f"nothing; set pretrained to null"
                )
            return weights_id(self.model, None)
        if self._file is not None:
            return {"model": self.model, "pretrained": sha256(self._file)}
        if self.pretrained is None:
            raise UserError(
                f"CLIP {self.model}: no such folder, and pretrained names no weights; give a tag or a file"
            )
        require_commit(f"CLIP {self.model} ({self.pretrained}):", self.revision)
        return {"model": self.model, "pretrained": self.pretrained, "revision": self.revision}

    @property
    def _file(self) -> Path | None:
        """Return the weights, where these are a file of the user's own."""
        if self.pretrained is None or not Path(self.pretrained).is_file():
            return None
        if Path(self.pretrained).suffix != ".safetensors":
            raise UserError(
                f"{self.pretrained}: give a .safetensors file; other formats can run code when read"
            )
        return Path(self.pretrained)

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        """Return the network, what turns an image into its input, and the tokenizer."""
        import open_clip

        _ = self._weights  # refuses weights that are unsafe, or that may change under their name
        folder = Path(self.model).is_dir()
        name = f"local-dir:{self.model}" if folder else self.model
        try:
            network, _, preprocess = open_clip.create_model_and_transforms(
                name,
                precision={"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[self.precision],
                device=self.device,
                weights_only=True,
                **(
                    {}
                    if folder
                    else self._tagged()
                    if self._file is None
                    else {"pretrained": self.pretrained}
                ),
            )
            tokenizer = open_clip.get_tokenizer(name)
        except UserError:
            raise
        except Exception as error:  # open_clip raises what its parts raise
            raise self._load_error(self.model, error) from error
        return network.eval(), preprocess, tokenizer

    def _tagged(self) -> Plain:
        """Return what a tag means: its weights, fetched, and how they were trained.

        open_clip would fall back on a pickle where the safe file bears another name than it looks for, would
        take whatever the branch holds, and would run OpenAI's weights with another activation than theirs.
        """
        import open_clip
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        about = open_clip.get_pretrained_cfg(self.model, str(self.pretrained))
        repository, _, file = about.get("hf_hub", "").rpartition("/")
        if not repository:
            raise ValueError(f"open_clip knows no weights {self.pretrained} on the hub for {self.model}")
        for name in [Path(file).with_suffix(".safetensors").name] if file else SAFE_NAMES:
            try:
                path = hf_hub_download(repository, name, revision=self.revision)
                break
            except EntryNotFoundError as error:
                absent = error
            except Exception as error:
                raise self._load_error(repository, error) from error
        else:
            raise self._load_error(repository, absent) from absent
        return {
            "pretrained": path,
            "force_quick_gelu": about.get("quick_gelu", False),
            **{
                f"image_{setting}": about.get(setting)
                for setting in ("mean", "std", "interpolation", "resize_mode")
            },
        }

    def _load_error(self, place: str, error: Exception) -> UserError:
        return load_error(
            f"the CLIP model {self.model} ({self.pretrained})",
            self.device,
            place,
            error,
            "check its name and tag (open_clip.list_pretrained()), or give a folder with "
            "open_clip_config.json and open_clip_model.safetensors",
        )

    def encode_images(self, images: Sequence["Image"]) -> np.ndarray:
        """Encode a batch of images, as `to_rgb` reads them; see `ImageEncoder.encode_images`."""
        import torch

        network, preprocess, _ = self._parts
        pixels = torch.stack(each(lambda image: preprocess(to_rgb(image)), images)).to(self.device)
        with torch.inference_mode():
            return network.encode_image(pixels.to(getattr(torch, self.precision))).float().cpu().numpy()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch of prompts; see `ImageEncoder.encode_texts`."""
        import torch

        network, _, tokenizer = self._parts  # which keeps the token that ends a text, where it cuts
        with torch.inference_mode():
            return network.encode_text(tokenizer(list(texts)).to(self.device)).float().cpu().numpy()

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode_texts` cuts off each of n prompts; see `ImageEncoder.truncated`."""
        tokenizer = self._parts[2]
        if hasattr(tokenizer, "encode"):  # open_clip's own
            lengths = [len(tokenizer.encode(text)) + 2 for text in texts]
        else:
            ids = tokenizer.tokenizer([tokenizer.clean_fn(text) for text in texts], truncation=False)
            lengths = list(map(len, ids["input_ids"]))
        return [max(length - tokenizer.context_length, 0) for length in lengths]
