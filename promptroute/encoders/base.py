"""What a text encoder is, and how many texts go through it."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import PositiveInt

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.runtime.device import arithmetic

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels


class TextEncoder(Component):
    """A frozen model that turns texts into vectors.

    Its `fingerprint` depends on what decides a vector alone, so it is equal for the same weights from the hub, a
    folder or a package: `weights` stands for every setting that says where they come from. It loads the model, and
    leaves out the libraries' versions: a saved router compares it on other machines.

    Args:
        batch_size: texts per batch that suits the model.
        device: torch device, as `cpu` or `cuda`.
    """

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"device", "batch_size", "model", "revision", "max_length"}
    )

    batch_size: PositiveInt = 64
    device: str = "cpu"

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch: n texts → float32 [n, d]. A row depends on its own text alone, to float tolerance.

        Raises:
            UserError: the model can't be loaded.
        """

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode` cuts off each of n texts, as too long; None where that is not known."""
        return [None] * len(texts)

    @abstractmethod
    def weights(self) -> Section:
        """Return `dim` (d), `max_length` (tokens), `weights_sha256`, and whatever else of the model decides a vector.

        Loads the model.
        """

    @property
    def description(self) -> Section:
        """Return what encodes, for people: its settings that say where it comes from, class, and `weights`."""
        source = {name: value for name, value in self if name in ("model", "revision")}
        return {**source, "encoder": type(self).__name__, **self.weights()}

    @property
    def sentence_width(self) -> int:
        """Return how many of the columns, the last ones, make the sentence embedding: all unless a class differs."""
        return int(self.weights()["dim"])


def encode_all(
    encoder: TextEncoder, texts: Sequence[str], batch_size: int | None = None, progress: bool = True
) -> np.ndarray:
    """Encode any number of texts, each different text once.

    Texts of similar length share a batch, so that little is padded, the longest first, so that running out of memory
    shows at once.

    Args:
        encoder: what turns a batch into vectors.
        texts: n texts, in any order, repeats allowed.
        batch_size: texts per batch; the encoder's own where None.
        progress: show a progress bar on stderr.

    Returns:
        float32 [n, d]; row i belongs to `texts[i]`.

    Raises:
        UserError: no texts, something that is not text, or an encoder that returned other rows than asked.
    """
    from tqdm import tqdm

    if not len(texts):
        raise UserError("there are no texts to encode; give at least one prompt")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {row} is {text!r}, not text; each prompt must be a string")
    size = encoder.batch_size if batch_size is None else batch_size
    if size < 1:
        raise UserError(f"batch_size is {size}; it must be 1 or more")
    # A lone surrogate (half of a broken emoji) is legal in a Python string, but no tokenizer takes it.
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    unique = sorted(set(clean), key=lambda text: (-len(text), text))
    rows: list[np.ndarray] = []
    with tqdm(total=len(unique), unit="text", desc="encode", disable=None if progress else True) as bar:
        for start in range(0, len(unique), size):
            batch = unique[start : start + size]
            vectors = encoder.encode(batch)
            if vectors.ndim != 2 or len(vectors) != len(batch):
                raise UserError(
                    f"{type(encoder).__name__} gave {vectors.shape} for {len(batch)} texts, not [n, d]"
                )
            if not np.isfinite(vectors).all():
                raise UserError(
                    f"{type(encoder).__name__} gave a value that is not finite; use dtype float32"
                )
            rows.append(np.asarray(vectors, np.float32))
            bar.update(len(batch))
    where = {text: row for row, text in enumerate(unique)}
    return np.concatenate(rows)[[where[text] for text in clean]]


class ImageEncoder(Component):
    """A frozen model that turns images and prompts into vectors of one space.

    Args:
        batch_size: images or prompts per batch.
        device: torch device.
    """

    has_texts: ClassVar[bool] = True
    """Whether it encodes prompts too; one that doesn't gives views of images to recover prompts from, and no scores."""

    batch_size: PositiveInt = 64
    device: str = "cpu"

    def encode_images(self, images: "Sequence[Pixels]") -> np.ndarray:
        """Encode a batch: n images of any size and mode → float32 [n, d], not normalised.

        Raises:
            UserError: the model can't be loaded.
        """
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch: n prompts → float32 [n, d], not normalised; what is too long is cut off.

        Raises:
            UserError: the model can't be loaded.
        """
        raise NotImplementedError

    def truncated(self, texts: Sequence[str]) -> list[int | None]:
        """Count the tokens that `encode_texts` cuts off each of n prompts; None where that is not known."""
        return [None] * len(texts)

    def fingerprint(self) -> Plain:
        """Give all that decides a vector but what is encoded: also the device."""
        return {**super().fingerprint(), "arithmetic": arithmetic(self.device)}
