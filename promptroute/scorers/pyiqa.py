"""Any metric of the package pyiqa that judges an image by itself, or by its prompt."""

import re
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from promptroute.core.errors import UserError
from promptroute.core.image import to_rgb
from promptroute.core.outputs import Output
from promptroute.core.plain import Section
from promptroute.runtime.hub import load_error
from promptroute.scorers.base import ImageBatch, PromptedImageBatch, Scorer

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_OF_SETS = ("FID", "InceptionScore")
"""Networks of metrics that pyiqa lists as without a reference, and that judge a set of images."""


class Pyiqa(Scorer):
    """A metric of pyiqa (IQA-PyTorch) by its name, under a scorer name of its own; never under `nima`, as pyiqa's
    NIMA is another network than `promptroute.scorers.nima.Nima`.

    Direction and range are those that pyiqa declares; a bound that it gives as approximate (`~0`), or not at all,
    is infinite. Images go in at their own size, as `to_rgb` gives them, in 0..1; pyiqa normalises them. It fetches its
    weights itself, most of them as a pickle that torch reads, so this is for those who trust them.

    Settings:
        metric: pyiqa's name, as `musiq` or `clipiqa`: one without a reference image (pyiqa's mode NR). One that takes
            a caption, as `clipscore`, is given the prompt.
        batch_size: images per batch.
        device: torch device.
    """

    metric: str
    batch_size: int = Field(16, ge=1)
    device: str = "cpu"

    version = 2  # 16-bit grey is scaled, transparent pixels are blended with white
    libraries: ClassVar[tuple[str, ...]] = ("pyiqa", "torch")

    def weights(self) -> Mapping[str, str]:
        """Name the metric, whose weights pyiqa's own version settles.

        Raises:
            UserError: pyiqa is not installed.
        """
        _installed()
        return {"metric": self.metric}

    @cached_property
    def _declared(self) -> Section:
        """Return what pyiqa declares of the metric: metric_opts, metric_mode, and perhaps lower_better, score_range."""
        _installed()
        from pyiqa.default_model_configs import DEFAULT_CONFIGS

        known = [
            name
            for name, about in DEFAULT_CONFIGS.items()
            if about["metric_mode"] == "NR" and about["metric_opts"]["type"] not in _OF_SETS
        ]
        if self.metric not in known:
            raise UserError(
                f"pyiqa: {self.metric!r} is no metric of an image without a reference; choose one of {', '.join(known)}"
            )
        declared: Section = DEFAULT_CONFIGS[self.metric]
        return declared

    @property
    def inputs(self) -> type[ImageBatch | PromptedImageBatch]:  # type: ignore[override]
        """Take images, and their prompts where the metric compares an image with a caption."""
        return PromptedImageBatch if self._captioned else ImageBatch

    @property
    def _captioned(self) -> bool:
        return bool(self._declared["metric_opts"]["type"] == "CLIPScore")

    @property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        """Give one score, with the direction and range that pyiqa declares."""
        low, high = _bounds(str(self._declared.get("score_range", "")))
        higher = not self._declared.get("lower_better", False)
        return (Output("score", f"{self.metric} (pyiqa)", low, high, higher),)

    @cached_property
    def _network(self) -> "torch.nn.Module":
        _ = self._declared
        import pyiqa

        try:
            return pyiqa.create_metric(self.metric, device=self.device).eval()
        except Exception as error:  # pyiqa raises what its parts raise
            raise load_error(
                f"pyiqa's {self.metric}", self.device, self.metric, error, "check the network"
            ) from error

    def score(self, batch: ImageBatch | PromptedImageBatch) -> Mapping[str, np.ndarray]:
        """Score n images; those of one size together."""
        import torch

        pixels = [torch.from_numpy(_pixels(image)) for image in batch.images]
        captions = list(batch.prompts) if isinstance(batch, PromptedImageBatch) else None
        alike = len({tuple(image.shape) for image in pixels}) == 1
        parts = [range(len(pixels))] if alike else [range(i, i + 1) for i in range(len(pixels))]
        scores = []
        with torch.inference_mode():
            for part in parts:
                more = {} if captions is None else {"caption_list": [captions[i] for i in part]}
                together = torch.stack([pixels[i] for i in part]).to(self.device)
                scores.append(self._network(together, **more).reshape(-1))
        return {"score": torch.cat(scores).double().cpu().numpy()}


def _pixels(image: "Image") -> np.ndarray:
    """Turn an image into float32 [3, height, width] in 0..1, RGB."""
    return np.asarray(to_rgb(image), np.float32).transpose(2, 0, 1) / 255


def _bounds(declared: str) -> tuple[float, float]:
    """Read pyiqa's `LOW, HIGH`; a bound with `~` before it, or none, is infinite."""
    bounds = [part.strip() for part in declared.split(",")]
    if len(bounds) != 2:
        return -np.inf, np.inf
    exact = [float(part) if re.fullmatch(r"-?\d+(\.\d+)?", part) else None for part in bounds]
    low, high = exact
    return (-np.inf if low is None else low), (np.inf if high is None else high)


def _installed() -> None:
    """Refuse to go on without pyiqa.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("pyiqa") is None:
        raise UserError("pyiqa is not installed; install it with `pip install promptroute[pyiqa]`")
