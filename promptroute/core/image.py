"""A generated image, and the Arrow schema of a shard of them."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from promptroute.core.errors import UserError
from promptroute.core.rows import column

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

ORIENTATION = 0x0112
"""The EXIF tag of how an image is to be turned."""
STATUSES = ("ok", "failed")


@dataclass(frozen=True)
class Image:
    """A row of data/images/MODEL/part-*.parquet, whose rows are in the order of (prompt, seed).

    An image that could not be generated is a row too, with `status` failed, a `reason`, and no bytes.
    """

    prompt_id: str = column()
    prompt: str = column()
    """The prompt's text, so that a shard means something by itself."""
    model: str = column()
    seed: int = column(low=0)
    """`torch.Generator("cpu").manual_seed(seed)` made this image's noise."""
    status: str = column(values=STATUSES)
    reason: str | None = column()
    width: int | None = column(unit="pixels", low=1)
    height: int | None = column(unit="pixels", low=1)
    image: bytes | None = column()
    """An image file's bytes, PNG where it is ours; on disk a struct {bytes, path}, as `datasets` stores images."""
    truncated: int | None = None
    """Tokens of the prompt that none of the model's text encoders took in, at least 0; null where not known."""

    @property
    def key(self) -> tuple[str, int]:
        """Return what decides the image, under one model: prompt and seed."""
        return self.prompt, self.seed


_FIELDS: dict[str, tuple[pa.DataType, bool]] = {
    "prompt_id": (pa.string(), False),
    "prompt": (pa.string(), False),
    "model": (pa.string(), False),
    "seed": (pa.int64(), False),
    "status": (pa.string(), False),
    "reason": (pa.string(), True),
    "width": (pa.int32(), True),
    "height": (pa.int32(), True),
    "image": (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), True),
    "truncated": (pa.int32(), True),
}


def image_schema() -> pa.Schema:
    """Return the Arrow schema of a shard. Its metadata tells `datasets` that `image` holds images."""
    features = {
        name: {"_type": "Image"} if name == "image" else {"dtype": str(kind), "_type": "Value"}
        for name, (kind, _) in _FIELDS.items()
    }
    fields = [pa.field(name, kind, nullable) for name, (kind, nullable) in _FIELDS.items()]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def to_rgb(image: "Pixels", drop_alpha: bool = False) -> "Pixels":
    """Return an image of any mode as 8-bit RGB; one that is RGB already, as it is.

    Grey of 16 bits (modes I;16 and I) is scaled to 8, not clipped. Transparent pixels are blended with white, as a page
    shows them; with `drop_alpha` the colour that is stored under them is taken instead. An image that says how it is to
    be turned (EXIF) is turned, as a page shows it. Of an animation the first frame counts; colour profiles don't.

    Raises:
        UserError: its pixels are floating-point numbers, or whole ones beyond 16 bits: what is white isn't known.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    if image.mode in ("F", "I"):
        extrema: Any = image.getextrema()
        if image.mode == "F" or extrema[0] < 0 or extrema[1] > 65535:
            raise UserError(
                f"an image has pixels from {extrema[0]:g} to {extrema[1]:g} of mode {image.mode}, expected 8 or 16 bits a "
                f"colour; save it as PNG"
            )
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        import numpy as np

        grey = np.clip(np.asarray(image, np.float64), 0, 65535) / 257
        image = Pillow.fromarray(grey.round().astype(np.uint8))
    if image.has_transparency_data and not drop_alpha:
        image = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
