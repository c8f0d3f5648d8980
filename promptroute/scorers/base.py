"""What a scorer is, and what it takes: one type of batch for each kind of input."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from promptroute.core.component import TARGET, Component, build, locate
from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.plain import Plain, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL.Image import Image


@dataclass(frozen=True)
class ImageBatch:
    """Images alone.

    Attributes:
        images: [n] decoded images of any size and mode.
    """

    images: "Sequence[Image]"


@dataclass(frozen=True)
class PromptedImageBatch:
    """Images with their prompts, row for row.

    Attributes:
        images: [n] decoded images of any size and mode.
        prompts: [n] the text that each was generated from.
    """

    images: "Sequence[Image]"
    prompts: "Sequence[str]"


@dataclass(frozen=True)
class EmbeddingBatch:
    """Stored embeddings of images and of their prompts, row for row, by the scorer's `encoder`.

    Attributes:
        images, prompts: float32 [n, d], of any length but 0; prompts by the encoder's text side.
    """

    images: "np.ndarray"
    prompts: "np.ndarray"


@dataclass(frozen=True)
class PromptGroupBatch:
    """Stored embeddings of all images of each of g prompts, by the scorer's `encoder`: one score a prompt.

    Attributes:
        images: float32 [n, d], of any length but 0.
        groups: int64 [n], which of the g prompts each image is of.
        prompts: float32 [g, d], by the encoder's text side.
    """

    images: "np.ndarray"
    groups: "np.ndarray"
    prompts: "np.ndarray"


Batch = ImageBatch | PromptedImageBatch | EmbeddingBatch | PromptGroupBatch


class Scorer(Component):
    """A component that scores images. One pass gives all of its outputs; nothing is loaded before the first.

    A class that computes on a device has a setting `device: str = "cpu"`, and is given it.

    Settings:
        batch_size: images (or prompts, for `PromptGroupBatch`) per batch; decides no score.
        profile: what scoring one image takes, its encoder's pass included: `seconds`, `memory_gb`, `gflops`, as of a
            model; counted until measured, and decides no score. Whoever looks before generating again pays for it.
    """

    inputs: ClassVar[type[Batch]]
    """The kind of batch that `score` takes."""
    outputs: ClassVar[tuple[Output, ...]]
    """What `score` gives: at least one score; maps and marks where the scorer has them."""

    batch_size: int = Field(default=64, ge=1)
    profile: dict[str, float] | None = None

    def fingerprint(self) -> Plain:
        """Give all that decides a score: everything but what it takes."""
        found = super().fingerprint()
        found["settings"].pop("profile", None)
        return found

    def score(self, batch: Any) -> Section:
        """Score one batch of type `inputs`.

        Returns:
            Each output's name → a score float64 [n]; a map [n] arrays [height, width]; marks [n] arrays [words], a
            value for each of `promptroute.core.outputs.words(prompt)`. For `PromptGroupBatch`, [g] in place of [n],
            NaN for a prompt that has too few images.
        """
        raise NotImplementedError


class EmbeddingScorer(Scorer):
    """A scorer of stored embeddings.

    Settings:
        encoder: name of the image encoder whose embeddings it takes, a key of `image_encoder`.
    """

    inputs: ClassVar[type[Batch]] = EmbeddingBatch
    encoder: str = Field(default="clip", pattern=r"^[a-z0-9_]+$")
    batch_size: int = Field(default=4096, ge=1)

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the folder of its encoder's embeddings."""
        return f"data/embeddings/{section.get('encoder', 'clip')}"

    @property
    def folder(self) -> Path:
        """Return the folder of its embeddings: prompts.parquet, and MODEL/part-*.parquet."""
        return Path("data/embeddings") / self.encoder


def build_scorer(section: Section, where: str, device: str) -> Scorer:
    """Make the scorer that a section describes, on a device if it computes on one.

    Raises:
        UserError: as `build`.
    """
    kind = locate(section.get(TARGET), Scorer, where)
    given = {"device": device} if "device" in kind.model_fields and "device" not in section else {}
    return build(section, where, Scorer, **given)


def check_encoders(scorers: Section, encoders: Collection[str]) -> None:
    """Refuse a scorer that takes embeddings by an encoder which the study lacks.

    Args:
        scorers: name → component; those that are no `EmbeddingScorer` are passed over.
        encoders: names of the study's image encoders.

    Raises:
        UserError: naming the scorer and the encoder.
    """
    for name, scorer in scorers.items():
        if isinstance(scorer, EmbeddingScorer) and scorer.encoder not in encoders:
            raise UserError(
                f"{name} takes embeddings by {scorer.encoder}, which image_encoder lacks; add it there, or name "
                f"one that it has ({', '.join(encoders) or 'none'})"
            )
