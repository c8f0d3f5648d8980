"""A generated image, and the Arrow schema of a shard of them."""

import json
from dataclasses import dataclass

import pyarrow as pa

from promptroute.core.rows import column

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
}


def image_schema() -> pa.Schema:
    """Return the Arrow schema of a shard. Its metadata tells `datasets` that `image` holds images."""
    features = {
        name: {"_type": "Image"} if name == "image" else {"dtype": str(kind), "_type": "Value"}
        for name, (kind, _) in _FIELDS.items()
    }
    fields = [pa.field(name, kind, nullable) for name, (kind, nullable) in _FIELDS.items()]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})
