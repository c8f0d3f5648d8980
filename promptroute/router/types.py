"""What goes into a router and comes out: models, predictions, decisions; and what a prompt may be."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

from promptroute.core.errors import UserError
from promptroute.core.text import is_blank, short
from promptroute.routing.base import Policy

_BROKEN = re.compile("[\x00\ud800-\udfff]")  # a NUL, or half of a surrogate pair


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse what no image can be generated from.

    Raises:
        UserError: a prompt that is not a text, holds nothing to read, or is not valid Unicode (a NUL, half
            of a surrogate pair); names its position.
    """
    if isinstance(prompts, str):
        raise UserError(f"the prompts are one text ({short(prompts)}); give a list of texts")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            fault = "is not text; give a text to generate an image from"
        elif not prompt.strip():
            fault = "is empty; give a text to generate an image from"
        elif _BROKEN.search(prompt):
            fault = "is not valid Unicode text; take out what is invalid (a NUL, half of a surrogate pair)"
        elif is_blank(prompt):
            fault = "shows nothing; give a text to generate an image from"
        else:
            continue
        raise UserError(f"prompt {index + 1} of {len(prompts)} ({short(prompt)}) {fault}")


def _printable(label: str) -> str:
    """Refuse control and formatting characters: labels go to terminals and pages."""
    if any(unicodedata.category(character).startswith("C") for character in label):
        raise ValueError("holds a control character")
    return label


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be chosen.

    Attributes:
        name: key.
        label: how people write it; no control characters.
        cost: dollars per image, above 0.
        mean_quality: mean observed quality over the prompts that the router was calibrated on.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    label: Annotated[str, Field(max_length=200), AfterValidator(_printable)]
    cost: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    mean_quality: Annotated[float, Field(allow_inf_nan=False)]


class Assessment(NamedTuple):
    """What a router sees in n prompts.

    Attributes:
        quality: predicted, float64 [n, m], higher is better.
        ood: which are out-of-distribution, bool [n]; all False where the policy doesn't look.
    """

    quality: np.ndarray
    ood: np.ndarray


class Asked(NamedTuple):
    """How a request decides: by which policy, and among which columns (ascending; None: all)."""

    policy: Policy
    allowed: np.ndarray | None


@dataclass(frozen=True)
class Decision:
    """The choice for a prompt.

    Attributes:
        prompt: the text as given.
        model: name of the chosen model.
        cost: dollars per image with it.
        quality: model → predicted quality, higher is better, in the unit of the router's score.
        reason: one sentence for people.
    """

    prompt: str
    model: str
    cost: float
    quality: Mapping[str, float]
    reason: str


@dataclass(frozen=True)
class Next:
    """What to do next for a prompt, some of whose images may have been looked at.

    `reservation`, `expected_gain` and `price` are of `model`; where it is None, of the model that would have come
    next. They are None where no model is left.

    Attributes:
        model: to generate with next; None: no further image.
        keep: whose image to deliver as things stand; None: there is none.
        reservation: the quality in hand at which its image would just pay; None too where price doesn't count.
        expected_gain: what its image is expected to add to the quality in hand; None too where there is none yet.
        price: dollars for its image and the look at it.
        reason: one sentence for people.
    """

    model: str | None
    keep: str | None
    reservation: float | None
    expected_gain: float | None
    price: float | None
    reason: str
