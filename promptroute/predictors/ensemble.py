"""A weighted sum of predictors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.rows import MODEL_NAME, check_names
from promptroute.predictors.base import Array, Predictor, Validation
from promptroute.predictors.targets import split_level


class Ensemble(Predictor):
    """A weighted sum of other predictors.

    Args:
        members: name → predictor, one or more; names are folder names too.
        weighting: "equal" averages what the members predict, so they must predict in the same unit; "fitted"
            finds non-negative weights of least squared error on the validation prompts (stacking, Breiman
            1996), for differences between models and for their level apart (see `split_level`), which also
            brings probabilities (`Cems`) to the unit of quality.
    """

    members: dict[str, Predictor] = Field(min_length=1)
    weighting: Literal["equal", "fitted"] = "equal"

    learned: ClassVar[tuple[str, ...]] = ("factors", "shift")
    _factors: Array
    _shift: Array

    @field_validator("members")
    @classmethod
    def _can_be_folders(cls, members: dict[str, Predictor]) -> dict[str, Predictor]:
        check_names(members, MODEL_NAME, "ensemble member")
        return members

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        units = {name: member.unit for name, member in self.members.items()}
        if self.weighting == "equal" and len(set(units.values())) > 1:
            raise UserError(
                f"Ensemble: members predict in different units ({units}); set weighting to fitted"
            )
        if self.weighting == "fitted" and validation is None:
            raise UserError(
                "Ensemble: fitted weights need validation prompts; pass them, or set weighting to equal"
            )
        for name, member in self.members.items():
            member.fit(prompts, quality, validation)
            if member.out_of_fold is not None:
                raise UserError(
                    f"Ensemble: member {name} learns from validation, on which whatever uses the ensemble is tuned; "
                    f"set members.{name}.learn_validation to false"
                )
        k, m = len(self.members), quality.shape[1]
        self._factors = np.full((2, k), 1 / k)  # of differences, and of level
        self._shift = np.zeros(m)
        if validation is not None and self.weighting == "fitted":
            self._weigh(validation)

    def _weigh(self, validation: tuple[PromptBatch, Array]) -> None:
        """Find the members' weights on validation prompts."""
        from scipy.optimize import nnls

        prompts, quality = validation
        predicted = [split_level(member.predict(prompts)) for member in self.members.values()]
        shift = np.zeros(quality.shape[1])
        for part, observed in enumerate(split_level(quality)):
            parts = np.stack([pair[part] for pair in predicted])  # [k, n, m or 1]
            means = parts.mean(1, keepdims=True)
            flat = (parts - means).reshape(len(parts), -1).T
            self._factors[part] = nnls(flat, (observed - observed.mean(0)).ravel())[0]
            # Broadcasts from [1] for the level: each model's sum has the validation prompts' mean quality.
            shift = shift + observed.mean(0) - self._factors[part] @ means[:, 0]
        self._shift = shift

    def _predict(self, prompts: PromptBatch) -> Array:
        predicted = [split_level(member.predict(prompts)) for member in self.members.values()]
        total = np.tile(self._shift, (len(prompts), 1))
        for factors, (differences, level) in zip(self._factors.T, predicted, strict=True):
            total += factors[0] * differences + factors[1] * level
        return total

    @property
    def embedding_widths(self) -> Mapping[str, int]:
        """Return the width of the embeddings that its members were fitted with, by encoder name."""
        return {
            name: width for member in self.members.values() for name, width in member.embedding_widths.items()
        }

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        for name, member in self.members.items():
            member.save(folder / "members" / name)
        return super()._state(folder)

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        super()._restore(folder, state, arrays)
        for name, member in self.members.items():
            member._recall(folder / "members" / name)
