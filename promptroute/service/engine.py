"""The router as the service uses it: predict in batches, then decide for each request."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.router.looking import Recent
from promptroute.router.router import Router
from promptroute.router.types import Asked, Assessment, Decision, Next, check_prompts


@dataclass(frozen=True)
class Predicted:
    """What the predictor says of one prompt.

    Attributes:
        quality: predicted quality of each model, float64 [m].
        ood: whether the prompt is out-of-distribution.
    """

    quality: np.ndarray
    ood: bool


class Looked(NamedTuple):
    """What is known of n prompts' images.

    Attributes:
        scores: quality [n, images · m]; NaN: no image, -inf: it failed.
        allowed: columns of the models that may be asked; None: all.
    """

    scores: np.ndarray
    allowed: np.ndarray | None


class Engine:
    """A loaded router in two steps, so that prompts of many requests are predicted together.

    Args:
        router: loaded and warm.

    Attributes:
        recent: predicted quality of the prompts that are being looked at.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self.names = router.names
        self.recent = Recent()
        self.costs = {model.name: model.cost for model in router.models}

    def asked(self, prompts: Sequence[str], choosing: Section) -> Asked:
        """Return how a request decides; `choosing` holds arguments of `Router.route`.

        Raises:
            UserError: a prompt is empty or invalid text, a model is unknown, or both operating points are given.
        """
        check_prompts(prompts)
        return self._router.asked(**choosing)

    def predict(self, prompts: Sequence[str]) -> list[Predicted]:
        """Give each prompt's row."""
        quality, ood = self._router.assess(prompts)
        return [Predicted(row, bool(away)) for row, away in zip(quality, ood, strict=True)]

    def decide(self, prompts: Sequence[str], rows: Sequence[Predicted], asked: Asked) -> list[Decision]:
        """Choose a model for each prompt from its row."""
        quality, ood = np.stack([row.quality for row in rows]), np.array([row.ood for row in rows])
        return self._router.decide(prompts, Assessment(quality, ood), asked)

    def looked(self, prompts: Sequence[str], seen: Sequence[Section], models: Sequence[str] | None) -> Looked:
        """Return what prompts' images show, and which models may be asked.

        Raises:
            UserError: a prompt is empty or invalid text, a model is unknown, a score is no finite number, or the
                router's policy doesn't look at images.
        """
        check_prompts(prompts)
        if len(seen) != len(prompts):
            raise UserError(f"seen has {len(seen)} entries for {len(prompts)} prompts; expected one for each")
        rows = []
        for place, look in enumerate(seen, 1):
            try:
                rows.append(self._router.looked(look))
            except UserError as error:
                raise UserError(f"{error} (prompt {place} of {len(prompts)})") from error
        return Looked(np.stack(rows), self._router.asked(models).allowed)

    def steps(self, quality: Sequence[np.ndarray], looked: Looked) -> list[Next]:
        """Say what to do next for each prompt, from its predicted quality."""
        return self._router.steps(np.stack(quality), looked.scores, looked.allowed)

    def about(self) -> Plain:
        """Say what decides, for programs and people."""
        router = self._router
        return {
            "models": [asdict(model) for model in router.models],
            "scores": router.quality.scores,
            "policy": router.policy.describe(router.names),
        }
