"""An interrogator: what words describe an image, and their sentence embedding."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from promptroute.core.component import Component
from promptroute.core.image import to_rgb
from promptroute.core.plain import Section
from promptroute.encoders.base import ImageEncoder, TextEncoder
from promptroute.encoders.weights import load_with_processor
from promptroute.io.cache import digest
from promptroute.io.phrases import read_phrases
from promptroute.io.weights import weights_id

if TYPE_CHECKING:
    from PIL.Image import Image


class Blip(Component):
    """Captions by transformers' BLIP (Li et al. 2022, arXiv 2201.12086), greedily, as `Salesforce/blip-image-captioning-large`.

    Args:
        model: hub id, or path of a folder that `save_pretrained` wrote, with its processor.
        revision: for a hub id, the commit, 40 hexadecimal digits.
        tokens: a caption's length at most.
        device: torch device.
    """

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    incidental: ClassVar[frozenset[str]] = frozenset({"device", "model", "revision"})

    model: str
    revision: str | None = None
    tokens: PositiveInt = 32
    device: str = "cpu"

    def weights(self) -> Section:
        """Give the folder's checksum, or the hub id with its commit; raises UserError as `weights_id`."""
        return weights_id(self.model, self.revision)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from transformers import BlipForConditionalGeneration, BlipProcessor

        _ = self.weights()
        fix = "give a hub id with its commit, or a folder with a BLIP model and its processor"
        return load_with_processor(
            BlipProcessor,
            BlipForConditionalGeneration,
            self.model,
            self.revision,
            self.device,
            "the captioning model",
            fix,
        )

    def captions(self, images: "Sequence[Image]") -> list[str]:
        """Describe a batch of images in a few words each.

        Raises:
            UserError: the model can't be loaded.
        """
        import torch

        processor, network = self._parts
        pixels = processor(images=[to_rgb(image) for image in images], return_tensors="pt").to(self.device)
        with torch.inference_mode():
            made = network.generate(**pixels, max_new_tokens=self.tokens, do_sample=False, num_beams=1)
        return [text.strip() for text in processor.batch_decode(made, skip_special_tokens=True)]


class Interrogator(ImageEncoder):
    """The sentence embedding of words that describe an image: a caption, and the nearest phrases of each list.

    As CLIP Interrogator's fast mode puts a text together, from lists of our own or a file's. Prompts are encoded by the
    text encoder alone, so image and prompt share its space.

    Args:
        clip: finds the phrases: the nearest by the cosine of its image and text embeddings.
        text: the sentence encoder of the words.
        phrases: path of a file of lists; see `read_phrases`; None: our own.
        best: phrases of each list.
        caption: makes the caption that the text begins with; None: phrases alone.
    """

    clip: ImageEncoder
    text: TextEncoder
    phrases: str | None = None
    best: PositiveInt = 1
    caption: Blip | None = None

    incidental: ClassVar[frozenset[str]] = ImageEncoder.incidental | {"phrases"}

    def weights(self) -> Section:
        """Check-sum the lists; those of its parts are in its settings. Raises UserError as `read_phrases`."""
        return {"phrases": digest(read_phrases(self.phrases))}

    @cached_property
    def _on_device(self) -> "tuple[ImageEncoder, TextEncoder, Blip | None]":
        there = {"device": self.device}
        caption = None if self.caption is None else self.caption.model_copy(update=there)
        return self.clip.model_copy(update=there), self.text.model_copy(update=there), caption

    @cached_property
    def _lists(self) -> list[tuple[list[str], np.ndarray]]:
        """Return each list's phrases with their unit vectors by `clip`."""
        lists = list(read_phrases(self.phrases).values())
        size = self.clip.batch_size
        return [
            (phrases, np.concatenate([
                _unit(self._on_device[0].encode_texts(phrases[start : start + size]))
                for start in range(0, len(phrases), size)
            ]))
            for phrases in lists
        ]  # fmt: skip

    def texts(self, images: "Sequence[Image]") -> list[str]:
        """Describe each image of a batch: caption, then phrases, the nearest list's first, separated by commas."""
        clip, _, caption = self._on_device
        vectors = _unit(clip.encode_images(images))
        parts: list[list[tuple[float, str]]] = [[] for _ in images]
        for phrases, rows in self._lists:
            near = vectors @ rows.T
            for place, order in enumerate(np.argsort(-near, axis=1, kind="stable")[:, : self.best]):
                parts[place] += [(-float(near[place, which]), phrases[which]) for which in order]
        begun = [""] * len(images) if caption is None else caption.captions(images)
        return [
            ", ".join(filter(None, [begun[place], *dict.fromkeys(text for _, text in sorted(part))]))
            for place, part in enumerate(parts)
        ]

    def encode_images(self, images: "Sequence[Image]") -> np.ndarray:
        """Encode a batch of images by the words that describe them; see `ImageEncoder.encode_images`."""
        return self.encode_texts(self.texts(images))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch of prompts, each different one once; see `ImageEncoder.encode_texts`."""
        text = self._on_device[1]
        unique = sorted(set(texts), key=lambda one: (len(one), one))  # of one length together: little padding
        size = text.batch_size
        rows = np.concatenate(
            [text.encode(unique[start : start + size]) for start in range(0, len(unique), size)]
        )[:, -text.sentence_width :]
        at = {one: row for row, one in enumerate(unique)}
        return np.asarray(rows[[at[one] for one in texts]], np.float32)

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode_texts` cuts off each prompt; see `ImageEncoder.truncated`."""
        return self._on_device[1].truncated(texts)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
