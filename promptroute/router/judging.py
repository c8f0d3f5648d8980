"""Judge a router on a study: everything that `promptroute.evaluation` measures, on all prompts and set by set."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.core.study import StudyData
from promptroute.evaluation.evaluation import AT_PER_SET, PER_SET, Judged, compared, evaluate, strategy_rows
from promptroute.evaluation.metrics import best_per_set
from promptroute.evaluation.search import outcome
from promptroute.router.router import Router
from promptroute.router.seen import seen
from promptroute.routing.base import Policy
from promptroute.routing.checks import FloatArray
from promptroute.routing.search_policy import Search


def judge(router: Router, study: StudyData, train: StudyData | None = None) -> Judged:
    """Predict and choose for a study's n prompts, whose embeddings are there.

    `train`: the prompts to learn the best model per prompt set from; None: that is not judged.
    """
    predicted, ood = router.assess(study.batch)
    learnt = None if train is None else best_per_set(router.quality.of(train.raw), train.sets, study.sets)
    judged = Judged(
        predicted=predicted,
        observed=router.quality.of(study.raw),
        raw=study.raw,
        cost=router.cost,
        models=router.names,
        decided=router.policy.choose(predicted, router.cost, ood=ood),
        policy=router.policy,
        calibrated=router.compared,
        per_set=learnt,
        images=router.quality.of_images(study.images, study.raw),
        raw_images=study.images,
        seconds=_seconds(router),
    )
    if not isinstance(router.policy, Search):
        return judged
    kept = outcome(router.policy, judged.known).replays[0].kept
    return replace(judged, decided=kept % len(router.models))


def _seconds(router: Router) -> FloatArray | None:
    """Return what an image and a look at it take with each model [m], by what the router was packed with."""
    known, look = router.about.get("seconds") or {}, router.about.get("look_seconds")
    if look is None or any(known.get(name) is None for name in router.names):
        return None
    return np.array([float(known[name]) + float(look) for name in router.names])


def measure(
    router: Router, study: StudyData, judged: Judged, scores: Mapping[str, str], *, resamples: int, seed: int
) -> Plain:
    """Return everything measured of a router, as plain values: all prompts, then each set by itself.

    Args:
        router: which decided.
        study: n prompts.
        judged: what `judge` gave for them.
        scores: score name → label, of the study's scores.
        resamples, seed: see `evaluate`.
    """
    sets = {str(name): np.flatnonzero(study.sets == name) for name in sorted(set(study.sets))}
    policies = {
        **compared(judged.observed, judged.cost, judged.models, judged.calibrated, seed),
        "router": router.policy,
    }
    texts = {name: (policy.name, policy.description) for name, policy in policies.items()}
    if judged.per_set is not None:
        texts[PER_SET] = ("best model per prompt set", "the best single model of the set's training prompts")
    return {
        "labels": dict(zip(router.names, router.labels, strict=True)),
        "scores": {name: scores.get(name, name) for name in study.raw},
        "policies": {
            name: {"title": title, "description": description}
            for name, (title, description) in texts.items()
            if not name.startswith("single_")
        },
        "score": " + ".join(router.quality.scores),
        **evaluate(judged, resamples=resamples, seed=seed),
        "sets": {
            name: evaluate(judged.take(index), resamples=resamples, seed=seed) for name, index in sets.items()
        },
    }


def without_choice(router: Router, study: StudyData) -> Plain:
    """Measure oracle and single models over every prompt of a study: nothing here is predicted."""
    observed, cost = router.quality.of(study.raw), router.cost
    chosen = {
        name: policy.choose(observed, cost)
        for name, policy in compared(observed, cost, router.names, {}, 0).items()
        if name == "oracle" or name.startswith("single_")
    }
    return {
        "prompts": len(study),
        "strategies": strategy_rows(observed, study.raw, cost, router.names, chosen),
    }


def unseen(router: Router, study: StudyData) -> StudyData:
    """Return the prompts that the router was not fitted or calibrated on.

    Raises:
        UserError: it has seen them all.
    """
    known = seen(study.batch.texts, router.seen)
    if known.all():
        raise UserError(
            f"all {len(study)} prompts are among those that the router was trained on, so they say nothing of new "
            f"ones; give others, or judge all of them in spite of it"
        )
    return study.take(np.flatnonzero(~known))


def embedded(router: Router, study: StudyData) -> StudyData:
    """Return the study with its prompts embedded by the router's encoders."""
    return replace(study, batch=router.batch(study.batch.texts))


