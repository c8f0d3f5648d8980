"""The router as the service uses it: predict in batches, then decide for each request."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from promptroute.router.router import Router
from promptroute.router.types import Asked, Assessment, Decision, check_prompts


@dataclass(frozen=True)
class Predicted:
    """What the predictor says of one prompt.

    Attributes:
        quality: predicted quality of each model, float64 [m].
        ood: whether the prompt is out-of-distribution.
    """

    quality: np.ndarray
    ood: bool


class Engine:
    """A loaded router in two steps, so that prompts of many requests are predicted together.

    Args:
        router: loaded and warm.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self.names = router.names
        self.costs = {model.name: model.cost for model in router.models}

    def asked(self, prompts: Sequence[str], choosing: Mapping[str, Any]) -> Asked:
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

    def about(self) -> dict[str, Any]:
        """Say what decides, for programs and people."""
        router = self._router
        return {
            "models": [asdict(model) for model in router.models],
            "scores": router.quality.scores,
            "policy": router.policy.describe(router.names),
        }
