"""What a search comes to on judged prompts: its gain by the score that it looks at, and what is left on fresh images.

The scorer that selects is no judge of the selection: the best of several scores is partly luck. Where a study has
single images, a replay selects on one seed, and another seed of the model that it kept is the judge.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from promptroute.core.plain import Plain
from promptroute.evaluation import bootstrap
from promptroute.routing.belief import within
from promptroute.routing.checks import BoolArray, FloatArray, IntArray
from promptroute.routing.search import Replayed
from promptroute.routing.search_policy import Search, rounds

CURVES = {"search": None, "search_two_draws": 2}
"""Name of a frontier in a result → the most images a prompt; None: as the policy's own setting says."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of n prompts that are searched; m models, k single images of each.

    Attributes:
        predicted, observed: quality [n, m].
        cost: dollars of generating an image [m].
        raw: score name → [n, m].
        images: quality of each image [n, m, k]; None: only means are known, and stand for single images.
        raw_images: score name → [n, m, k], of the scores that single images have.
        seconds: of generating an image and looking at it [m]; None: not known.
    """

    predicted: FloatArray
    observed: FloatArray
    cost: FloatArray
    raw: Mapping[str, FloatArray]
    images: FloatArray | None
    raw_images: Mapping[str, FloatArray]
    seconds: FloatArray | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search came to, each prompt's mean over the replays.

    Attributes:
        replays: one for each image that may be the first.
        cost, quality: [n].
        fresh: [n], quality of other images by the model that was kept; None: there are none.
        scores: score name → [n], of the kept image; of its model where single images have no such score.
        share: [n, m], how often each model's image is kept.
    """

    replays: list[Replayed]
    cost: FloatArray
    quality: FloatArray
    fresh: FloatArray | None
    scores: Mapping[str, FloatArray]
    share: FloatArray


