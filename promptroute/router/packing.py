"""Pack a router: calibrate its policy, set its prices, check its encoders."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.component import TARGET, Component, locate
from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.core.rows import SPLITS
from promptroute.core.study import StudyData
from promptroute.evaluation import metrics
from promptroute.evaluation.evaluation import to_calibrate
from promptroute.evaluation.search import Known, outcome
from promptroute.predictors.base import Predictor
from promptroute.router.router import Router
from promptroute.router.seen import digests
from promptroute.router.types import ModelInfo
from promptroute.routing.base import Policy, Training
from promptroute.routing.costs import CostRule, Facts
from promptroute.routing.quality import Quality
from promptroute.routing.search_policy import Search
from promptroute.scorers.base import PromptGroupBatch


class NoValidation(UserError):
    """A study has no prompt to calibrate on."""


class NoLook(UserError):
    """Nothing says what a look at an image costs."""


@dataclass(frozen=True)
class Look:
    """What scoring an image takes: dollars, and seconds where they are known."""

    dollars: float
    seconds: float | None


@dataclass(frozen=True, eq=False)
class Trained:
    """What a router is packed of, besides its policy and prices.

    Attributes:
        study: every prompt with what was observed; models in the predictor's order.
        split: of each of its prompts, "train", "validation" or "test".
        predictor: fitted.
        quality: what it predicts.
        out_of_fold: prompt_id → row of `predicted`: prompts with predictions of a fit that hadn't seen them.
        predicted: quality [k, m].
        encoders: encoder name → section.
    """

    study: StudyData
    split: np.ndarray
    predictor: Predictor
    quality: Quality
    out_of_fold: Mapping[str, int]
    predicted: np.ndarray
    encoders: Mapping[str, Section]
    allow: Collection[str] = ()

    @classmethod
    def read(
        cls,
        data: Path,
        scores: Sequence[str],
        encoders: Mapping[str, Section],
        allow: Collection[str] = (),
        kind: str | None = None,
    ) -> "Trained":
        """Read the study and its predictor below `data`.

        Args:
            data: folder of prompts, performance, split, text embeddings and predictor.
            scores: of the study.
            encoders: encoder name → section.
            allow: classes besides promptroute's own that may be named.
            kind: class path of the predictor that it must be; None: any.

        Raises:
            UserError: a file is absent or corrupt, the predictor is another or of other prompts, or there is no validation prompt.
        """
        from promptroute.io.files import read_json
        from promptroute.io.study import check_made_of, load_study, with_images
        from promptroute.predictors.folder import load_predictor

        predictor = data / "predictor"
        fitted = read_json(predictor / "quality.json")
        try:
            quality, _ = Quality(**fitted["quality"]), fitted["models"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{predictor}/quality.json: not what training wrote; train again") from error
        study, split = load_study(data, fitted["models"], scores, list(encoders))
        if not (split == "validation").any():
            raise NoValidation(f"{data / 'split.parquet'}: no validation prompt to calibrate on")
        check_made_of(predictor, fitted.get("files"))
        ids, predicted = _out_of_fold(predictor / "out_of_fold.parquet", fitted["models"])
        if not set(study.prompt_ids[split == "validation"]) <= set(ids) or not np.isfinite(predicted).all():
            raise UserError(
                f"{predictor}/out_of_fold.parquet: not a finite prediction of each validation prompt of this study; "
                f"train it again"
            )
        loaded = load_predictor(predictor, allow)
        if kind not in (None, loaded.class_path()):
            raise UserError(
                f"{predictor}: is a {loaded.class_path()}, but the study's is a {kind}; train it again"
            )
        return cls(
            study=with_images(study, data),
            split=split,
            predictor=loaded,
            quality=quality,
            out_of_fold={prompt_id: place for place, prompt_id in enumerate(ids)},
            predicted=predicted,
            encoders=encoders,
            allow=allow,
        )

    def held_out(self) -> tuple[StudyData, np.ndarray]:
        """Return the prompts that have an out-of-fold prediction, and those predictions, float64 [n, m]."""
        places = [self.out_of_fold.get(prompt_id) for prompt_id in self.study.prompt_ids]
        held = np.flatnonzero([place is not None for place in places])
        return self.study.take(held), self.predicted[[place for place in places if place is not None]]

    def part(self, split: str) -> StudyData:
        """Return the prompts of a split."""
        return self.study.take(np.flatnonzero(self.split == split))


def _out_of_fold(path: Path, models: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Read prompt ids and predictions, float64 [k, m], that no fit had seen.

    Raises:
        UserError: the file is absent or corrupt, or holds anything else.
    """
    from promptroute.io.parquet import read_parquet

    rows = read_parquet(path, "out-of-fold predictions", ["prompt_id", *models]).to_pandas()
    try:
        return rows["prompt_id"].to_list(), rows[list(models)].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not predictions of {', '.join(models)}; train it again") from error


