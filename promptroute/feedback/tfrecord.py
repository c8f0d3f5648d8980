"""TFRecord files of `tf.train.Example`, read without TensorFlow, every checksum verified.

A record is its length (uint64, little-endian), the masked CRC-32C of those 8 bytes, the payload, and the payload's masked
CRC-32C. The payload is protobuf: Example{1: Features{1: map of name → Feature}}, a map's entry {1: key, 2: value}, a
Feature one of {1: bytes, 2: floats, 3: integers}.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from promptroute.core.errors import UserError

Feature = list[bytes] | list[float] | list[int]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_POLYNOMIAL = 0x82F63B78


def _tables() -> np.ndarray:
    """Return the tables of CRC-32C that take 8 bytes a step: uint32 [8, 256]."""
    tables = np.zeros((8, 256), np.uint64)
    values = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        values = np.where(
            values & np.uint64(1), (values >> np.uint64(1)) ^ np.uint64(_POLYNOMIAL), values >> np.uint64(1)
        )
    tables[0] = values
    for at in range(1, 8):
        tables[at] = (tables[at - 1] >> np.uint64(8)) ^ tables[0][tables[at - 1] & np.uint64(255)]
    return tables.astype(np.uint32)


_TABLES = [table.tolist() for table in _tables()]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of bytes, 8 at a time."""
    t0, t1, t2, t3, t4, t5, t6, t7 = _TABLES
    crc, whole = 0xFFFFFFFF, len(data) // 8 * 8
    for low, high in struct.iter_unpack("<II", data[:whole]):
        low ^= crc
        crc = (
            t7[low & 255] ^ t6[low >> 8 & 255] ^ t5[low >> 16 & 255] ^ t4[low >> 24]
            ^ t3[high & 255] ^ t2[high >> 8 & 255] ^ t1[high >> 16 & 255] ^ t0[high >> 24]
        )  # fmt: skip
    for byte in data[whole:]:
        crc = t0[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Return a CRC as TFRecord stores it: rotated by 15 bits, plus a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: Path | str) -> Iterator[dict[str, Feature]]:
    """Yield the examples of a file, in order: name → values.

    Raises:
        UserError: the file is absent, a Git LFS pointer, cut off, or a record's checksum or content is wrong; names the
            file and the record, from 0.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of records; check the path")
    with open(path, "rb") as file:
        number = 0
        while head := file.read(12):
            where = f"{path}: record {number}"
            if number == 0 and head.startswith(b"version http"):
                raise UserError(
                    f"{path}: a Git LFS pointer, not the records themselves; fetch them with `git lfs pull`"
                )
            if len(head) < 12:
                raise UserError(f"{where} is cut off in its length; fetch the file again")
            length, check = struct.unpack("<QI", head)
            if masked(crc32c(head[:8])) != check:
                raise UserError(f"{where} has a wrong checksum of its length; fetch the file again")
            payload, tail = file.read(length), file.read(4)
            if len(payload) < length or len(tail) < 4:
                raise UserError(f"{where} is cut off; fetch the file again")
            if masked(crc32c(payload)) != struct.unpack("<I", tail)[0]:
                raise UserError(f"{where} has a wrong checksum; fetch the file again")
            try:
                yield _example(payload)
            except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
                raise UserError(f"{where} holds no example ({error}); expected a tf.train.Example") from error
            number += 1


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Yield a message's fields: (number, wire type, value)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("a field runs over the end")
        yield key >> 3, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length: (value, what follows)."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _inside(data: bytes, number: int) -> Iterator[bytes]:
    """Yield a message's messages or strings of a field."""
    for field, _, value in _fields(data):
        if field == number:
            if not isinstance(value, bytes):
                raise ValueError(f"field {number} is a number")
            yield value


def _example(data: bytes) -> dict[str, Feature]:
    """Read a tf.train.Example."""
    found: dict[str, Feature] = {}
    for features in _inside(data, 1):
        for entry in _inside(features, 1):
            key = b"".join(_inside(entry, 1)).decode("utf-8")
            found[key] = _feature(b"".join(_inside(entry, 2)))
    return found


def _feature(data: bytes) -> Feature:
    """Read the values of a feature; numbers may be packed or not."""
    values: list[bytes] | list[float] | list[int] = []
    for kind, wire, content in _fields(data):
        if wire != _BYTES or not isinstance(content, bytes):
            raise ValueError("a feature without a list")
        if kind == 1:
            values = list(_inside(content, 1))
        elif kind == 2:
            values = [one for _, _, part in _fields(content) for one in _floats(part)]
        elif kind == 3:
            values = [one for _, _, part in _fields(content) for one in _integers(part)]
    return values


def _floats(part: bytes | int) -> list[float]:
    if not isinstance(part, bytes) or len(part) % 4:
        raise ValueError("a list of floats of another size")
    return [value for (value,) in struct.iter_unpack("<f", part)]


def _integers(part: bytes | int) -> list[int]:
    values, at = ([part], 0) if isinstance(part, int) else ([], 0)
    while isinstance(part, bytes) and at < len(part):
        value, at = _varint(part, at)
        values.append(value)
    return [value - (1 << 64) if value >> 63 else value for value in values]
