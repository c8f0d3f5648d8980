"""Several predictors as one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.rows import MODEL_NAME, check_names
from promptroute.predictors.base import Array, Learner, Predictor, Validation
from promptroute.predictors.folder import load_predictor, save_predictor
from promptroute.predictors.targets import split_level


@dataclass
class Ensemble(Learner):
    """A weighted sum of other predictors.

    Args:
        members: name → predictor, unfitted; names are folder names too.
        weights: "equal" averages what the members predict, so they must predict in the same unit; "fitted"
            finds non-negative weights of least squared error on the validation prompts (stacking, Breiman
            1996), for differences between models and for their level apart (see `split_level`), which also
            brings probabilities (`cems`) to the unit of quality.
    """

    kind: ClassVar[str] = "ensemble"
    members: Mapping[str, Predictor] = field(default_factory=dict)
    weights: Literal["equal", "fitted"] = "equal"

    def __post_init__(self) -> None:
        if self.weights not in ("equal", "fitted"):
            raise UserError(f"ensemble: weights is {self.weights!r}; expected equal or fitted")
        check_names(self.members, MODEL_NAME, "ensemble member")

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        if not self.members:
            raise UserError("ensemble: there are no members; list at least one predictor under members")
        units = {name: getattr(member, "predicts", "quality") for name, member in self.members.items()}
        if self.weights == "equal" and len(set(units.values())) > 1:
            raise UserError(f"ensemble: members predict in different units ({units}); set weights to fitted")
        if self.weights == "fitted" and validation is None:
            raise UserError(
                "ensemble: fitted weights need validation prompts; pass them, or set weights to equal"
            )
        for name, member in self.members.items():
            member.fit(prompts, quality, validation)
            if member.out_of_fold is not None:
                raise UserError(
                    f"ensemble: member {name} learns from validation, on which the ensemble's knobs are chosen; "
                    f"set predictor.members.{name}.learn_validation to false"
                )
        k, m = len(self.members), quality.shape[1]
        self._factors = np.full((2, k), 1 / k)  # of differences, and of level
        self._shift = np.zeros(m)
        if validation is not None and self.weights == "fitted":
            self._weigh(validation)

    def _weigh(self, validation: tuple[PromptBatch, Array]) -> None:
        from scipy.optimize import nnls

        prompts, quality = validation
        predicted = [split_level(member.predict(prompts)) for member in self.members.values()]
        shift = np.zeros(quality.shape[1])
        for part, true in enumerate(split_level(quality)):
            parts = np.stack([pair[part] for pair in predicted])  # [k, n, m or 1]
            means = parts.mean(1, keepdims=True)
            flat = (parts - means).reshape(len(parts), -1).T
            self._factors[part] = nnls(flat, (true - true.mean(0)).ravel())[0]
            # Broadcasts from [1] for the level: each model's sum has the validation prompts' mean quality.
            shift = shift + true.mean(0) - self._factors[part] @ means[:, 0]
        self._shift = shift

    def _predict(self, prompts: PromptBatch) -> Array:
        predicted = [split_level(member.predict(prompts)) for member in self.members.values()]
        total = np.tile(self._shift, (len(prompts), 1))
        for factors, (differences, level) in zip(self._factors.T, predicted, strict=True):
            total += factors[0] * differences + factors[1] * level
        return total

    def _settings(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def _widths(self) -> dict[str, int]:
        widths: dict[str, int] = {}
        for member in self.members.values():
            if isinstance(member, Learner):
                widths |= member._widths()
        return widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        for name, member in self.members.items():
            save_predictor(member, folder / "members" / name)
        return {"members": list(self.members)}, {"factors": self._factors, "shift": self._shift}

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        check_names(state["members"], MODEL_NAME, f"{folder}: ensemble member")
        self.members = {name: load_predictor(folder / "members" / name) for name in state["members"]}
        self._factors, self._shift = arrays["factors"], arrays["shift"]
