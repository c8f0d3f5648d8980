"""What every predictor is: prompts in, predicted quality out."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat

from promptroute.core.batch import PromptBatch
from promptroute.core.component import TARGET, Component, build
from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Plain
from promptroute.core.text import short
from promptroute.io.files import atomic_path, read_json, sha256, write_json

Array = np.ndarray
State = Plain  # values for JSON
Arrays = dict[str, Array]
Validation = tuple[PromptBatch, Array] | None
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # scikit-learn takes no larger seed
Positives = Annotated[tuple[PositiveFloat, ...], Field(min_length=1, strict=False)]

WIDEST = 1_000_000  # columns of an encoder's vectors
FORMAT = 2
FACTS, ARRAYS = "predictor.json", "arrays.safetensors"
ROOM = "promptroute.predictors."
"""The package whose classes a predictor folder may name without its reader's leave."""


class Predictor(Component):
    """Learns how well each of m models serves a prompt.

    A fit on a CPU depends on its arguments and the predictor's settings alone. A subclass gives `_fit` and
    `_predict`, and keeps what it learns in underscored attributes: arrays and values for JSON that `learned` names,
    or whatever its own `_state` and `_restore` write and read.
    """

    unit: ClassVar[Literal["quality", "probability"]] = "quality"
    """What `predict` returns: quality in the unit it was fitted on, or the probability that a model is the best."""
    learned: ClassVar[tuple[str, ...]] = ()
    """Attributes that a fit sets and a folder keeps, without their underscore."""

    _models: int | None = None
    _out_of_fold: Array | None = None

    @property
    def models(self) -> int | None:
        """Return m, the number of models; None until fitted."""
        return self._models

    @property
    def out_of_fold(self) -> Array | None:
        """Return what fits without each prompt predict of it, where the fit learned from validation too.

        float64 [n + v, m], the training and then the validation prompts: whatever is tuned on predictions is
        tuned on these. None where the fit didn't learn from validation: `predict` of validation then serves.
        Not saved.
        """
        return self._out_of_fold

    @property
    def embedding_widths(self) -> Mapping[str, int]:
        """Return the width of the embeddings that it was fitted with, by encoder name."""
        return {}

    @property
    def needs(self) -> frozenset[str]:
        """Name the text encoders that its settings ask for."""
        named = getattr(getattr(self, "features", None), "embeddings", "all")
        return frozenset() if named == "all" else frozenset(named)

    def fit(self, prompts: PromptBatch, quality: Array, validation: Validation = None) -> Self:
        """Learn from n prompts and their quality.

        Args:
            prompts: n prompts, with the embeddings that the predictor needs.
            quality: [n, m], finite, higher is better, in any unit.
            validation: prompts apart from these and their quality, for a predictor that chooses an epoch or weights
                with it, or learns from it too (see `out_of_fold`); ignored by the others.

        Raises:
            UserError: no prompts, shapes that disagree, quality that is not finite, or missing embeddings.
        """
        values = check_pair(prompts, quality)
        if validation is not None:
            held = check_pair(*validation, where="validation quality")
            if held.shape[1] != values.shape[1]:
                raise UserError(
                    f"validation quality has {held.shape[1]} models, training quality {values.shape[1]}"
                )
            validation = (validation[0], held)
        self._models, self._out_of_fold = None, None
        self._fit(prompts, values, validation)
        self._models = values.shape[1]
        return self

    def predict(self, prompts: PromptBatch) -> Array:
        """Return float64 [n, m], higher is better, in the unit of `unit`; row i depends on prompt i alone.

        Raises:
            UserError: not fitted, no prompts, or embeddings that are missing or of another width than at fit.
        """
        if self._models is None:
            raise UserError(
                f"this {type(self).__name__} is not fitted yet; call fit, or load a saved predictor"
            )
        check_prompts(prompts)
        return self._predict(prompts)

    def save(self, folder: Path | str) -> None:
        """Write the fitted predictor as JSON and safetensors; a folder that exists is replaced whole.

        Raises:
            UserError: the predictor is not fitted.
        """
        from safetensors.numpy import save

        if self._models is None:
            raise UserError(f"this {type(self).__name__} is not fitted yet, so there is nothing to save")
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            state, arrays = self._state(temporary)
            facts = {
                "format": FORMAT,
                "predictor": _section(self),
                "version": self.version,
                "models": self._models,
                "state": state,
            }
            contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
            # The library's own writing tells a full disk by an error of its own.
            (temporary / ARRAYS).write_bytes(save(contiguous))
            facts["files"] = _digests(temporary)
            write_json(temporary / FACTS, facts, digits=17)  # 17 digits give every float64 back exactly

    @classmethod
    def load(cls, folder: Path | str, allow: Collection[str] = ()) -> Self:
        """Read a folder that `save` wrote. Runs no code from it, and reads no pickle; what it predicts is bit-equal.

        Args:
            folder: may come from a stranger.
            allow: dotted paths of classes, or packages (ending with a dot), that the folder may name besides those
                of this library.

        Raises:
            UserError: the folder is absent, corrupt, of another format, or names a class that isn't allowed.
        """
        facts = _read_facts(Path(folder))
        where = f"{Path(folder) / FACTS}: predictor"
        return build(facts.get("predictor"), where, cls, (ROOM, *allow))._recall(Path(folder))

    def _recall(self, folder: Path) -> Self:
        """Take back what an equal predictor saved, and try it on one prompt.

        Shapes that don't fit together show here, not in a user's request.
        """
        from safetensors.numpy import load_file

        facts, name = _read_facts(folder), type(self).__name__
        if facts.get("version") != self.version:
            raise UserError(
                f"{folder / FACTS}: made by version {short(facts.get('version'))} of {name}, which is now at version "
                f"{self.version}; train it again"
            )
        stated, now = facts.get("files", {}), _digests(folder)  # an older version stated none
        if not isinstance(stated, dict):
            raise UserError(f"{folder / FACTS}: not a predictor; train it again")
        if changed := [path for path in stated if now.get(path) != stated[path]]:
            fault = "changed since the predictor was saved (SHA-256)" if changed[0] in now else "is missing"
            raise UserError(f"{folder / changed[0]}: {fault}; train it again")
        try:
            if not (folder / ARRAYS).is_file():
                raise ValueError(f"{ARRAYS} is no file")
            arrays = load_file(folder / ARRAYS)
            for array, values in arrays.items():
                if np.isnan(values).any():  # the prompt below may not meet it, a user's does
                    raise ValueError(f"{array} holds NaN")
            self._restore(folder, facts["state"], arrays)
            self._models = int(facts["models"])
            widths = self.embedding_widths
            if any(width > WIDEST for width in widths.values()):
                raise ValueError(f"embeddings are wider than {WIDEST}")
            probe = {encoder: np.zeros((1, width), np.float32) for encoder, width in widths.items()}
            tried = self.predict(PromptBatch(["a probe"], probe))
            if tried.shape != (1, self._models) or not np.isfinite(tried).all():
                raise ValueError(f"it predicts {tried.tolist()} for {self._models} models")
        except UserError:
            raise
        except Exception as error:  # of numpy, scipy, LightGBM, torch, safetensors, or memory
            raise UserError(f"{folder}: not a whole {name} ({reason(error)}); train it again") from error
        return self

    @abstractmethod
    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        """Learn from checked arguments; see `fit`."""

    @abstractmethod
    def _predict(self, prompts: PromptBatch) -> Array:
        """Predict, fitted, for one prompt or more; see `predict`."""

    def _state(self, folder: Path) -> tuple[State, Arrays]:
        """Return what was learned: values for JSON, and arrays. May write further files into `folder`."""
        values = {name: getattr(self, f"_{name}") for name in self.learned}
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        return {name: value for name, value in values.items() if name not in arrays}, arrays

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        """Take back what `_state` gave."""
        for name in self.learned:
            setattr(self, f"_{name}", arrays[name] if name in arrays else state[name])


