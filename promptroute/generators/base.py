"""What a text-to-image model can do."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from promptroute.core.component import Component, build, locate
from promptroute.core.plain import Plain, Section
from promptroute.runtime.batching import Failure
from promptroute.runtime.device import arithmetic

Generated = np.ndarray | bytes | Failure
"""One image: [height, width, 3] RGB, float32 in 0..1 or uint8; or an image file's bytes; or why there is none."""


class Generator(Component):
    """A text-to-image model. Subclass `LocalGenerator` or `RemoteGenerator`; nothing is loaded before `load`.

    Args:
        batch_size: images per call of `generate`, 1 or more.
    """

    batch_size: int = Field(1, ge=1)

    @property
    def concurrent(self) -> int:
        """Return how many threads may call `generate` at once."""
        return 1

    def load(self) -> None:
        """Load what generating needs; does nothing when called again.

        Raises:
            UserError: it can't be loaded.
        """

    def check(self) -> tuple[int, int] | None:
        """Load it, as a check before a long run, and return its images' width and height in pixels.

        None where only the first image tells.

        Raises:
            UserError: as `load`.
        """
        self.load()
        return None

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        """Generate one batch, after `load`; called by `concurrent` threads at once.

        Args:
            prompts: n texts.
            seeds: n numbers. A local model's noise is that of `torch.Generator("cpu").manual_seed(seed)`, for each
                image its own.

        Returns:
            n images, or why one could not be generated.
        """
        raise NotImplementedError

    def truncated(self, prompts: Sequence[str]) -> list[int | None]:
        """Count the tokens of each of n prompts that the model can't take in, after `load`; None where not known."""
        return [None] * len(prompts)


class LocalGenerator(Generator):
    """A model that computes on a device of this machine.

    Args:
        device: torch device.
        streams: batches that a GPU computes at once, so that decoding overlaps with denoising; 1 takes less of its
            memory. On the CPU as many run at once as torch has threads, each on one.
    """

    device: str = "cpu"
    streams: int = Field(2, ge=1)

    incidental = Generator.incidental | {"streams"}

    @property
    def concurrent(self) -> int:
        """Return the streams of a GPU."""
        return self.streams

    @property
    def on_cpu(self) -> bool:
        """Tell whether it computes on the CPU, where batches must have one size (see `UniformBatches`)."""
        return self.device.startswith("cpu")

    @property
    def one_size(self) -> bool:
        """Tell whether a batch of another size than the last one takes long to prepare, as compiled networks do."""
        return False

    def fingerprint(self) -> Plain:
        """Give all that decides an image but its prompt and seed: also the device, and on the CPU the batch's size."""
        batch = {"batch_size": self.batch_size} if self.on_cpu else {}
        return {**super().fingerprint(), "arithmetic": {**arithmetic(self.device), **batch}}


class RemoteGenerator(Generator):
    """A model behind a service: an image is paid for, requests are counted, and some fail for no lasting reason.

    Args:
        rate: requests a second at most; None: as many as there are.
        retries: how often a request that failed is tried again, after a second, then two, then four …
        requests: requests at once.
    """

    rate: float | None = Field(None, gt=0)
    retries: int = Field(3, ge=0)
    requests: int = Field(4, ge=1)

    incidental = Generator.incidental | {"rate", "retries", "requests"}

    @property
    def concurrent(self) -> int:
        """Return the requests at once."""
        return self.requests


def build_generator(section: Section, where: str, device: str) -> Generator:
    """Make the generator that a section describes, on a device where it is local.

    Raises:
        UserError: as `build`.
    """
    target = section.get("_target_") if isinstance(section, Mapping) else None
    local = target is not None and issubclass(locate(target, Generator, where), LocalGenerator)
    return build(section, where, Generator, **({"device": device} if local else {}))


def in_8_bits(image: np.ndarray) -> np.ndarray:
    """Round an image [height, width, 3] of float32 in 0..1 to uint8, as diffusers rounds; one of uint8 is given back."""
    return image if image.dtype == np.uint8 else (image * 255).round().astype(np.uint8)


def image_or_failure(image: np.ndarray) -> Generated:
    """Return the image, or a failure where it is none: of no such shape, a value not finite or out of 0..1, one colour."""
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        return Failure(NO_SHAPE)
    if not np.isfinite(image).all():
        return Failure(NOT_FINITE)
    if image.dtype != np.uint8 and (image.min() < -_ROUNDING or image.max() > 1 + _ROUNDING):
        return Failure(OUT_OF_RANGE)
    # Each pixel against the next, for numpy takes 20 times as long to reduce over all but the colours.
    values = in_8_bits(image).reshape(-1)
    return Failure(ONE_COLOUR) if np.array_equal(values[3:], values[:-3]) else image


_ROUNDING = 0.49 / 255
"""What 8 bits round away."""
NO_SHAPE = "the model gave an array that is not [height, width, 3]"
OUT_OF_RANGE = "the model gave values outside of 0 to 1"
NOT_FINITE = "the model gave values that are not finite"
ONE_COLOUR = "the model gave an image of one colour"
WITHHELD = "the model's safety checker withheld the image"
