"""Which texts a router was fitted or calibrated on, so that nobody judges it by them unawares."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def digests(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes of each text's SHA-256, uint64 [n].

    As in the split, white space at the ends and letter case don't count.
    """
    keys = (text.strip().casefold().encode("utf-8", "replace") for text in texts)
    return np.array(
        [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") for key in keys], dtype=np.uint64
    )


def seen(texts: Sequence[str], known: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Tell which texts are among those that `known` holds the digests of, bool [n]."""
    return np.isin(digests(texts), known)