def check_pair(prompts: PromptBatch, quality: Array, where: str = "quality") -> Array:
    """Return quality as float64 [n, m].

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


def _digests(folder: Path) -> dict[str, str]:
    """Digest every file below a folder but its facts, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / FACTS)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _read_facts(folder: Path) -> Plain:
    """Read what a predictor folder says about itself, of whatever class.

    Raises:
        UserError: the folder is absent, or not a predictor of this format.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such predictor folder; train a predictor first")
    if (folder / FACTS).is_fifo() or (folder / FACTS).is_char_device():  # they never end
        raise UserError(f"{folder / FACTS}: no file; train it again")
    facts = read_json(folder / FACTS)
    if not isinstance(facts, dict) or "format" not in facts:
        raise UserError(f"{folder / FACTS}: not a predictor; train it again")
    if facts["format"] != FORMAT:
        raise UserError(
            f"{folder / FACTS}: a predictor of format {short(facts['format'])}, which this version of the library doesn't "
            f"read (it reads format {FORMAT}); train it again"
        )
    return facts


def _section(value: Any) -> Any:
    """Return a component's section with every setting: a saved predictor must outlive a change of defaults."""
    if isinstance(value, Component):
        return {
            TARGET: value.class_path(),
            **{name: _section(part) for name, part in value if name != "device"},
        }
    if isinstance(value, Mapping):
        return {name: _section(part) for name, part in value.items()}
    return value
