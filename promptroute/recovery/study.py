"""A study's recovery: its settings, its images with their views joined by key, and the sides of its split."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.plain import Section
from promptroute.io.cache import digest
from promptroute.io.embeddings import embeddings_table, read_image_embeddings
from promptroute.io.parquet import write_parquet
from promptroute.io.phrases import read_phrases
from promptroute.recovery.learners.base import Examples, Learner
from promptroute.recovery.texts import SentenceSide
from promptroute.recovery.vectors import Views, folds, near_groups, unit


class RecoveryStudy(Component):
    """What a study recovers prompts with.

    Args:
        views: names of image encoders of the study, in the order in which the learner takes them.
        learner: what predicts; every figure but the comparison is its own.
        beside: name → learner that it is compared with.
        text: the text encoder whose sentence embedding is predicted.
        phrases: path of a file of lists to compose text of; None: our own.
        bank: prompts of the study's sources at most, to retrieve from.
        near: cosine of two prompts from which they stay on one side of the split.
        folds: for the predictions that the scorer takes, each made without its own prompt.
        texts: test prompts of which text is recovered, at most.
        seed: of the folds.
    """

    views: tuple[str, ...] = Field(min_length=1, strict=False)
    learner: Learner
    beside: Mapping[str, Learner] = {}
    text: Component
    phrases: str | None = None
    bank: int = Field(2000, ge=1)
    near: float = Field(0.9, gt=0, le=1)
    folds: int = Field(5, ge=2)
    texts: int = Field(100, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _check_views(self) -> Self:
        if len(set(self.views)) < len(self.views):
            raise UserError(f"views is {list(self.views)}; expected each encoder once")
        return self

    def weights(self) -> Mapping[str, str]:
        """Check-sum the lists of phrases; raises UserError as `read_phrases`."""
        return {"phrases": digest(read_phrases(self.phrases))}

    @property
    def learners(self) -> dict[str, Learner]:
        """Return the learner, named by its class, and those beside it.

        Raises:
            UserError: one beside it has its name.
        """
        name = type(self.learner).__name__.lower()
        if name in self.beside:
            raise UserError(f"recovery.beside.{name} has the name of the study's own learner; rename it")
        return {name: self.learner, **self.beside}

    @property
    def text_encoder(self) -> Any:
        """Return the text encoder.

        Raises:
            UserError: `text` names something else.
        """
        if not isinstance(self.text, SentenceSide):
            raise UserError(
                f"recovery.text: {type(self.text).__name__} encodes no texts; name a text encoder"
            )
        return self.text


def check_views(study: Component | None, encoders: Collection[str]) -> None:
    """Refuse a view that no image encoder of the study makes.

    Args:
        study: a `RecoveryStudy`; None: there is nothing to refuse.
        encoders: names of the study's image encoders.

    Raises:
        UserError: naming the view.
    """
    views = study.views if isinstance(study, RecoveryStudy) else ()
    if lost := [name for name in views if name not in encoders]:
        raise UserError(
            f"recovery.views has {lost[0]}, which image_encoder lacks; add it there, or name one that it has "
            f"({', '.join(encoders) or 'none'})"
        )


class StudyImages(NamedTuple):
    """Images of a study with their views, row for row.

    Attributes:
        model, prompt_id: str [n].
        seed: int64 [n].
        views: of the images.
    """

    model: np.ndarray
    prompt_id: np.ndarray
    seed: np.ndarray
    views: Views

    def take(self, rows: np.ndarray) -> "StudyImages":
        """Give the images at integer positions."""
        views = {name: view[rows] for name, view in self.views.items()}
        return StudyImages(self.model[rows], self.prompt_id[rows], self.seed[rows], views)


def read_views(folder: Path | str, views: Sequence[str], models: Sequence[str]) -> StudyImages:
    """Read a study's views and join them by model, prompt and seed.

    Args:
        folder: holds ENCODER/MODEL/part-*.parquet.
        views: encoders.
        models: whose images.

    Raises:
        UserError: a view is missing, has an image twice, or lacks one that another has; or there is no model.
    """
    if not models:
        raise UserError("no model generates images here, so there are none to recover prompts from")
    keys: list[tuple[str, str, int]] = []
    rows: dict[str, list[np.ndarray]] = {name: [] for name in views}
    for model in models:
        first: dict[tuple[str, int], int] | None = None
        for name in views:
            ids, seeds, vectors = read_image_embeddings(Path(folder) / name / model)
            at = {key: row for row, key in enumerate(zip(ids.tolist(), seeds.tolist(), strict=True))}
            place = f"{Path(folder) / name / model}"
            if len(at) < len(ids):
                raise UserError(f"{place}: {len(ids)} rows of {len(at)} images; embed the images again")
            first = at if first is None else first
            if odd := sorted(set(first) ^ set(at)):
                which = "lacks" if odd[0] in first else "has, besides what the other views have,"
                raise UserError(
                    f"{place}: {which} the image of prompt {odd[0][0]}, seed {odd[0][1]} ({len(odd)} such); embed the "
                    f"images again, so that all views are of the same ones"
                )
            rows[name].append(vectors[[at[key] for key in first]])
        keys += [(model, *key) for key in first or {}]
    return StudyImages(
        np.array([key[0] for key in keys]),
        np.array([key[1] for key in keys]),
        np.array([key[2] for key in keys], np.int64),
        {name: np.concatenate(parts) for name, parts in rows.items()},
    )


def sides(vectors: np.ndarray, side: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Put near-duplicates on one side of a split: that of their first.

    Args:
        vectors: [p, d] sentence embeddings of the prompts.
        side: str [p] of each prompt.
        near: cosine from which two are near-duplicates.

    Returns:
        The side str [p], and the group int64 [p] of each prompt.
    """
    groups = near_groups(unit(vectors), near)
    first = np.unique(groups, return_index=True)[1]
    return np.asarray(side)[first][groups], groups


