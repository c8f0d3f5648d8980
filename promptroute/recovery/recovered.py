"""A trained recovery: one folder that takes images and gives back prompts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from promptroute.core.component import Component, build
from promptroute.core.errors import CORRUPT, UserError, reason
from promptroute.io.cache import digest
from promptroute.io.files import atomic_path, read_json, write_json
from promptroute.recovery.learners.base import Learner
from promptroute.recovery.texts import Bank, Recovered, Sentences, compose, ranked
from promptroute.recovery.vectors import Views

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT = 1
FACTS, ARRAYS = "recovery.json", "arrays.safetensors"
ALLOWED = ("promptroute.recovery.", "promptroute.encoders.")
"""Packages whose classes a recovery folder may name without its reader's leave."""


@runtime_checkable
class ImageSide(Protocol):
    """What encodes images."""

    def encode_images(self, images: "Sequence[Image]") -> np.ndarray:
        """Encode a batch: n images → float32 [n, d]."""
        ...


@dataclass(frozen=True)
class Recovery:
    """Everything from an image to text.

    Attributes:
        learner: fitted.
        views: view → the encoder that makes it; those of the learner, in its order.
        text: the sentence encoder of the prompts.
        bank: prompts to retrieve.
        phrases: lists to compose of.
        made_with: view, or `text` → digest of the encoder's weights at the fit.
    """

    learner: Learner
    views: Mapping[str, Component]
    text: Component
    bank: Bank
    phrases: Mapping[str, Sequence[str]]
    made_with: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def sentences(self) -> Sentences:
        """Return what encodes texts."""
        self._check_weights("text", self.text)
        return Sentences(self.text)

    def embed(self, images: "Sequence[Image]") -> dict[str, np.ndarray]:
        """Encode n images by each view's encoder.

        Raises:
            UserError: there is no image, an encoder can't be loaded, or has other weights than at the fit.
        """
        if not len(images):
            raise UserError("there are no images; give at least one")
        found = {}
        for name, encoder in self.views.items():
            if not isinstance(encoder, ImageSide):
                raise UserError(
                    f"view {name}: {type(encoder).__name__} encodes no images; name an image encoder"
                )
            self._check_weights(name, encoder)
            size = int(getattr(encoder, "batch_size", 64))
            parts = [
                encoder.encode_images(images[start : start + size]) for start in range(0, len(images), size)
            ]
            found[name] = np.concatenate(parts)
        return found

    def _check_weights(self, name: str, encoder: Component) -> None:
        made = self.made_with.get(name)
        if made is not None and digest(dict(encoder.weights())) != made:
            raise UserError(
                f"the encoder {name} has other weights on this machine than those that the recovery was trained with; "
                f"install these, or train it again"
            )

    def predict(self, views: Views) -> np.ndarray:
        """Predict prompts' sentence embeddings from views: float32 [n, d], unit length. Raises as `Learner.predict`."""
        return self.learner.predict(views)

    def compose(self, predicted: np.ndarray, captions: Sequence[str] | None = None) -> list[Recovered]:
        """Set phrases together for each of n predicted embeddings; see `promptroute.recovery.texts.compose`."""
        return compose(predicted, self.phrases, self.sentences, mean=self.bank.mean, captions=captions)

    def texts(
        self, predicted: np.ndarray, k: int = 5, captions: Sequence[str] | None = None
    ) -> list[list[Recovered]]:
        """Turn predicted embeddings [n, d] into text: for each the k nearest of retrieved and composed ones, best first.

        Args:
            captions: what composed texts begin with; None: nothing.
        """
        retrieved = self.bank.retrieve(predicted, k)
        composed = self.compose(predicted, captions)
        return [ranked(some, [one], k=k) for some, one in zip(retrieved, composed, strict=True)]

    def prompts(self, images: "Sequence[Image]", k: int = 5) -> list[list[Recovered]]:
        """Recover prompts: for each of n images k candidates, best first.

        Raises:
            UserError: as `embed`.
        """
        return self.texts(self.predict(self.embed(images)), k)

    def save(self, folder: Path | str) -> None:
        """Write it as JSON and safetensors; a folder that exists is replaced whole."""
        from safetensors.numpy import save_file

        facts, arrays = self.learner.state()
        kept = {f"learner.{name}": value for name, value in arrays.items()}
        kept["bank"] = np.asarray(self.bank.vectors, np.float32)
        encoders = {**self.views, "text": self.text}
        written = {
            "format": FORMAT,
            "learner": self.learner.to_section(),
            "state": facts,
            "views": {name: encoder.to_section() for name, encoder in self.views.items()},
            "text": self.text.to_section(),
            "made_with": {name: digest(dict(encoder.weights())) for name, encoder in encoders.items()},
            "phrases": {name: list(some) for name, some in self.phrases.items()},
            "bank": list(self.bank.texts),
        }
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            write_json(temporary / FACTS, written, digits=17)
            save_file({name: np.ascontiguousarray(value) for name, value in kept.items()}, temporary / ARRAYS)

    @classmethod
    def load(cls, folder: Path | str, allow: Collection[str] = (), device: str = "cpu") -> "Recovery":
        """Read a folder that `save` wrote. Runs no code from it, reads no pickle, and loads no encoder yet.

        Args:
            folder: may come from a stranger.
            allow: dotted paths of classes, or packages (ending with a dot), that it may name besides those of this
                library.
            device: torch device of its encoders.

        Raises:
            UserError: the folder is absent, corrupt, of another format, or names a class that isn't allowed.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        if not (folder / FACTS).is_file():
            raise UserError(f"{folder}: no recovery there; train one first")
        facts = read_json(folder / FACTS)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            found = facts.get("format") if isinstance(facts, dict) else None
            raise UserError(
                f"{folder / FACTS}: a recovery of format {found}, expected {FORMAT}; train it again"
            )

        def made(section: Any, where: str, kind: type[Any]) -> Any:
            return build(section, f"{folder / FACTS}: {where}", kind, (*ALLOWED, *allow))

        try:
            arrays = load_file(folder / ARRAYS)
            bank = Bank(facts["bank"], arrays.pop("bank"))
            learner = made(facts["learner"], "learner", Learner)
            learned = {name.removeprefix("learner."): value for name, value in arrays.items()}
            learner.restore(facts["state"], learned)
            views = {name: made(facts["views"][name], f"views.{name}", Component) for name in learner.widths}
            given = [*views.values(), made(facts["text"], "text", Component)]
            *encoders, text = [
                one.model_copy(update={"device": device}) if "device" in type(one).model_fields else one
                for one in given
            ]
            loaded = cls(learner, dict(zip(views, encoders, strict=True)), text, bank, facts["phrases"], facts["made_with"])  # fmt: skip
            tried = loaded.predict({name: np.zeros((1, width)) for name, width in learner.widths.items()})
            if tried.shape != (1, bank.vectors.shape[1]) or not np.isfinite(tried).all():
                raise ValueError(f"it predicts {tried.shape} for a bank {bank.vectors.shape}")
        except UserError:
            raise
        except (*CORRUPT, SafetensorError) as error:
            raise UserError(f"{folder}: not a whole recovery ({reason(error)}); train it again") from error
        return loaded
