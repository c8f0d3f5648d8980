"""A weighted sum of predictors."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.names import MODEL_NAME, check_names
from promptroute.predictors.base import Array, Arrays, Predictor, Seed, State, Validation
from promptroute.predictors.targets import split_level, text_folds


class Ensemble(Predictor):
    """A weighted sum of other predictors.

    Where a member learns from validation too (`Kernel`), all of an equal mean do, and `out_of_fold` is the mean of theirs;
    of a member that has none, by fitting it without each of `folds` folds by text.

    Args:
        members: name → predictor, one or more; names are folder names too.
        weighting: "equal" averages what the members predict, so they must predict in the same unit; "fitted"
            finds non-negative weights of least squared error on the validation prompts (stacking, Breiman
            1996), for differences between models and for their level apart (see `split_level`), which also
            brings probabilities (`Cems`) to the unit of quality.
        folds: for out-of-fold predictions, 2 or more.
        seed: deals texts into folds.
    """

    seed: Seed = 0
    members: dict[str, Predictor] = Field(min_length=1)
    weighting: Literal["equal", "fitted"] = "equal"
    folds: int = Field(5, ge=2)

    learned: ClassVar[tuple[str, ...]] = ("factors", "shift")
    _factors: Array
    _shift: Array

    @field_validator("members")
    @classmethod
    def _can_be_folders(cls, members: dict[str, Predictor]) -> dict[str, Predictor]:
        check_names(members, MODEL_NAME, "ensemble member")
        return members

    @property
    def needs(self) -> frozenset[str]:
        """Name the text encoders that its members' settings ask for."""
        return frozenset().union(*(member.needs for member in self.members.values()))

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
        for member in self.members.values():
            member.fit(prompts, quality, validation)
        own = {name: member.out_of_fold for name, member in self.members.items()}
        learning = [name for name, predicted in own.items() if predicted is not None]
        if learning and self.weighting == "fitted":
            raise UserError(
                f"Ensemble: member {learning[0]} learns from validation, which the weights are fitted on; set "
                f"members.{learning[0]}.learn_validation to false, or weighting to equal"
            )
        if learning and validation is not None:
            whole, values = prompts.joined(validation[0]), np.vstack([quality, validation[1]])
            self._out_of_fold = np.mean(
                [
                    self._left_out(self.members[name], whole, values) if predicted is None else predicted
                    for name, predicted in own.items()
                ],
                axis=0,
            )
        k, m = len(self.members), quality.shape[1]
        self._factors = np.full((2, k), 1 / k)  # of differences, and of level
        self._shift = np.zeros(m)
        if validation is not None and self.weighting == "fitted":
            self._weigh(validation)

    def _left_out(self, member: Predictor, prompts: PromptBatch, quality: Array) -> Array:
        """Fit a member on all prompts; return what fits without each fold predict of it."""
        fold, predicted = text_folds(prompts.texts, self.folds, self.seed), np.empty(quality.shape)
        for held in range(fold.max() + 1):
            rest, own = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
            if len(rest):
                member.fit(prompts.take(rest), quality[rest])
            predicted[own] = member.predict(prompts.take(own))
        member.fit(prompts, quality)
        return predicted

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

    def _state(self, folder: Path) -> tuple[State, Arrays]:
        for name, member in self.members.items():
            member.save(folder / "members" / name)
        return super()._state(folder)

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        super()._restore(folder, state, arrays)
        for name, member in self.members.items():
            member._recall(folder / "members" / name)
