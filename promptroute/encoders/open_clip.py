"""CLIP models through open_clip: pictures and prompts → vectors in one space."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.io.files import sha256
from promptroute.io.weights import require_commit, weights_id
from promptroute.runtime.device import pick_dtype
from promptroute.runtime.hub import load_error

if TYPE_CHECKING:
    from PIL.Image import Image


SAFE_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""What open_clip's repositories on the hub call their weights, where a tag doesn't say."""


class OpenClip:
    """A CLIP model (Radford et al. 2021, arXiv 2103.00020): both sides' projected embeddings.

    Args:
        model: an architecture that open_clip knows, as `ViT-B-32`; or the path of a folder with
            open_clip_config.json and open_clip_model.safetensors.
        pretrained: for an architecture, the tag of its weights, as `openai` or `laion2b_s12b_b42k`, or the
            path of a .safetensors file; unused for a folder.
        revision: for a tag, the commit of its repository on the hub, 40 hexadecimal digits.
        batch_size: pictures or prompts per batch.
        device: torch device.
        dtype: `auto` (float16 on a GPU, float32 on the CPU), or float32, float16, bfloat16.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        revision: str | None = None,
        batch_size: int = 32,
        device: str = "cpu",
        dtype: str = "auto",
    ) -> None:
        self.model, self.pretrained, self.revision = model, pretrained, revision
        self.batch_size, self.device = batch_size, device
        self.dtype = pick_dtype(dtype, device, f"CLIP {model}")

    @cached_property
    def fingerprint_parts(self) -> Mapping[str, Any]:
        """All that decides an embedding; reads local weights, to check-sum them.

        Raises:
            UserError: no such folder or file, or a tag without a commit.
        """
        weights: Mapping[str, str | None]
        if Path(self.model).is_dir():
            weights = weights_id(self.model, None)
        elif self._file is not None:
            weights = {"model": self.model, "pretrained": sha256(self._file)}
        else:
            if self.pretrained is None:
                raise UserError(
                    f"CLIP {self.model}: no such folder, and pretrained names no weights; give a tag or a file"
                )
            require_commit(f"CLIP {self.model} ({self.pretrained}):", self.revision)
            weights = {"model": self.model, "pretrained": self.pretrained, "revision": self.revision}
        return {"weights": weights, "dtype": self.dtype, "open_clip": version("open_clip_torch")}

    @property
    def _file(self) -> Path | None:
        """The weights, where these are a file of the user's own."""
        if self.pretrained is None or not Path(self.pretrained).is_file():
            return None
        if Path(self.pretrained).suffix != ".safetensors":
            raise UserError(
                f"{self.pretrained}: give a .safetensors file; other formats can run code when read"
            )
        return Path(self.pretrained)

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        """The network, the picture's way to its input, and the tokenizer."""
        import open_clip

        _ = self.fingerprint_parts  # refuses weights that are unsafe, or that may change under their name
        folder = Path(self.model).is_dir()
        name = f"local-dir:{self.model}" if folder else self.model
        try:
            network, _, preprocess = open_clip.create_model_and_transforms(
                name,
                precision={"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[self.dtype],
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

    def _tagged(self) -> dict[str, Any]:
        """What a tag stands for: its weights, fetched, and how they were trained.

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
