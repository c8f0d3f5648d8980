"""Figures of a recovery: how near the predicted embeddings come to the prompts', with intervals by prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.core.rows import Prompt, SplitRow
from promptroute.encoders.embed import encode_prompts
from promptroute.evaluation.bootstrap import intervals
from promptroute.io.cache import digest
from promptroute.io.embeddings import read_image_embeddings, read_sentences
from promptroute.io.phrases import read_phrases
from promptroute.io.tables import read_table
from promptroute.recovery.learners.base import Examples, Learner
from promptroute.recovery.recovered import Recovery
from promptroute.recovery.study import RecoveryStudy, StudyImages, cross_fitted, sides
from promptroute.recovery.texts import Bank, Recovered, ranked, without
from promptroute.recovery.vectors import cosine, ranks, unit

AT = (1, 5, 10)
"""Places among which the true prompt is looked for: recall@k."""
Figures = Plain


class Judge:
    """Judges predictions of the test images' prompts.

    Args:
        images: of the test prompts.
        target: float32 [n, d] sentence embedding of each image's prompt, unit length.
        texts: [n] each image's prompt.
        floor: float32 [d], the mean embedding of the training prompts.
        resamples, seed: of the bootstrap over prompts.
    """

    def __init__(
        self,
        images: StudyImages,
        target: np.ndarray,
        texts: Sequence[str],
        floor: np.ndarray,
        *,
        resamples: int,
        seed: int,
    ) -> None:
        if not len(target):
            raise UserError(
                "no test prompt has an image, so there is nothing to judge; give the test split more"
            )
        self.images, self.target, self.resamples, self.seed = images, target, resamples, seed
        unique, first, self.own = np.unique(np.asarray(texts), return_index=True, return_inverse=True)
        self.texts, self.bank = [str(text) for text in unique], target[first]
        self.floor = cosine(np.broadcast_to(floor, target.shape), target)

    def columns(self, predicted: np.ndarray) -> np.ndarray:
        """Compute an image's cosine, floor, reciprocal rank and recalls: float64 [n, 3 + len(AT)]."""
        place = ranks(unit(predicted), self.bank, self.own)
        return np.column_stack(
            [cosine(predicted, self.target), self.floor, 1 / place, *(place <= k for k in AT)]
        )

    def figures(self, predicted: np.ndarray, rows: np.ndarray | None = None) -> Figures:
        """Average over images, then prompts.

        Args:
            predicted: [n, d] of any length but 0.
            rows: which images to judge; None: all.

        Returns:
            `cosine`, `floor` (the cosine of the mean training embedding), `share` (of the way from the floor to 1),
            `recall@k` and `mrr` of the true prompt among all test prompts, each with its 95 % interval over prompts.
        """
        rows = np.arange(len(self.target)) if rows is None else rows
        found = intervals(
            self.by_prompt(self.columns(predicted)[rows], rows),
            _statistic,
            seed=self.seed,
            resamples=self.resamples,
        )
        return {name: one.__dict__ for name, one in found.items()}

    def by_model(self, predicted: np.ndarray) -> Figures:
        """Judge each model's images alone."""
        return {
            str(model): self.figures(predicted, np.flatnonzero(self.images.model == model))
            for model in np.unique(self.images.model)
        }

    def difference(self, one: np.ndarray, other: np.ndarray) -> Figures:
        """Give by how much the mean cosine of one prediction is above another's of the same images."""
        gain = (self.columns(one) - self.columns(other))[:, :1]
        found = intervals(
            self.by_prompt(gain, np.arange(len(gain))),
            lambda means: {"cosine": means[:, 0]},
            seed=self.seed,
            resamples=self.resamples,
        )
        return found["cosine"].__dict__

    def pooled(self, predicted: np.ndarray, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        """Pool the first images of each model and prompt: the mean of their unit vectors.

        Returns:
            Predictions float32 [n, d], equal within a model and prompt, and the row of the first image of each.
        """
        keys = np.char.add(np.char.add(self.images.model, "\0"), self.images.prompt_id)
        _, first, own = np.unique(keys, return_index=True, return_inverse=True)
        order = np.lexsort((self.images.seed, own))
        within = np.arange(len(own)) - np.searchsorted(own[order], own[order])
        taken = order[within < seeds]
        sums = np.zeros((len(first), predicted.shape[1]))
        np.add.at(sums, own[taken], unit(predicted)[taken])
        return unit(sums)[own], first

    def by_prompt(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Average rows over each prompt's images: [prompts, columns]."""
        _, own = np.unique(self.own[rows], return_inverse=True)
        sums = np.zeros((own.max() + 1, columns.shape[1]))
        np.add.at(sums, own, columns)
        return sums / np.bincount(own)[:, None]


def _statistic(means: np.ndarray) -> dict[str, np.ndarray]:
    near, floor, mrr = means[:, 0], means[:, 1], means[:, 2]
    recalls = {f"recall@{k}": means[:, 3 + place] for place, k in enumerate(AT)}
    return {"cosine": near, "floor": floor, "share": (near - floor) / (1 - floor), **recalls, "mrr": mrr}


def measure(
    judge: Judge,
    learners: Mapping[str, Learner],
    train: Examples,
    groups: np.ndarray,
    validation: Examples,
) -> tuple[Figures, np.ndarray]:
    """Fit learners on train, choose on validation, and judge on test; the first is the study's.

    Args:
        judge: of the test images.
        learners: by name, the study's first; it is fitted on all views when this returns.
        train, validation: the other sides.
        groups: int [n], of the training images' prompts.

    Returns:
        The figures, and the first learner's predictions of the test images.
    """
    predicted = {}
    for name, learner in learners.items():
        learner.fit(train.views, train.target, groups, validation)
        predicted[name] = learner.predict(judge.images.views)
    name, learner = next(iter(learners.items()))
    own = predicted[name]
    figures = {
        "learner": name,
        "learners": {key: {"all": judge.figures(rows), "models": judge.by_model(rows)} for key, rows in predicted.items()},
        "differences": {f"{name} - {key}": judge.difference(own, rows) for key, rows in predicted.items() if key != name},
        "without": _left_out(judge, learner, train, groups, validation, own) if learner.learns else {},
        "seeds_pooled": {str(seeds): judge.figures(*judge.pooled(own, seeds)) for seeds in _counts(judge.images.seed)},
    }  # fmt: skip
    learner.fit(train.views, train.target, groups, validation)
    return figures, own


def _left_out(
    judge: Judge, learner: Learner, train: Examples, groups: np.ndarray, validation: Examples, own: np.ndarray
) -> Figures:
    """Fit without each view in turn: view → its figures, and what leaving it out `costs` in mean cosine."""
    figures = {}
    for view in train.views if len(train.views) > 1 else ():
        known, chosen, judged = (
            {name: rows for name, rows in views.items() if name != view}
            for views in (train.views, validation.views, judge.images.views)
        )
        learner.fit(known, train.target, groups, (chosen, validation.target))
        found = learner.predict(judged)
        figures[view] = {**judge.figures(found), "costs": judge.difference(own, found)}
    return figures


def _counts(seeds: np.ndarray) -> list[int]:
    """List the numbers of seeds to pool: powers of two, and all."""
    most = int(np.unique(seeds).size)
    return sorted({*(2**power for power in range(most.bit_length())), most})


def recovered_texts(
    judge: Judge, predicted: np.ndarray, recovery: Recovery, most: int, seeds: int
) -> tuple[Figures, list[Plain]]:
    """Recover text from all seeds of each model and prompt together, and judge it by its embedding.

    Args:
        judge: of the test images.
        predicted: their predicted embeddings.
        recovery: its bank must hold none of the judged prompts.
        most: models and prompts, evenly over all.
        seeds: pooled.

    Returns:
        The figures of the nearest prompt of the bank and of the composed text, beside those of the prediction itself;
        and for each model and prompt its row: prompt_id, model, prompt, retrieved, composed, candidates.

    Raises:
        UserError: the bank holds a judged prompt.
    """
    recovery.bank.check_apart(judge.texts)
    pooled, first = judge.pooled(predicted, seeds)
    rows = first[np.unique(np.linspace(0, len(first) - 1, min(most, len(first))).round().astype(int))]
    retrieved = recovery.bank.retrieve(pooled[rows], 5)
    composed = recovery.compose(pooled[rows])
    vectors = {
        "predicted": pooled[rows],
        "retrieved": recovery.sentences([some[0].text for some in retrieved]),
        "composed": recovery.sentences([one.text for one in composed]),
    }
    figures = {}
    for kind, found in vectors.items():
        by_prompt = judge.by_prompt(cosine(found, judge.target[rows])[:, None], rows)
        one = intervals(
            by_prompt, lambda means: {"cosine": means[:, 0]}, seed=judge.seed, resamples=judge.resamples
        )
        figures[kind] = one["cosine"].__dict__
    table = [
        {
            "prompt_id": str(judge.images.prompt_id[row]), "model": str(judge.images.model[row]),
            "prompt": judge.texts[judge.own[row]], "retrieved": some[0].text, "composed": one.text,
            "phrases": one.phrases, "candidates": [found.text for found in ranked(some, [one], k=5)],
        }
        for row, some, one in zip(rows, retrieved, composed, strict=True)
    ]  # fmt: skip
    return figures, table


def recover_prompts(
    recovery: Recovery, folder: Path, model: str, prompts: Mapping[str, str]
) -> dict[str, Recovered]:
    """Recover prompts from all images of a model together, by predictions none of which saw its own prompt.

    Args:
        recovery: the study's; its bank is searched without these prompts.
        folder: of the cross-fitted predictions, as `write_predicted` wrote them.
        model: whose images.
        prompts: prompt_id → the true prompt.

    Returns:
        prompt_id → the likeliest text; a prompt without an image is left out.

    Raises:
        UserError: the model has no predictions, or the bank holds nothing but these prompts.
    """
    ids, _, vectors = read_image_embeddings(folder / model)
    rows = {prompt: np.flatnonzero(ids == prompt) for prompt in prompts}
    known = [prompt for prompt, found in rows.items() if len(found)]
    if not known:
        return {}
    pooled = unit(np.stack([unit(vectors[rows[prompt]]).mean(axis=0) for prompt in known]))
    texts = replace(recovery, bank=recovery.bank.less(list(prompts.values()))).texts(pooled, k=1)
    return {prompt: found[0] for prompt, found in zip(known, texts, strict=True)}


class StudyPrompts(NamedTuple):
    """A study's prompts, row for row, near-duplicates on one side of the split.

    Attributes:
        ids, texts: [p].
        vectors: float32 [p, d] sentence embeddings.
        side: str [p], train, validation or test.
        groups: int64 [p], equal for near-duplicates.
        moved: how many stand on another side than the study's own split has them.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    vectors: np.ndarray
    side: np.ndarray
    groups: np.ndarray
    moved: int

    @classmethod
    def of(
        cls, ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray, side: Sequence[str], near: float
    ) -> "StudyPrompts":
        """Move near-duplicates, of a cosine of `near` or more, to the side of their first."""
        found, groups = sides(vectors, np.asarray(side, str), near)
        return cls(
            list(ids), list(texts), vectors, found, groups, int((found != np.asarray(side, str)).sum())
        )

    @property
    def judged(self) -> list[str]:
        """Return the test prompts' texts."""
        return [text for text, side in zip(self.texts, self.side, strict=True) if side == "test"]


def read_prompts(study: RecoveryStudy, data: Path) -> tuple[StudyPrompts, Bank]:
    """Read a study's prompts and split, and make the bank of its sources' other prompts; all are encoded once.

    Args:
        study: the settings.
        data: the folder of prompts.parquet, split.parquet and sources/.

    Raises:
        UserError: a file is absent or corrupt, or the sources hold no other prompt than those judged.
    """
    frame = read_table(data / "prompts.parquet", Prompt)
    sides = read_table(data / "split.parquet", SplitRow).set_index("prompt_id")["split"]
    if lost := sorted(set(frame["prompt_id"]) - set(sides.index)):
        raise UserError(f"{data / 'split.parquet'}: prompt {lost[0]} is on no side; split the prompts again")

    def encoded(texts: list[str]) -> np.ndarray:
        encoder = study.text_encoder
        return read_sentences(encode_prompts(encoder, texts, texts), encoder.sentence_width)

    texts = list(frame["prompt"])
    prompts = StudyPrompts.of(
        list(frame["prompt_id"]), texts, encoded(texts), list(sides.reindex(frame["prompt_id"])), study.near
    )
    sources = sorted((data / "sources").glob("*.parquet"))
    known = [text for path in sources for text in read_table(path, Prompt)["prompt"]]
    kept = without(known, prompts.judged, study.bank)
    return prompts, Bank(kept, encoded(kept) if kept else np.empty((0, 0)))


@dataclass(frozen=True)
class Outcome:
    """What a study's recovery came to.

    Attributes:
        recovery: trained on train.
        figures: for metrics/recovery.json.
        texts: rows of `recovered_texts`.
        predicted: float32 [n, d] of all images, cross-fitted.
    """

    recovery: Recovery
    figures: Figures
    texts: list[Plain]
    predicted: np.ndarray

    def summary(self) -> str:
        """Say in a line how well it does."""
        own = self.figures["learners"][self.figures["learner"]]["all"]
        return (
            f"{self.figures['learner']}: mean cosine {own['cosine']['estimate']:.4f} on test (floor "
            f"{own['floor']['estimate']:.4f}), the true prompt first of {self.figures['prompts']['test']} for "
            f"{own['recall@1']['estimate']:.1%} of the images"
        )


def recover(
    study: RecoveryStudy,
    images: StudyImages,
    prompts: StudyPrompts,
    bank: Bank,
    encoders: Mapping[str, Component],
    *,
    resamples: int,
    seed: int,
) -> Outcome:
    """Train a study's recovery on train, choose on validation, judge it on test, and predict every image out of fold.

    Args:
        study: the settings.
        images: with their views.
        prompts: of these images, and maybe more.
        bank: to retrieve from; holds no test prompt.
        encoders: view → what makes it, kept with the recovery.
        resamples, seed: of the intervals.

    Raises:
        UserError: an image's prompt is unknown, a side has no image, or as the parts.
    """
    at = {name: row for row, name in enumerate(prompts.ids)}
    if lost := sorted(set(images.prompt_id.tolist()) - set(at)):
        raise UserError(
            f"there are images of prompt {lost[0]}, which the study doesn't have; embed its own images"
        )
    own = np.array([at[name] for name in images.prompt_id])
    examples, groups = Examples(images.views, prompts.vectors[own]), prompts.groups[own]
    rows = {name: np.flatnonzero(prompts.side[own] == name) for name in ("train", "validation", "test")}
    if empty := [name for name, found in rows.items() if not len(found)]:
        raise UserError(
            f"no {empty[0]} prompt has an image; sample more prompts, or give that side of the split more"
        )
    train, validation = examples.take(rows["train"]), examples.take(rows["validation"])
    judge = Judge(
        images.take(rows["test"]), examples.target[rows["test"]], [prompts.texts[row] for row in own[rows["test"]]],
        train.target.mean(axis=0), resamples=resamples, seed=seed,
    )  # fmt: skip
    figures, predicted = measure(judge, study.learners, train, groups[rows["train"]], validation)
    made = {
        name: digest(dict(encoder.weights())) for name, encoder in {**encoders, "text": study.text}.items()
    }
    recovery = Recovery(study.learner, encoders, study.text, bank, read_phrases(study.phrases), made)
    found, texts = recovered_texts(judge, predicted, recovery, study.texts, len(np.unique(images.seed)))
    counts = {name: int((prompts.side == name).sum()) for name in rows}
    figures = {
        "views": {name: view.shape[1] for name, view in images.views.items()}, "images": len(own),
        "prompts": {**counts, "near_duplicates_moved": prompts.moved}, **figures,
        "text": {"of": len(texts), "bank": len(bank.texts), **found},
    }  # fmt: skip
    every = cross_fitted(study.learner.model_copy(deep=True), examples, groups, study.folds, study.seed)
    return Outcome(recovery, figures, texts, every)
