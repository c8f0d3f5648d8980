"""One prompt, with a look at its images so far: what may be said of them, and what comes next and why."""

import contextlib
import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from numbers import Real
from threading import Lock
from typing import Protocol

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.text import short
from promptroute.router.types import Next
from promptroute.routing.quality import Quality
from promptroute.routing.search import STOP, View

Look = float | Mapping[str, float] | None
"""An image's quality, or its scores by their full names; None: it failed or was withheld."""
Seen = Mapping[str, Look | Sequence[Look]]
"""Model → its image, or its images in their order."""
_MOST = 1e9  # of a score's absolute value: beyond it arithmetic says nothing
_ORDINALS = ("first", "second", "third")


class Looker(Protocol):
    """A policy that looks, as `routing.search_policy.Search`; `images`: of a model, at most."""

    images: int

    def view(
        self, quality: np.ndarray, scores: np.ndarray, cost: np.ndarray, *, allowed: np.ndarray | None = None
    ) -> View:
        """Tell what comes next for each prompt, and why; scores [n, images · m]."""
        ...

    def prices(self, cost: np.ndarray) -> np.ndarray:
        """Return dollars of each image with its look, [images · m]."""
        ...


class Recent:
    """Rows of the prompts asked last, by digests of the texts, so that no text is kept.

    Args:
        most: rows that are kept.
    """

    def __init__(self, most: int = 1024) -> None:
        self._most, self._rows, self._lock = most, OrderedDict[bytes, np.ndarray](), Lock()

    def get(self, prompt: str) -> np.ndarray | None:
        """Return a prompt's row, None where it is not known (any more)."""
        key = self._key(prompt)
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def add(self, prompt: str, row: np.ndarray) -> None:
        """Keep a prompt's row."""
        with self._lock:
            self._rows[self._key(prompt)] = row
            while len(self._rows) > self._most:
                self._rows.popitem(last=False)

    @staticmethod
    def _key(prompt: str) -> bytes:
        return hashlib.blake2b(prompt.encode(), digest_size=16).digest()


def seen_scores(seen: Seen, names: Sequence[str], quality: Quality, images: int = 1) -> np.ndarray:
    """Return the quality of the images that a prompt has, float64 [images · m]; NaN: no image, -inf: it failed.

    Args:
        seen: what the caller says of them.
        names: of the m models.
        quality: what quality means.
        images: of a model, at most; every model's first stands before every model's second.

    Raises:
        UserError: an unknown model or score, more images than are asked for, or a score that is no finite number.
    """
    if not isinstance(seen, Mapping):
        raise UserError(f'seen is {_shown(seen)}; expected the score of each image, as {{"{names[0]}": 5.1}}')
    scores = np.full((images, len(names)), np.nan)
    for name, given in seen.items():
        if name not in names:
            raise UserError(f"seen: model {_shown(name)} is unknown; expected some of {', '.join(names)}")
        looks = given if isinstance(given, list | tuple) else [given]
        if len(looks) > images:
            raise UserError(
                f"seen: {len(looks)} images of {name}; the router asks for {images} of a model at most"
            )
        for place, look in enumerate(looks):
            failed = look is None
            scores[place, names.index(name)] = -np.inf if failed else _quality(name, look, quality)
    return scores.ravel()


def _quality(model: str, look: object, quality: Quality) -> float:
    if not isinstance(look, Mapping):
        return _number(f"the score of {model}", look)
    if set(look) != set(quality.scores):
        raise UserError(
            f"seen: {model} has the scores {short(sorted(map(str, look)))}; expected {', '.join(quality.scores)}, or "
            f"their quality as one number"
        )
    raw = {name: np.array([[_number(f"{name} of {model}", look[name])]]) for name in quality.scores}
    return _number(f"the quality of {model}", quality.of(raw).item())


def _number(what: str, value: object) -> float:
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not abs(number) <= _MOST:
        raise UserError(
            f"seen: {what} is {_shown(value)}; expected a finite number, or null where the image failed"
        )
    return number


