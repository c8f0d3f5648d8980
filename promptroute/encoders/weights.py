"""Load weights with what prepares their input, and checksum them."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from promptroute.core.plain import Plain
from promptroute.runtime.hub import load_error, no_loading_bars


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


def load_with_processor(
    processors: Any, networks: Any, model: str, revision: str | None, device: str, what: str, fix: str
) -> tuple[Any, Any]:
    """Load a network of transformers, and what prepares its input.

    Args:
        processors, networks: classes of transformers.
        model, revision: hub id with its commit, or a folder.
        device: where the network goes.
        what, fix: for the message.

    Raises:
        UserError: one can't be loaded; only safetensors are read, and no code that comes with a model is run.
    """
    no_loading_bars()
    given: Plain = {"revision": revision, "trust_remote_code": False}
    try:
        processor = processors.from_pretrained(model, **given)
        network = networks.from_pretrained(model, use_safetensors=True, **given)
    except Exception as error:  # the library raises what its parts raise
        raise load_error(f"{what} {model}", device, model, error, fix) from error
    return processor, network.eval().to(device)
