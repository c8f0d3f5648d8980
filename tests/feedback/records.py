"""TFRecord files of RichHF, and copies of Pick-a-Pic, written by hand."""

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from promptroute.feedback.tfrecord import crc32c, masked


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(value: Any, packed: bool = True) -> bytes:
    """Encode values as a Feature: bytes, floats or integers."""
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], bytes):
        return message(1, b"".join(message(1, one) for one in values))
    if isinstance(values[0], float):
        parts = [struct.pack("<f", one) for one in values]
        return message(
            2, message(1, b"".join(parts)) if packed else b"".join(varint(1 << 3 | 5) + one for one in parts)
        )
    parts = [varint(one & (1 << 64) - 1) for one in values]
    return message(
        3, message(1, b"".join(parts)) if packed else b"".join(varint(1 << 3) + one for one in parts)
    )


def example(fields: Mapping[str, Any], packed: bool = True) -> bytes:
    entries = (
        message(1, name.encode()) + message(2, feature(value, packed)) for name, value in fields.items()
    )
    return message(1, b"".join(message(1, entry) for entry in entries))


def framed(payload: bytes) -> bytes:
    head = struct.pack("<Q", len(payload))
    return (
        head + struct.pack("<I", masked(crc32c(head))) + payload + struct.pack("<I", masked(crc32c(payload)))
    )


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    path.write_bytes(b"".join(framed(example(one)) for one in records))
    return path


def encoded(seed: int, size: tuple[int, int] = (64, 48), mode: str = "RGB", kind: str = "JPEG") -> bytes:
    rng = np.random.default_rng(seed)
    channels = () if mode == "L" else (3,)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], *channels)).astype(np.uint8))
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def spot(x: int, side: int = 512) -> bytes:
    """A map: black, with a white square of 100 pixels from column x; empty for x below 0."""
    values = np.zeros((side, side), np.uint8)
    if x >= 0:
        values[100:200, x : x + 100] = 255
    data = io.BytesIO()
    Image.fromarray(values).save(data, "PNG")
    return data.getvalue()


def record(uid: str, label: str = "1 0 1", **changed: Any) -> dict[str, Any]:
    fields = {
        "filename": f"train/{uid}.png".encode(), "aesthetics_score": 0.5, "artifact_score": 0.25,
        "misalignment_score": 0.75, "overall_score": 1.0, "artifact_map": spot(50), "misalignment_map": spot(-1),
        "prompt_misalignment_label": label.encode(),
    }  # fmt: skip
    return {name: value for name, value in (fields | changed).items() if value is not None}


def write_pickapic(folder: Path, rows: Sequence[tuple[str, str, str]], files: int = 2) -> Path:
    """Write (uid 0, uid 1, caption) as parquet files; an image's seed is the number of its uid."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(files):
        part = rows[file::files]
        columns = {
            "image_0_uid": [row[0] for row in part],
            "image_1_uid": [row[1] for row in part],
            "jpg_0": [encoded(int(row[0][1:])) for row in part],
            "jpg_1": [encoded(int(row[1][1:])) for row in part],
            "caption": [row[2] for row in part],
        }
        pq.write_table(pa.table(columns), folder / f"train-{file:05d}.parquet", row_group_size=2)
    return folder
