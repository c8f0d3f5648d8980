"""NIMA: how a person would rate an image's beauty, from 1 to 10."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from promptroute.core.errors import UserError
from promptroute.core.image import to_rgb
from promptroute.core.outputs import Output
from promptroute.core.plain import Plain
from promptroute.io.files import sha256
from promptroute.io.weights import read_safetensors
from promptroute.runtime.decoding import each
from promptroute.scorers.base import ImageBatch, Scorer

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

SIDE = 224
_BLOCKS = (1, 2, 2, 6, 2)
"""timm groups MobileNet's 13 blocks in these stages."""


class Nima(Scorer):
    """Neural image assessment (Talebi & Milanfar 2018, arXiv 1709.05424) on MobileNet v1.

    The network gives a distribution over the ratings 1 to 10; the score is its mean: 1 to 10, higher is
    better. The way to the pixels is part of the score: `to_rgb` with alpha dropped, not blended; nearest-neighbour
    resize to side × side without regard to the aspect; x / 127.5 - 1.

    Settings:
        checkpoint: path of idealo/image-quality-assessment's Keras file (.hdf5), or of a .safetensors file with
            the state of timm's `mobilenetv1_100` with 10 classes (any float precision).
        sha256: what the file's checksum must be; None takes any.
        padding: how a 3 × 3 convolution of stride 2 pads. `symmetric`: a pixel on every side, as Keras 2.1.5
            and 2.1.6 did, with which idealo's weights were most likely trained. `asymmetric`: bottom and
            right only, as Keras does before and since. `auto`: what an HDF5 file's layer names say it was
            written with (`conv_pad_1` stands for symmetric); symmetric for safetensors.
        side: pixels that the network sees along each axis; 224 is NIMA's.
        width: of MobileNet's layers, as a share of its own (1 is NIMA's); None: what the weights have.
        batch_size: images per batch.
        device: torch device.
    """

    inputs = ImageBatch
    outputs = (Output("mean", "NIMA", 1.0, 10.0),)
    version = 2  # 16-bit grey is scaled
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm", "pillow")
    incidental: ClassVar[frozenset[str]] = frozenset({"batch_size", "device", "checkpoint", "sha256"})

    checkpoint: str
    sha256: str | None = None
    padding: Literal["auto", "symmetric", "asymmetric"] = "auto"
    side: int = Field(SIDE, ge=32)
    width: float | None = Field(default=None, gt=0)
    # MobileNet's many small kernels take a card some 5 ms, and the small world's a thread of a CPU 4 ms and 0.8 GB.
    profile: dict[str, float] | None = Field(default={"seconds": 0.005, "memory_gb": 1.0})
    device: str = "cpu"

    def weights(self) -> Mapping[str, str]:
        """Check-sum the file of weights.

        Raises:
            UserError: the file is absent, or another than `sha256` names.
        """
        return {"sha256": self._checked}

    @cached_property
    def _checked(self) -> str:
        if not Path(self.checkpoint).is_file():
            raise UserError(
                f"{self.checkpoint}: NIMA's weights are not there; for idealo's, fetch models/MobileNet/"
                f"weights_mobilenet_aesthetic_0.07.hdf5 of github.com/idealo/image-quality-assessment to that path"
            )
        found = sha256(self.checkpoint)
        if self.sha256 is not None and found != self.sha256:
            raise UserError(
                f"{self.checkpoint}: SHA-256 is {found}, expected {self.sha256}; fetch the file again"
            )
        return found

    @cached_property
    def _network(self) -> "torch.nn.Module":
        import torch
        from timm.models.efficientnet import _gen_mobilenet_v1  # timm has no public name for other widths

        _ = self._checked
        path = Path(self.checkpoint)
        if path.suffix == ".safetensors":
            state, found = read_safetensors(path), "symmetric"
        else:
            state, found = read_keras(path)
        padding = found if self.padding == "auto" else self.padding
        last = state.get("classifier.weight")
        width = self.width or (1.0 if last is None or last.ndim != 2 else last.shape[1] / 1024)
        network = _gen_mobilenet_v1(
            "mobilenetv1_100",
            width,
            pretrained=False,
            num_classes=10,
            bn_eps=1e-3,  # Keras's
            pad_type="same" if padding == "asymmetric" else "",
        )
        # Counters that only training reads; a file need not have them.
        needed = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
        lacking, extra = sorted(needed - set(state)), sorted(set(state) - set(network.state_dict()))
        if lacking or extra:
            raise UserError(
                f"{path}: not NIMA's MobileNet: lacks {lacking[:3]} ({len(lacking)}), has {extra[:3]} ({len(extra)}) "
                f"that it does not have; give idealo's file, or one saved from timm's mobilenetv1_100"
            )
        try:
            network.load_state_dict(
                {name: value.to(torch.float32) for name, value in state.items()}, strict=False
            )
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"{path}: not NIMA's MobileNet ({line})") from error
        return network.eval().to(self.device)

    def distributions(self, images: Sequence["Image"]) -> np.ndarray:
        """Predict the distribution of ratings: n images of any size and mode → float64 [n, 10], ratings 1 to 10."""
        import torch

        pixels = torch.from_numpy(np.stack(each(partial(to_pixels, side=self.side), images))).to(self.device)
        with torch.inference_mode():
            logits = self._network(pixels)
        return torch.softmax(logits.double(), dim=1).cpu().numpy()

    def score(self, batch: ImageBatch) -> Mapping[str, np.ndarray]:
        """Score n images by the mean rating."""
        return {"mean": self.distributions(batch.images) @ np.arange(1, 11)}


