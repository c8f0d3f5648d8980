"""NIMA as the package pyiqa has it: other networks than idealo's, so other figures."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.runtime.hub import load_error

if TYPE_CHECKING:
    from PIL.Image import Image


class PyiqaNima:
    """The mean rating that pyiqa's NIMA predicts: 1 to 10, higher is better.

    Pictures go in at their own size, as RGB in 0..1; pyiqa normalises them. It fetches its weights itself, as a
    pickle that torch reads, so this is for those who trust them; `Nima` reads no pickle.

    Args:
        metric: pyiqa's name: `nima` (Inception-ResNet v2 on AVA) or `nima-vgg16-ava`.
        batch_size: pictures per batch.
        device: torch device.
    """

    def __init__(self, metric: str = "nima", batch_size: int = 16, device: str = "cpu") -> None:
        self.metric, self.batch_size, self.device = metric, batch_size, device

    @property
    def fingerprint_parts(self) -> Mapping[str, Any]:
        """All that decides a score.

        Raises:
            UserError: pyiqa is not installed.
        """
        try:
            installed = version("pyiqa")
        except PackageNotFoundError as error:
            raise _absent() from error
        return {"scorer": "pyiqa", "metric": self.metric, "pyiqa": installed}

    @cached_property
    def _network(self) -> Any:
        try:
            import pyiqa
        except ImportError as error:
            raise _absent() from error
        if self.metric not in (known := pyiqa.list_models(filter="nima*")):
            raise UserError(f"pyiqa has no metric {self.metric!r}; choose one of {', '.join(known)}")
        try:
            return pyiqa.create_metric(self.metric, device=self.device).eval()
        except Exception as error:  # pyiqa raises what its parts raise
            raise load_error(
                f"pyiqa's {self.metric}", self.device, self.metric, error, "check the network"
            ) from error

    def score(self, pictures: Sequence["Image"]) -> np.ndarray:
        """n pictures of any size and mode → float64 [n], the mean rating."""
        import torch

        pixels = [
            torch.from_numpy(np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 255)
            for picture in pictures
        ]
        alike = len({tuple(one.shape) for one in pixels}) == 1
        batches = [torch.stack(pixels)] if alike else [one[None] for one in pixels]
        with torch.inference_mode():
            scores = [self._network(batch.to(self.device)).reshape(-1) for batch in batches]
        return torch.cat(scores).double().cpu().numpy()


def _absent() -> UserError:
    return UserError(
        "scorers: pyiqa is not installed; install it with `pip install promptroute[pyiqa]`, or choose "
        "promptroute.scorers.nima.Nima (scorers=paper)"
    )