def facts_of(
    trained: Trained, profiles: Mapping[str, Section], fresh: Mapping[str, Section]
) -> dict[str, Facts]:
    """Gather what is known of each model's cost: model → facts, in the order of the columns.

    Args:
        trained: whose training prompts may have recorded seconds.
        profiles: model → profile, as stated.
        fresh: model → profile measured on this machine, with its `seconds`.

    Raises:
        UserError: the predictor was trained for a model that the study lacks.
    """
    models, measured = trained.study.models, trained.part("train").measured_seconds()
    if lost := [name for name in models if name not in profiles]:
        raise UserError(f"the predictor was trained for {', '.join(lost)} too, which the study lacks")
    known = {name: {**profiles[name], "measured_seconds": measured.get(name)} for name in models}
    for name, profile in fresh.items():
        known[name] |= {**profile, "measured_seconds": profile["seconds"]}
    return {name: Facts.of(profile) for name, profile in known.items()}


def look_of(scorers: Mapping[str, Section], scores: Sequence[str], rule: CostRule) -> Look:
    """Price a look at an image: what the scorers behind its quality take, by the study's own cost rule.

    Args:
        scorers: name → section; what a scorer takes is its setting `profile`, or its class's default.
        scores: full names of the scores that quality is made of; each scorer is paid once.
        rule: dollars for what is taken.

    Raises:
        NoLook: a scorer doesn't say what it takes, or not what the rule needs.
        UserError: a score is one over all images of a prompt, so that a look at one image tells nothing.
    """
    facts = {}
    for name in dict.fromkeys(score.partition(".")[0] for score in scores):
        section = scorers[name]
        kind = locate(section.get(TARGET), Component, f"scorer {name}")
        if getattr(kind, "inputs", None) is PromptGroupBatch:
            raise UserError(
                f"{name} scores all images of a prompt together, so there is nothing to look at after one; choose a "
                f"score without it, or a policy that doesn't look"
            )
        field = kind.model_fields.get("profile")
        profile = section.get("profile", None if field is None else field.default)
        if not profile:
            raise NoLook(
                f"scorer {name} doesn't say what scoring an image takes; give its profile (seconds, memory_gb, gflops), "
                f"or the price of a look in dollars"
            )
        facts[name] = Facts.of({"measured_seconds": profile.get("seconds"), **profile})
    try:
        dollars = float(rule.cost(facts).sum())
    except UserError as error:
        raise NoLook(
            f"a look at {' and '.join(facts)} can't be priced ({error}); give its price in dollars"
        ) from error
    known = [one.seconds for one in facts.values() if one.seconds is not None]
    return Look(dollars, sum(known) if len(known) == len(facts) else None)


