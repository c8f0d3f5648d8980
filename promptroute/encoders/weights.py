"""Checksum weights that are loaded."""

import hashlib
from collections.abc import Iterable

import numpy as np


def weights_sha256(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256, in hex, of a model's weights.

    Each array's shape and float32 values are hashed, and the sorted hashes hashed again: names, order and
    file layout, which differ between the hub, a folder and a library's version, don't enter.
    """
    digests = []
    for array in arrays:
        values = np.asarray(array, np.float32, order="C")
        digests.append(hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
