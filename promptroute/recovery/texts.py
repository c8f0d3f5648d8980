"""From a predicted sentence embedding to text: the nearest prompts of a bank, and phrases set together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from promptroute.core.errors import UserError
from promptroute.recovery.vectors import finite_rows, nearest, unit


@runtime_checkable
class SentenceSide(Protocol):
    """What encodes texts: a text encoder, whose last `sentence_width` columns are the sentence embedding."""

    @property
    def sentence_width(self) -> int:
        """Return how many columns, the last ones, make the sentence embedding."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch: n texts → float32 [n, d]."""
        ...


@dataclass(frozen=True)
class Recovered:
    """A text that may have been an image's prompt.

    Attributes:
        text: what a person may edit and generate from.
        cosine: of its embedding with the predicted one, both less the bank's mean, -1 to 1; higher is nearer.
        how: `retrieve`, a prompt of the bank; `compose`, phrases set together.
        phrases: those that a composed text consists of, in order.
    """

    text: str
    cosine: float
    how: Literal["retrieve", "compose"]
    phrases: tuple[str, ...] = ()


class Sentences:
    """Sentence embeddings of texts, each different text encoded once.

    Args:
        encoder: a component that encodes texts.

    Raises:
        UserError: it encodes none.
    """

    def __init__(self, encoder: Any, batch_size: int = 128) -> None:
        if not isinstance(encoder, SentenceSide):
            raise UserError(f"{type(encoder).__name__} encodes no texts; name a text encoder")
        self._encoder, self._size = encoder, batch_size
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts: float32 [n, d], unit length."""
        new = sorted(set(texts) - set(self._known), key=lambda text: (len(text), text))
        for start in range(0, len(new), self._size):
            batch = new[start : start + self._size]
            rows = np.asarray(self._encoder.encode(batch))[:, -self._encoder.sentence_width :]
            self._known.update(zip(batch, unit(finite_rows(rows, "sentence embeddings")), strict=True))
        return np.stack([self._known[text] for text in texts])


@dataclass(frozen=True)
class Bank:
    """Prompts to retrieve from.

    Embeddings are compared less the bank's mean: a prediction that is unsure lies near the mean prompt, and so do prompts
    that say a little of everything, which would else be nearest to most images.

    Attributes:
        texts: [m], each once.
        vectors: float32 [m, d] their sentence embeddings, unit length.
    """

    texts: Sequence[str]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.texts):
            raise UserError("the bank holds no prompts, so none can be retrieved; give it some")
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.texts):
            raise UserError(
                f"the bank has {len(self.texts)} prompts and embeddings {self.vectors.shape}; embed it again"
            )
        finite_rows(self.vectors, "the bank's embeddings")

    @cached_property
    def mean(self) -> np.ndarray:
        """Return the mean embedding: float32 [d]; 0 for a single prompt, which is all that there is."""
        return np.asarray(
            self.vectors.mean(axis=0) if len(self.texts) > 1 else np.zeros(self.vectors.shape[1]), np.float32
        )

    @cached_property
    def _centred(self) -> np.ndarray:
        return unit(self.vectors - self.mean)

    def check_apart(self, texts: Sequence[str]) -> None:
        """Refuse prompts that the bank is judged on: it would only have to know them.

        Raises:
            UserError: names the first that it holds.
        """
        held = {_plain(text) for text in self.texts}
        if known := [text for text in texts if _plain(text) in held]:
            raise UserError(
                f"the bank holds {len(known)} of the prompts that it is judged on, as {known[0][:60]!r}; leave these out"
            )

    def less(self, texts: Sequence[str]) -> "Bank":
        """Give the bank without these prompts; raises UserError where none is left."""
        out = {_plain(text) for text in texts}
        kept = [place for place, text in enumerate(self.texts) if _plain(text) not in out]
        return Bank([self.texts[place] for place in kept], self.vectors[kept])

    def retrieve(self, predicted: np.ndarray, k: int) -> list[list[Recovered]]:
        """Find the k nearest prompts to each of n predicted embeddings, the nearest first.

        Raises:
            UserError: the embeddings are of another width than the bank's, not finite, or k is below 1.
        """
        predicted = finite_rows(np.asarray(predicted, np.float32), "predicted embeddings")
        if predicted.shape[1] != self.vectors.shape[1] or k < 1:
            raise UserError(
                f"{k} of the bank's prompts were asked for, by embeddings {predicted.shape[1]} wide; expected 1 or more, "
                f"and {self.vectors.shape[1]} as the bank's"
            )
        found, cosines = nearest(unit(unit(predicted) - self.mean), self._centred, k)
        return [
            [Recovered(self.texts[at], float(value), "retrieve") for at, value in zip(row, near, strict=True)]
            for row, near in zip(found, cosines, strict=True)
        ]


def without(texts: Sequence[str], judged: Sequence[str], most: int | None = None) -> list[str]:
    """Give the texts of a bank, each once: those that aren't judged, at most `most`, evenly over all.

    Texts are compared but for letter case and white space at the ends.
    """
    out, first = {_plain(text) for text in judged}, dict[str, str]()
    for text in texts:
        first.setdefault(_plain(text), text)
    kept = [text for plain, text in first.items() if plain not in out]
    if most is None or len(kept) <= most:
        return kept
    return [kept[place] for place in np.linspace(0, len(kept) - 1, most).round().astype(int)]


def _plain(text: str) -> str:
    return text.strip().casefold()


@dataclass
class _Draft:
    """A text that is being set together for one image.

    Attributes:
        target: float32 [d] predicted embedding less the mean, unit length.
        text: so far.
        vector: float32 [d] of the text, likewise; zeros while there is none.
        cosine: of both; -1 while there is no text.
        taken: the phrases in it, as positions.
    """

    target: np.ndarray
    text: str
    vector: np.ndarray
    cosine: float
    taken: list[int] = field(default_factory=list)

    def tries(self, own: np.ndarray, lists: Sequence[str], most: int) -> list[int]:
        """List the phrases to try next, of lists not used yet: the nearest to what the text lacks."""
        used = {lists[which] for which in self.taken}
        order = np.argsort(-(own @ (self.target - self.vector)), kind="stable")
        return [int(which) for which in order if lists[which] not in used][:most]

    def take(self, tried: Sequence[int], texts: Sequence[str], vectors: np.ndarray) -> bool:
        """Take over the nearest of some longer texts, and tell whether it is nearer than before."""
        near = vectors @ self.target
        top = int(near.argmax())
        if near[top] <= self.cosine:
            return False
        self.text, self.vector, self.cosine = texts[top], vectors[top], float(near[top])
        self.taken.append(tried[top])
        return True


def compose(
    predicted: np.ndarray,
    phrases: Mapping[str, Sequence[str]],
    sentences: Sentences,
    *,
    mean: np.ndarray | float = 0.0,
    captions: Sequence[str] | None = None,
    most: int = 8,
    tries: int = 16,
) -> list[Recovered]:
    """Set phrases together: add the one that brings the text nearest to the predicted embedding, while it comes nearer.

    Args:
        predicted: [n, d] of n images.
        phrases: list → its phrases; a text takes one of each list at most.
        sentences: encodes texts.
        mean: [d] of prompts' embeddings, taken off all that are compared; see `Bank`.
        captions: what each text begins with; None: nothing.
        most: phrases of a text.
        tries: phrases that are tried for each place: those that by themselves are nearest to what the text still lacks,
            the difference between the predicted embedding and the text's own.

    Returns:
        A text for each image.
    """
    rows = unit(unit(finite_rows(np.asarray(predicted, np.float32), "predicted embeddings")) - mean)
    every = [(name, phrase) for name, some in phrases.items() for phrase in some]
    if not every:
        raise UserError("there are no phrases to set together; give at least one list")
    lists, words = zip(*every, strict=True)
    own = unit(sentences(words) - mean)
    drafts = [_Draft(row, "", np.zeros_like(row), -1.0) for row in rows]
    for draft, caption in zip(drafts, captions or (), strict=captions is not None):
        if caption:
            draft.text, draft.vector = caption, unit(sentences([caption]) - mean)[0]
            draft.cosine = float(draft.vector @ draft.target)
    growing = drafts
    for _ in range(most):
        tried = [(draft, found) for draft in growing if (found := draft.tries(own, lists, tries))]
        made = [
            [", ".join(filter(None, [draft.text, words[which]])) for which in found] for draft, found in tried
        ]
        if not made:
            break
        sentences([text for some in made for text in some])  # all images' at once
        growing = [
            draft
            for (draft, found), some in zip(tried, made, strict=True)
            if draft.take(found, some, unit(sentences(some) - mean))
        ]
    return [
        Recovered(draft.text, draft.cosine, "compose", tuple(words[which] for which in draft.taken))
        for draft in drafts
    ]


def ranked(*found: Sequence[Recovered], k: int) -> list[Recovered]:
    """Merge candidates of one image: the k nearest to the predicted embedding, each text once."""
    best: dict[str, Recovered] = {}
    for one in sorted((one for some in found for one in some), key=lambda one: (-one.cosine, one.text)):
        best.setdefault(_plain(one.text), one)
    return list(best.values())[:k]