def _shown(value: object) -> str:
    """Quote a value that has no parts: a caller may nest others as deep as Python can write them."""
    return short(value) if isinstance(value, str | Real) or value is None else f"a {type(value).__name__}"


def steps(
    view: View, scores: np.ndarray, price: np.ndarray, names: Sequence[str], labels: Sequence[str]
) -> list[Next]:
    """Put what a policy thinks of n prompts into plain values and words.

    Args:
        view: what it thinks; of k = images · m columns.
        scores: [n, k] as of `seen_scores`.
        price: dollars an image with its look [k].
        names, labels: of the m models.
    """
    m = len(names)
    found = []
    for row in range(len(scores)):
        about = _about(view, row)
        model, holds = int(view.model[row]), int(view.kept[row])
        found.append(
            Next(
                model=None if model == STOP else names[model % m],
                keep=None if holds == STOP else names[holds % m],
                reservation=None if about is None else _finite(view.reservation[row, about]),
                expected_gain=None if about is None else _finite(view.gain[row, about]),
                price=None if about is None else float(price[about]),
                reason=_reason(view, row, scores[row], price, labels),
            )
        )
    return found


def _about(view: View, row: int) -> int | None:
    """Return the column that comes next, or would have come next; None where none is left."""
    if view.model[row] != STOP:
        return int(view.model[row])
    left = np.flatnonzero(~np.isnan(view.reservation[row]))
    return int(left[view.reservation[row, left].argmax()]) if len(left) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _reason(view: View, row: int, scores: np.ndarray, price: np.ndarray, labels: Sequence[str]) -> str:
    """Say in a sentence why."""
    have, about, holds = _in_hand(view, row, scores, labels), _about(view, row), view.kept[row] != STOP
    if about is None:
        return f"{have}, and no model is left" + (
            ": keep it" if holds else " to ask: there is nothing to keep"
        )
    z, dollars, value = float(view.reservation[row, about]), f"${price[about]:.3g}", float(view.value[row])
    if view.model[row] == STOP and z > value:
        return f"{have}, and no more images may be made: keep it"
    worth = f"{_owner(about, labels, 'reservation value')} is {z:.4g}"
    if view.model[row] == STOP:
        return f"{have}; {worth}, so another image isn't worth {dollars}: keep it"
    image = _owner(about, labels, "image")
    if not np.isfinite(z):
        return f"{have}; {image} comes next, as {'price' if z < 0 else 'quality'} alone counts"
    if not holds and z >= np.nanmax(view.reservation[row]):
        return f"{have}; {worth}, the highest"
    if not holds:
        return f"{have}; {image} promises most, as few may be made"
    if z > value:
        return f"{have}; {worth}, so another image, expected to gain {view.gain[row, about]:.3g}, is worth {dollars}"
    return f"{have}; {image} is worth {dollars} together with one that may follow it"


def _in_hand(view: View, row: int, scores: np.ndarray, labels: Sequence[str]) -> str:
    if (holds := int(view.kept[row])) == STOP:
        failed = [_owner(column, labels, "image") for column in np.flatnonzero(np.isneginf(scores)).tolist()]
        return f"{' and '.join(failed)} failed" if failed else "there is no image yet"
    score, value = float(scores[holds]), float(view.value[row])
    counted = "" if score == value else f" and counts as {value:.4g}"
    return f"{_owner(holds, labels, 'image')} scores {score:.4g}{counted}"


def _owner(column: int, labels: Sequence[str], thing: str) -> str:
    """Name the image of a column, or something of it, as `SD-Turbo's image`."""
    place, model = divmod(column, len(labels))
    if not place:
        return f"{labels[model]}'s {thing}"
    image = f"{_ORDINALS[place] if place < len(_ORDINALS) else f'{place + 1}th'} image"
    return f"{labels[model]}'s {image}" if thing == "image" else f"the {thing} of {labels[model]}'s {image}"