def headline(result: Section, policy: Policy) -> Plain:
    """Return the dozen figures of `measure` that experiments are compared by: metrics/summary.json.

    Changes are against the best single model, in percent; costs in dollars per 1,000 images. `calibrated` is 1 where
    an operating point met the target, else 0. `frontier_…` figures are read off the frontier on these very prompts.
    Shares of the oracle gap, costs and accuracy are comparable across scores; qualities are in units of the score.
    """
    own, frontier, rows = result["router"], result["frontier"], result["strategies"]
    looked: Plain = {}
    if "searched" in result:
        # By the score that was looked at, and by images that were not: never the first without the second.
        fresh, left = result["searched"]["fresh"], result["search"]["fresh"]
        looked = {
            "quality_gain_on_fresh_images": fresh and fresh["quality_gain"]["estimate"],
            "oracle_gap_closed_on_fresh_images": fresh and fresh["oracle_gap_closed"]["estimate"],
            "images_per_prompt": sum(
                int(many) * share for many, share in result["searched"]["images"].items()
            ),
            "search_iso_quality_cost_percent": _percent(result["search"]["iso_quality_cost"]),
            "search_iso_quality_cost_percent_on_fresh_images": left and _percent(left["iso_quality_cost"]),
            "search_oracle_gap_closed": result["search"]["oracle_gap_closed"]["estimate"],
            "search_oracle_gap_closed_on_fresh_images": left and left["oracle_gap_closed"]["estimate"],
        }
    learnt = {}
    if PER_SET in rows:
        base = rows[PER_SET]["quality"]
        learnt["gain_on_best_per_set"] = rows["router"]["quality"] - base
        if AT_PER_SET in rows:
            learnt["gain_on_best_per_set_at_its_cost"] = rows[AT_PER_SET]["quality"] - base
        if looked:
            left = rows["router"]["fresh_quality"]
            looked["gain_on_best_per_set_on_fresh_images"] = None if left is None else left - base
    return {
        "test_prompts": result["prompts"],
        "calibrated": int(policy.calibration is not None and policy.calibration.reached),
        "oracle_gap_closed": own["oracle_gap_closed"]["estimate"],
        "quality_gain": own["quality_gain"]["estimate"],
        **learnt,
        "cost_change_percent": _percent(own["cost_change"]),
        "accuracy": result["choice"]["router"]["accuracy"],
        "dollars_per_1000": 1000 * rows["router"]["cost"],
        "best_single_dollars_per_1000": 1000 * rows[f"single_{result['best_single']}"]["cost"],
        "frontier_iso_quality_cost_percent": _percent(frontier["iso_quality_cost"]),
        "frontier_oracle_gap_closed": frontier["oracle_gap_closed"]["estimate"],
        "frontier_area": frontier["frontier_area"]["estimate"],
        **looked,
    }


def _percent(change: Mapping[str, float]) -> float:
    """Return an interval's estimate in percent, without the rounding errors of a change of 0."""
    return round(100 * change["estimate"], 9) + 0.0


def summary(result: Section) -> str:
    """Say in a line what came out."""
    gain, change = result["router"]["quality_gain"]["estimate"], result["router"]["cost_change"]["estimate"]
    notes = "".join(f" ({result[key]})" for key in ("few", "seen") if result.get(key))
    if "searched" in result:
        fresh = result["searched"]["fresh"]
        left = (
            "not known, as the study has no single images"
            if not fresh
            else f"{fresh['quality_gain']['estimate']:+.4f}"
        )
        notes += f"; what is left of that quality on images it did not look at: {left}"
    return (
        f"on {result['prompts']} prompts the router's quality is {gain:+.4f} and its cost {change:+.1%} "
        f"against {result['labels'][result['best_single']]}, the best single model{notes}"
    )
