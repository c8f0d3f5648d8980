"""Checksum weights that are loaded."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def weights_sha256(parameters: Iterable["torch.Tensor"]) -> str:
    """Return the SHA-256, in hex, of a model's parameters.

    Each tensor's shape and float32 values are hashed, and the sorted hashes hashed again: names, order and
    file layout, which differ between the hub, a folder and a library's version, don't enter.
    """
    digests = []
    for tensor in parameters:
        values = tensor.detach().cpu().float().contiguous().numpy()
        digests.append(hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