def to_pixels(image: "Image", side: int = SIDE) -> np.ndarray:
    """Turn an image into the network's input: float32 [3, side, side] in -1..1, RGB."""
    from PIL import Image

    image = to_rgb(image, drop_alpha=True)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.NEAREST)
    return np.ascontiguousarray(
        (np.asarray(image, np.float64) / 127.5 - 1).astype(np.float32).transpose(2, 0, 1)
    )


def _targets() -> list[tuple[str, str]]:
    """List (kind, name in timm) of each Keras layer that owns weights, in Keras's order."""
    layers = [("conv", "conv_stem"), ("norm", "bn1")]
    for stage, depth in enumerate(_BLOCKS):
        for block in range(depth):
            at = f"blocks.{stage}.{block}"
            layers += [("depthwise", f"{at}.conv_dw"), ("norm", f"{at}.bn1")]
            layers += [("conv", f"{at}.conv_pw"), ("norm", f"{at}.bn2")]
    return [*layers, ("dense", "classifier")]


def read_keras(path: Path) -> tuple[Plain, str]:
    """Read weights of idealo's NIMA from a Keras file.

    As Keras itself does, layers are matched by their order among those that own weights, not by name.

    Returns:
        The state of timm's `mobilenetv1_100` (name → float32 tensor), and the padding that the layers'
        names speak of: "symmetric" or "asymmetric".

    Raises:
        UserError: no HDF5 file, or not of this network.
    """
    import h5py  # type: ignore[import-untyped]
    import torch

    def text(value: object) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    try:
        with h5py.File(path, "r") as file:
            names = [text(name) for name in file.attrs["layer_names"]]
            owned = [[text(weight) for weight in file[name].attrs["weight_names"]] for name in names]
            values = [
                [np.asarray(file[name][weight], np.float32) for weight in weights]
                for name, weights in zip(names, owned, strict=True)
                if weights
            ]
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: not a readable file of Keras weights ({error}); fetch it again") from error
    targets = _targets()
    if len(values) != len(targets):
        raise UserError(f"{path}: {len(values)} layers own weights, NIMA's MobileNet has {len(targets)}")
    state = {}
    for (kind, name), arrays in zip(targets, values, strict=True):
        parts = {"conv": ["weight"], "depthwise": ["weight"], "dense": ["weight", "bias"]}.get(
            kind, ["weight", "bias", "running_mean", "running_var"]
        )
        if len(arrays) != len(parts):
            raise UserError(f"{path}: the layer for {name} has {len(arrays)} arrays, expected {len(parts)}")
        for part, array in zip(parts, arrays, strict=True):
            axes = {4: (2, 3, 0, 1) if kind == "depthwise" else (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
            state[f"{name}.{part}"] = torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))
    return state, "symmetric" if "conv_pad_1" in names else "asymmetric"