def cross_fitted(
    learner: Learner, examples: Examples, groups: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Predict each image by a fit without its prompt, or any near one: float32 [n, d]; leaves `learner` fitted on a part.

    Args:
        learner: is fitted `count` times, once where it learns nothing.
        examples: all images.
        groups: int [n], of each image's prompt.
        count: of folds.
        seed: of the folds.
    """
    if not learner.learns:
        return learner.fit(examples.views, examples.target, groups).predict(examples.views)
    fold = folds(groups, count, seed)
    predicted = np.empty_like(examples.target)
    for number in range(count):
        known, judged = examples.take(fold != number), examples.take(fold == number)
        learner.fit(known.views, known.target, groups[fold != number])
        predicted[fold == number] = learner.predict(judged.views)
    return predicted


def write_predicted(
    folder: Path,
    images: StudyImages,
    predicted: np.ndarray,
    prompt_ids: Sequence[str],
    vectors: np.ndarray,
    fingerprint: Section,
) -> None:
    """Write predicted prompt embeddings as an image encoder's: prompts.parquet and MODEL/part-00000.parquet.

    Args:
        folder: must not exist.
        images: of n images.
        predicted: float32 [n, d].
        prompt_ids: [p].
        vectors: float32 [p, d] the prompts' own sentence embeddings.
        fingerprint: of what predicted; stated in each file.
    """
    made = {"component": digest(fingerprint)}
    write_parquet(folder / "prompts.parquet", embeddings_table(prompt_ids, vectors), made)
    for model in dict.fromkeys(images.model.tolist()):
        rows = np.flatnonzero(images.model == model)
        table = embeddings_table(images.prompt_id[rows].tolist(), predicted[rows], images.seed[rows].tolist())
        write_parquet(folder / model / "part-00000.parquet", table, {**made, "model": model})