def pack(
    trained: Trained,
    policy: Policy,
    cost: np.ndarray,
    labels: Mapping[str, str],
    about: Section,
    look: Look | None = None,
) -> Router:
    """Return the router: its policy, and those that it is compared with, calibrated on out-of-fold predictions.

    Args:
        trained: predictor and study.
        policy: what decides, not calibrated.
        cost: dollars per image [m].
        labels: model → how people write it; its name where it is absent.
        about: where it comes from; see `promptroute.router.card`.
        look: what a look at an image costs; None: not known.

    Raises:
        UserError: the policy looks, but the predictor gives probabilities; an encoder doesn't give the vectors that
            were learnt from; what the policy refuses.
    """
    if policy.looks and trained.predictor.unit == "probability":
        raise UserError(
            f"{policy.title} needs predicted quality, and {type(trained.predictor).__name__} predicts probabilities, "
            f"which say nothing of a score; choose another predictor or policy"
        )
    held, predicted = trained.held_out()
    observed = trained.quality.of(held.raw)
    texts = trained.study.take(np.flatnonzero(trained.split != "test")).batch.texts
    draft = Router(
        models=[
            ModelInfo(name, labels.get(name, name), float(price), float(mean))
            for name, price, mean in zip(trained.study.models, cost, observed.mean(axis=0), strict=True)
        ],
        quality=trained.quality,
        predictor=trained.predictor,
        encoders=trained.encoders,
        policy=policy,
        allow=trained.allow,
        seen=digests(texts),
        about={
            **about,
            "prompts": {name: int((trained.split == name).sum()) for name in SPLITS},
            "calibrated_on": len(held),
            **({} if look is None else {"look_seconds": look.seconds}),
        },
    )
    check_encoders(draft, trained.part("validation").batch)
    training = replace(
        _training(draft, trained),
        look=None if look is None else look.dollars,
        images=trained.quality.of_images(held.images, held.raw),
    )
    others = to_calibrate(policy, _cost_per_set(trained, held, draft.cost))
    calibrated = {name: one.calibrate(predicted, observed, cost, training) for name, one in others.items()}
    own = policy.calibrate(predicted, observed, cost, training)
    known = Known(predicted, observed, draft.cost, {}, training.images, {}, None)
    return replace(draft, policy=own, compared=calibrated, about={**draft.about, **_searched(own, known)})


def _cost_per_set(trained: Trained, held: StudyData, cost: np.ndarray) -> float:
    """Return the mean cost of the best model per prompt set, learnt on the training prompts, for prompts held out."""
    train = trained.part("train")
    return float(cost[metrics.best_per_set(trained.quality.of(train.raw), train.sets, held.sets)].mean())


def _searched(policy: Policy, known: Known) -> Plain:
    """Return mean quality of a search on the calibration prompts, and what is left of it on fresh images."""
    if not isinstance(policy, Search):
        return {}
    found = outcome(policy, known)
    fresh = None if found.fresh is None else float(found.fresh.mean())
    return {"searched": {"quality": float(found.quality.mean()), "fresh": fresh}}


def _training(router: Router, trained: Trained) -> Training:
    """Gather what a policy may know of the study besides the prompts that it is calibrated on."""
    train, validation = trained.part("train"), trained.part("validation")
    widths = {
        # Of an encoder that gives inner layers too, the last columns are the sentence embedding.
        name: int(getattr(encoder, "sentence_width", 0) or encoder.description["dim"])
        for name, encoder in router.loaded.items()
    }

    def vectors(batch: PromptBatch) -> dict[str, np.ndarray]:
        return {name: batch.embeddings[name][:, -width:] for name, width in widths.items()}

    return Training(
        models=router.names,
        single=metrics.best_single(trained.quality.of(train.raw)),
        train=vectors(train.batch),
        validation=vectors(validation.batch),
    )


def check_encoders(router: Router, batch: PromptBatch) -> None:
    """Refuse to pack a router whose encoders, as they are here, don't give the vectors that were learnt from.

    Raises:
        UserError: naming the encoder.
    """
    few = batch.take(np.arange(min(len(batch), 4)))
    for name, vectors in router.batch(few.texts).embeddings.items():
        learnt = few.embeddings[name]
        # Kernels and devices differ by rounding; other weights differ by far more than a hundredth.
        if np.linalg.norm(vectors - learnt) > 0.01 * np.linalg.norm(learnt):
            raise UserError(
                f"data/text/{name}.parquet: not the vectors that encoder {name} gives on this machine, so its "
                f"weights have changed since; encode the prompts again"
            )


def provenance(prompts: Path, performance: Path, split: Path) -> Plain:
    """Return what the study was read from and made into, with checksums."""
    import json

    import pyarrow.parquet as pq

    from promptroute.io.study import made_of

    data: Plain = {}
    for path in (prompts, performance):
        read = json.loads((pq.read_schema(path).metadata or {}).get(b"sources", b"{}"))
        data |= read if isinstance(read, dict) else {"prompts": read}
    return {"data": data, "files": made_of(prompts, performance, split)}