def outcome(policy: Search, known: Known) -> Outcome:
    """Search every prompt with a calibrated policy."""
    replayed = policy.replays(known.predicted, known.observed, known.cost, known.images)
    m, rows = known.observed.shape[1], np.arange(len(known.observed))
    fresh = [fresh_values(known.images, one, turn) for turn, one in enumerate(replayed)]
    scores = {}
    for name, values in known.raw.items():
        single, parts = known.raw_images.get(name), []
        for turn, one in enumerate(replayed):
            if single is None or known.images is None:
                parts.append(values[rows, one.kept % m])
            else:
                own = single[rows, one.kept % m, (turn + one.kept // m) % single.shape[2]]
                parts.append(np.where(np.isnan(own), values[rows, one.kept % m], own))
        scores[name] = np.mean(parts, axis=0)
    return Outcome(
        replays=replayed,
        cost=np.mean([one.cost for one in replayed], axis=0),
        quality=np.mean([one.quality for one in replayed], axis=0),
        fresh=None if any(one is None for one in fresh) else np.mean(fresh, axis=0),  # type: ignore[arg-type]
        scores=scores,
        share=np.mean([np.eye(m)[one.kept % m] for one in replayed], axis=0),
    )


def fresh_values(images: FloatArray | None, replayed: Replayed, turn: int) -> FloatArray | None:
    """Return the mean [n] over the kept model's images that a replay did not look at; None where it saw all.

    Args:
        images: quality, or what another judge says, of each image [n, m, k]; None: not known.
        replayed: what the replay came to.
        turn: which of the k images was each model's first in it.
    """
    if images is None:
        return None
    n, m, k = images.shape
    rows = np.arange(n)
    model = replayed.kept % m
    used = np.zeros((len(rows), k), bool)
    for boxes in replayed.order.T:
        same = (boxes >= 0) & (boxes % m == model)
        used[rows[same], (turn + boxes[same] // m) % k] = True
    left = (~used).sum(axis=1)
    if (left == 0).any():
        return None
    return np.asarray(np.where(used, 0.0, images[rows, model]).sum(axis=1) / left)


def row(known: Known, found: Outcome, models: list[str]) -> Plain:
    """Return a search's row of the cost table, with the shares of the prompts that took 1, 2, … images."""
    best = known.observed.max(axis=1).mean()
    return {
        "quality": float(found.quality.mean()),
        **{name: float(values.mean()) for name, values in found.scores.items()},
        "cost": float(found.cost.mean()),
        "total_cost": float(found.cost.sum()),
        "regret": float(best - found.quality.mean()),
        "share": dict(zip(models, found.share.mean(axis=0).tolist(), strict=True)),
        "images": shares_of(found.replays),
        "fresh_quality": None if found.fresh is None else float(found.fresh.mean()),
    }


def shares_of(replays: list[Replayed]) -> dict[str, float]:
    """Return the share of the prompts that took 1, 2, … images."""
    taken = np.concatenate([one.images for one in replays])
    return {str(many): float((taken == many).mean()) for many in range(1, int(taken.max()) + 1)}


def figures(policy: Search, known: Known, found: Outcome, *, resamples: int, seed: int) -> dict[str, Plain]:
    """Measure a search on n prompts, as plain values.

    Returns:
        `search`, `search_two_draws`: iso_quality_cost, oracle_gap_closed and frontier_area, each as
        `bootstrap.Interval`, read off the hull of the search over λ and of the single models; and `fresh`, the same by
        images that it did not look at, None where there are none; `area_lead` is the area less that of choosing before,
        paired by prompt;
        `searched`: of the policy's own operating point: `look`, dollars; `images`, shares of the prompts that took 1,
        2, …; `seconds`, mean, p50 and p95 of a request; `coverage` of the belief's 90 % intervals after 0, 1, 2 images;
        `fresh`, as `bootstrap.outcome_intervals`, by images that it did not look at, None where there are none.
    """
    curves = {name: _curve(policy, known, most, resamples, seed) for name, most in CURVES.items()}
    fresh = None
    if found.fresh is not None:
        own = bootstrap.outcome_intervals(
            known.observed, known.cost, found.fresh, found.cost, seed=seed, resamples=resamples
        )
        fresh = {name: asdict(interval) for name, interval in own.items()}
    searched = {
        "look": policy.look,
        "images": shares_of(found.replays),
        "seconds": _seconds(known, found.replays),
        "coverage": coverage(policy, known, found.replays),
        "fresh": fresh,
    }
    return {**curves, "searched": searched}


def curve(policy: Search, known: Known) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None]:
    """Return λ [k], and mean over the replays of cost, quality and fresh quality of each prompt at each λ [n, k]."""
    tradeoffs, swept = policy.sweep(known.predicted, known.observed, known.cost, known.images)
    fresh = None
    if known.images is not None and policy.images < known.images.shape[2]:
        parts = []
        for turn, one in enumerate(swept):
            columns = [fresh_values(known.images, each, turn) for each in one]
            parts.append(np.stack(columns, axis=1))  # type: ignore[arg-type]
        fresh = np.mean(parts, axis=0)
    cost, quality = (
        np.mean([np.stack([getattr(each, name) for each in one], axis=1) for one in swept], axis=0)
        for name in ("cost", "quality")
    )
    return tradeoffs, cost, quality, fresh


def _curve(policy: Search, known: Known, most: int | None, resamples: int, seed: int) -> Plain:
    own = policy if most is None else policy.model_copy(update={"max_images": most})
    _, cost, quality, fresh = curve(own, known)

    def read(gained: FloatArray) -> Plain:
        found = bootstrap.curve_intervals(
            # A single model needs no look: without these the hull would lack its left end.
            np.concatenate([np.broadcast_to(known.cost, known.observed.shape), cost], axis=1),
            np.concatenate([known.observed, gained], axis=1),
            known.observed,
            known.cost,
            seed=seed,
            resamples=resamples,
            against=bootstrap.choosing_curve(known.predicted, known.observed, known.cost),
        )
        return {name: asdict(interval) for name, interval in found.items()}

    return {**read(quality), "fresh": None if fresh is None else read(fresh)}


def _seconds(known: Known, replays: list[Replayed]) -> dict[str, float] | None:
    if known.seconds is None:
        return None
    taken = seconds_of(known.seconds, replays)
    p50, p95 = np.quantile(taken, [0.5, 0.95]).tolist()
    return {"mean": float(taken.mean()), "p50": p50, "p95": p95}


def seconds_of(seconds: FloatArray, replays: list[Replayed]) -> FloatArray:
    """Return what each request of every replay takes, one image after the other, for `seconds` an image [m]."""
    each, m = np.append(seconds, 0.0), len(seconds)  # the last for "no image"
    return np.concatenate([each[np.where(one.order < 0, m, one.order % m)].sum(axis=1) for one in replays])


def coverage(policy: Search, known: Known, replays: list[Replayed]) -> dict[str, float]:
    """Return the share of scores within the belief's 90 % intervals after 0, 1, 2 images, of those not seen yet."""
    belief, guess = policy.belief, np.tile(known.predicted, policy.images)
    scores = rounds(known.observed, known.images, policy.images)
    found = {}
    for looks in range(min(3, len(belief))):
        inside: list[BoolArray] = []
        for truth, one in zip(scores, replays, strict=True):
            rows = np.flatnonzero(one.images >= max(looks, 1))
            shown = np.full((len(rows), len(belief)), np.nan)
            seen: IntArray = one.order[rows, :looks]
            np.put_along_axis(shown, seen, np.take_along_axis(truth[rows], seen, axis=1), axis=1)
            mean, sd = belief.posterior(guess[rows], shown)
            unseen = np.isnan(shown)
            inside.append(within(truth[rows] - mean, sd)[unseen])
        whole = np.concatenate(inside)
        if len(whole):
            found[str(looks)] = float(whole.mean())
    return found
