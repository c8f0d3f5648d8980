"""What an encoder is, and how many texts go through one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from promptroute.core.errors import UserError


@runtime_checkable
class Encoder(Protocol):
    """A frozen text encoder.

    Attributes:
        batch_size: texts per batch that suits the model, unless the caller knows better.
        description: what encodes, for people: class, model, revision, dim, max_length and the weights'
            SHA-256 (`weights_sha256`). Loads the model.
        fingerprint: SHA-256 in hex of all that decides a vector (weights, dim, max_length, dtype) and of
            nothing else: equal for the same weights from the hub, a folder or a package.
    """

    batch_size: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One batch: n texts → float32 [n, d]. A row depends on its own text alone, to float tolerance."""
        ...

    @property
    def description(self) -> Mapping[str, Any]: ...

    @property
    def fingerprint(self) -> str: ...


def encode_all(
    encoder: Encoder, texts: Sequence[str], batch_size: int | None = None, progress: bool = True
) -> np.ndarray:
    """Encode any number of texts.

    Each different text is encoded once. Texts of like length share a batch, so that little is padded, the
    longest first, so that running out of memory shows at once.

    Args:
        encoder: what turns a batch into vectors.
        texts: n texts, in any order, repeats allowed.
        batch_size: texts per batch; the encoder's own where None.
        progress: show a progress bar on stderr.

    Returns:
        float32 [n, d]; row i belongs to `texts[i]`.

    Raises:
        UserError: no texts, something that is not text, or an encoder that returned other rows than asked.
    """
    from tqdm import tqdm

    if not len(texts):
        raise UserError("there are no texts to encode; give at least one prompt")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {row} is {text!r}, not text; each prompt must be a string")
    size = encoder.batch_size if batch_size is None else batch_size
    if size < 1:
        raise UserError(f"batch_size is {size}; it must be 1 or more")
    # A lone surrogate (half of a broken emoji) is legal in a Python string, but no tokenizer takes it.
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    unique = sorted(set(clean), key=lambda text: (-len(text), text))
    rows: list[np.ndarray] = []
    with tqdm(total=len(unique), unit="text", desc="encode", disable=not progress) as bar:
        for start in range(0, len(unique), size):
            batch = unique[start : start + size]
            vectors = encoder.encode(batch)
            if vectors.ndim != 2 or len(vectors) != len(batch):
                raise UserError(
                    f"{type(encoder).__name__} gave {vectors.shape} for {len(batch)} texts, not [n, d]"
                )
            if not np.isfinite(vectors).all():
                raise UserError(
                    f"{type(encoder).__name__} gave a value that is not finite; use dtype float32"
                )
            rows.append(np.asarray(vectors, np.float32))
            bar.update(len(batch))
    where = {text: row for row, text in enumerate(unique)}
    return np.concatenate(rows)[[where[text] for text in clean]]
