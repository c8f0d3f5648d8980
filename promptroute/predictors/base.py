"""What every predictor is: prompts in, predicted quality out."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.io.files import read_json, write_json

Array = np.ndarray
Validation = tuple[PromptBatch, Array] | None

FORMAT = 1
FACTS, ARRAYS = "predictor.json", "arrays.safetensors"


@runtime_checkable
class Predictor(Protocol):
    """Learns how well each of m models draws a prompt.

    `fit(prompts, quality, validation)` takes n prompts and their quality, float64 [n, m], finite, higher is
    better, in any unit; `validation`, prompts and quality apart from these, serves predictors that choose
    an epoch or weights with it, and is ignored by the others. A fit on a CPU depends on its arguments and the
    predictor's seed alone. `predict(prompts)` returns float64 [n, m], higher is better, in the same unit
    (`cems` and `cems-frozen`: probabilities that a model is the best); row i depends on prompt i alone.
    `save` writes JSON and safetensors; what `load` gives back predicts bit-equal.

    All of them raise UserError: no prompts, shapes that disagree, quality that is not finite, an encoder
    that the batch lacks, embeddings of another width than at fit, `predict` or `save` before `fit`, a folder
    that is absent, torn or of another kind.
    """

    kind: ClassVar[str]
    models: int | None
    """m, the number of models; None until fitted."""
    out_of_fold: Array | None
    """Set by a fit that learnt from validation too: float64 [n + v, m], for each training and then each
    validation prompt what a fit without that prompt predicts. None where validation was not learnt from:
    `predict` of it is then what a choice of knobs may look at. Not saved."""

    def fit(self, prompts: PromptBatch, quality: Array, validation: Validation = None) -> Self: ...

    def predict(self, prompts: PromptBatch) -> Array: ...

    def save(self, folder: Path | str) -> None: ...

    @classmethod
    def load(cls, folder: Path | str) -> Self: ...


def check_pair(prompts: PromptBatch, quality: Array, where: str = "quality") -> Array:
    """Quality as float64 [n, m], or a clear error.

    Raises:
        UserError: no prompts, another number of rows, no column, or a value that is not finite.
    """
    check_prompts(prompts)
    values = np.asarray(quality, np.float64)
    if values.ndim != 2 or len(values) != len(prompts) or not values.shape[1]:
        raise UserError(
            f"{where} is {values.shape} for {len(prompts)} prompts; expected [{len(prompts)}, models]"
        )
    if not np.isfinite(values).all():
        row, model = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"{where} of prompt {row} ({prompts.texts[row][:60]!r}) under model {model} is {values[row, model]}; "
            f"drop prompts that lack a score before fitting"
        )
    return values


def check_prompts(prompts: PromptBatch) -> None:
    """Refuse an empty batch.

    Raises:
        UserError: there is no prompt.
    """
    if not len(prompts):
        raise UserError("the batch holds no prompts; give at least one")


class Learner(ABC):
    """What the predictors share: checks, and saving. A subclass is a dataclass of its settings."""

    kind: ClassVar[str]
    models: int | None = None
    """m, the number of models; None until fitted."""
    out_of_fold: Array | None = None
    """See `Predictor`."""

    def fit(self, prompts: PromptBatch, quality: Array, validation: Validation = None) -> Self:
        """Learn from n prompts and quality float64 [n, m]; see `Predictor`."""
        values = check_pair(prompts, quality)
        if validation is not None:
            held = check_pair(*validation, where="validation quality")
            if held.shape[1] != values.shape[1]:
                raise UserError(
                    f"validation quality has {held.shape[1]} models, training quality {values.shape[1]}"
                )
            validation = (validation[0], held)
        self.out_of_fold = None
        self._fit(prompts, values, validation)
        self.models = values.shape[1]
        return self

    def predict(self, prompts: PromptBatch) -> Array:
        """Quality float64 [n, m], higher is better; see `Predictor`."""
        if self.models is None:
            raise UserError(f"this {self.kind} predictor is not fitted yet; call fit, or load a saved one")
        check_prompts(prompts)
        return self._predict(prompts)

    def save(self, folder: Path | str) -> None:
        """Write the fitted predictor into `folder` (made where absent); see `save_predictor`."""
        from safetensors.numpy import save_file

        if self.models is None:
            raise UserError(f"this {self.kind} predictor is not fitted yet, so there is nothing to save")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state, arrays = self._state(folder)
        facts = {
            "format": FORMAT,
            "kind": self.kind,
            "models": self.models,
            "settings": self._settings(),
            "state": state,
        }
        write_json(folder / FACTS, facts, digits=17)  # 17 digits give every float64 back exactly
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / ARRAYS)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a folder that `save` wrote.

        Raises:
            UserError: the folder is absent, of another kind, or torn.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        facts = read_facts(folder)
        if facts["kind"] != cls.kind:
            raise UserError(
                f"{folder}: holds a {facts['kind']!r} predictor, not {cls.kind!r}; use load_predictor"
            )
        try:
            predictor = cls(**facts["settings"])
            predictor._restore(folder, facts["state"], load_file(folder / ARRAYS))
            predictor.models = int(facts["models"])
            # One prompt through the whole: shapes that don't fit together show here, not in a user's request.
            probe = {name: np.zeros((1, width), np.float32) for name, width in predictor._widths().items()}
            tried = predictor.predict(PromptBatch(["a probe"], probe))
            if tried.shape != (1, predictor.models) or not np.isfinite(tried).all():
                raise ValueError(f"it predicts {tried.tolist()} for {predictor.models} models")
        except UserError:
            raise
        except (
            OSError,
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            SafetensorError,
        ) as error:
            raise UserError(
                f"{folder}: not a whole {cls.kind} predictor ({type(error).__name__}: {error}); train it again"
            ) from error
        return predictor

    def _settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def _widths(self) -> Mapping[str, int]:
        """Width of the embeddings that it was fitted with, by encoder name."""
        return {}

    @abstractmethod
    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None: ...

    @abstractmethod
    def _predict(self, prompts: PromptBatch) -> Array: ...

    @abstractmethod
    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        """What was learnt: values for JSON, and arrays. May write further files into `folder`."""

    @abstractmethod
    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take back what `_state` gave."""


def read_facts(folder: Path | str) -> dict[str, Any]:
    """What a predictor folder says about itself.

    Raises:
        UserError: the folder is absent, or not one of this format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such predictor folder; `dvc repro` trains one")
    facts = read_json(folder / FACTS)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or "kind" not in facts:
        raise UserError(f"{folder / FACTS}: not a predictor of format {FORMAT}; train it again")
    return facts
