"""A guarantee on quality by conformal risk control, and a fallback for out-of-distribution prompts.

The statement: "the cheapest model whose quality is within epsilon of the best single model's, with
probability at least 1 - alpha". Conformal risk control (Angelopoulos et al., arXiv 2208.02814) makes it
true for any predictor, on average over samples of the calibration prompts and of the new prompt, as long as
these are exchangeable. It doesn't hold prompt by prompt, set by set, or for prompts of another kind.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from promptroute.core.errors import UserError
from promptroute.routing import checks, choices
from promptroute.routing.belief import Belief
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray


class Guarantee(BaseModel):
    """A calibrated guarantee: `decide` applies it to new prompts. All fields are plain and finite.

    `epsilon` in units of quality, `alpha` a probability, `single` the column of the best single model.
    `threshold` in units of predicted quality goes to `choices.cheapest_guaranteed`. None means that no
    cheaper model may be chosen: then `given` is False and every prompt goes to the best single model.
    On the calibration `prompts`: `risk` is the (monotone) share of prompts that fall short, `bound` what
    the method guarantees from it, at most `alpha` where given; `cheaper_share` is the share of them that
    goes to a cheaper model. `statement` puts it in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epsilon: float
    alpha: float
    single: int
    threshold: float | None
    given: bool
    risk: float
    bound: float
    cheaper_share: float
    prompts: int
    statement: str

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.given != (self.threshold is not None):
            raise UserError("a guarantee that is given has a threshold, and one that isn't has none")
        return self

    def decide(self, quality: Array, cost: Array) -> IntArray:
        """Return the choice [n] for predicted quality [n, m] and cost [m]."""
        return choices.cheapest_guaranteed(quality, cost, single=self.single, threshold=self.threshold)


@dataclass(frozen=True)
class _Asked:
    """What is to be guaranteed, against column `single` on so many calibration prompts."""

    epsilon: float
    alpha: float
    single: int
    prompts: int

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise UserError(
                f"alpha is {self.alpha!r}, expected a probability above 0 and below 1, such as 0.1"
            )

    @property
    def allowed(self) -> int:
        """Give how many calibration prompts may fall short; below 0 where they are too few."""
        return int(np.floor(self.alpha * (self.prompts + 1) - 1 + 1e-9))

    @property
    def too_few(self) -> str:
        need = int(np.ceil(1 / self.alpha - 1e-9)) - 1
        return f"{self.prompts} calibration prompts are too few, at least {need} are needed"

    def given(self, threshold: float, risk: float, cheaper: float, where: str) -> Guarantee:
        """Return the guarantee; `cheaper` is the share of the calibration prompts that `where` puts in words."""
        words = f"given, calibrated on {self.prompts} prompts, of which {cheaper:.1%} {where}"
        return self._guarantee(
            words, threshold, risk, (self.prompts * risk + 1) / (self.prompts + 1), cheaper
        )

    def refused(self, what: str, why: str) -> Guarantee:
        """Return the guarantee that isn't given, and by what, and why."""
        return self._guarantee(f"not given by {what} ({why}), so every prompt goes to that model")

    def _guarantee(
        self,
        words: str,
        threshold: float | None = None,
        risk: float = 0.0,
        bound: float = 0.0,
        cheaper: float = 0.0,
    ) -> Guarantee:
        target = (
            f"within {self.epsilon:g} of the best single model's quality with probability {1 - self.alpha:g}"
        )
        return Guarantee(
            epsilon=self.epsilon,
            alpha=float(self.alpha),
            single=self.single,
            threshold=threshold,
            given=threshold is not None,
            risk=risk,
            bound=bound,
            cheaper_share=cheaper,
            prompts=self.prompts,
            statement=f"{target}: {words}",
        )


def calibrate(
    predicted: Array, true: Array, cost: Array, *, epsilon: float, alpha: float, single: int | None = None
) -> Guarantee:
    """Set the threshold of `choices.cheapest_guaranteed` on validation prompts by conformal risk control.

    `predicted` and `true` quality [n, m], n >= 1; `cost` [m]. `epsilon` (0 or more, units of quality) and
    `alpha` (above 0, below 1) must be fixed beforehand, and so should be `single`, the best single model's
    column: by default it is found on these prompts, which the theorem doesn't strictly cover.

    The choice at threshold t is the cheapest of `single` and the cheaper models whose predicted quality
    exceeds that of `single` by more than t. Its loss on prompt i,

        l_i(t) = 1[observed quality of the choice < observed quality of single - epsilon],

    is 0 at t = infinity but not monotone: a lower t may swap a bad model for a better and cheaper one. So
    it is replaced by its running maximum L_i(t) = max over t' >= t of l_i(t'), which is at least l_i,
    never rises with t, is right-continuous (the margin must exceed t strictly) and is 0 at infinity: what
    Theorem 1 of the paper asks for. With R(t) the mean of L_i over the n prompts, the threshold is

        inf { t : n / (n + 1) * R(t) + 1 / (n + 1) <= alpha },

    and then E[l(t)] <= E[L(t)] <= alpha on a new exchangeable prompt.

    Where not even R = 0 would do (n + 1 < 1 / alpha), where a threshold that holds lets no cheaper model
    through, or where none is cheaper than `single`, the result is not `given`.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    model = checks.best_single(truth, single)
    asked = _Asked(checks.nonnegative(epsilon, "epsilon"), alpha, model, len(truth))
    critical, margin = _critical_margins(guess, _short(truth, model, asked.epsilon), price, model)
    if margin.shape[1] == 0:
        return asked.refused("any cheaper model", "no model is cheaper than it")
    if asked.allowed < 0:
        return asked.refused("any cheaper model", asked.too_few)
    threshold = _threshold(critical, margin, asked.allowed)
    cheaper = float((margin > threshold).any(axis=1).mean())
    if cheaper == 0:
        return asked.refused(
            "any cheaper model", "the predictions don't tell well enough where a cheaper model will do"
        )
    return asked.given(threshold, float((critical > threshold).mean()), cheaper, "go to a cheaper model")


def calibrate_draft(
    belief: Belief,
    predicted: Array,
    true: Array,
    price: Array,
    *,
    draft: int,
    single: int,
    epsilon: float,
    alpha: float,
) -> Guarantee:
    """Set the threshold of `draft_margins` on validation prompts by conformal risk control.

    The chain: the draft model's image, a look at its score b, then stop or generate with `single` too and deliver the
    better. It stops where (m - b - epsilon) / s is at most the threshold u, for a belief N(m, s²) about the score of
    `single` given b; and it leaves the draft out where that is too unlikely to pay. The loss on prompt i,

        l_i(u) = 1[the delivered image scores below that of single - epsilon],

    is 0 where `single` was asked. It never falls as u rises, so Theorem 1 of arXiv 2208.02814 applies as it stands,
    with no running maximum: u is the largest with n / (n + 1) R(u) + 1 / (n + 1) <= alpha.

    Args:
        belief: fitted on held-out prompts.
        predicted, true: quality [n, m].
        price: dollars an image with its look [m].
        draft, single: columns, named without a look at these prompts.
        epsilon, alpha: as of `calibrate`.
    """
    guess, truth, cost = checks.evaluation(predicted, true, price)
    asked = _Asked(checks.nonnegative(epsilon, "epsilon"), alpha, single, len(truth))
    if draft == single:
        return asked.refused("any draft", "no model is cheaper than it")
    if asked.allowed < 0:
        return asked.refused("any draft", asked.too_few)
    worth, stop = draft_margins(
        belief, guess, truth[:, draft], cost, draft=draft, single=single, epsilon=asked.epsilon
    )
    # From here on prompt i stops at its draft; it matters where that falls short.
    stops = np.maximum(worth, stop)
    critical = np.sort(stops[_short(truth, single, asked.epsilon)[:, draft]])
    few = asked.allowed < len(critical)
    threshold = float(np.nextafter(critical[asked.allowed], -np.inf)) if few else float(stops.max())
    cheaper = float((stops <= threshold).mean())
    if cheaper == 0:
        return asked.refused("any draft", "a draft's score doesn't tell well enough where it will do")
    risk = float((critical <= threshold).sum() / asked.prompts)
    return asked.given(threshold, risk, cheaper, "stop at their draft")


def draft_margins(
    belief: Belief,
    predicted: FloatArray,
    scores: FloatArray,
    price: FloatArray,
    *,
    draft: int,
    single: int,
    epsilon: float,
) -> tuple[FloatArray, FloatArray]:
    """Return the thresholds from which on a draft is worth its price [n], and at which its score stops [n].

    With threshold u a draft of score b stops where (m - b - epsilon) / s <= u. Before it is made that has probability
    Φ((μ_d - μ_S + epsilon + s u) / (|1 - g| σ_d)) for the gain g of a look at the draft: it pays where that is above
    the price of the draft as a share of that of `single`. Without a score, as NaN or -inf, nothing stops.
    """
    gain, left = belief.given(np.array([draft]))
    sd = float(np.sqrt(max(left[single, single], 1e-300)))
    slope = float(gain[single, 0])
    lead = predicted[:, single] - predicted[:, draft] - epsilon
    wide = abs(1 - slope) * float(np.sqrt(belief.covariance[draft, draft]))
    share = min(float(price[draft] / price[single]), 1 - 1e-12)
    worth = (lead + wide * NormalDist().inv_cdf(share)) / sd
    shown = np.where(np.isfinite(scores), scores, np.nan)
    expected = predicted[:, single] + slope * (shown - predicted[:, draft])
    stop = (expected - shown - epsilon) / sd
    return np.asarray(worth), np.where(np.isnan(stop), np.inf, stop)


def _threshold(critical: FloatArray, margin: FloatArray, allowed: int) -> float:
    """Return the least threshold at which at most `allowed` prompts fall short, from the critical margins [n]."""
    # L_i(t) = 1[t < critical_i], so the infimum is the critical margin that `allowed` others exceed.
    threshold = float(-np.sort(-critical)[allowed]) if allowed < len(critical) else -np.inf
    # Where any threshold holds: below the margins seen there is nothing to go by, so stop there.
    return float(np.nextafter(margin.min(), -np.inf)) if np.isneginf(threshold) else threshold


def monotone_risk(
    predicted: Array, true: Array, cost: Array, thresholds: Array, *, epsilon: float, single: int
) -> FloatArray:
    """Return R(t) of `calibrate`, the mean of the running maximum of the loss, at `thresholds` [k]."""
    guess, truth, price = checks.evaluation(predicted, true, cost)
    short = _short(truth, checks.column(single, len(price), "single"), checks.nonnegative(epsilon, "epsilon"))
    critical, _ = _critical_margins(guess, short, price, single)
    return np.asarray((critical[None] > np.asarray(thresholds, dtype=np.float64)[:, None]).mean(axis=1))


@dataclass(frozen=True)
class Coverage:
    """The share of test prompts within epsilon of the best single model, and its 95 % Wilson interval."""

    share: float
    low: float
    high: float
    prompts: int


def coverage(true: Array, choice: Array, *, single: int, epsilon: float) -> Coverage:
    """Measure a guarantee on test prompts: the share with true[choice] >= true[single] - epsilon.

    `true` [n, m], n >= 1; `choice` [n]. The guarantee holds on average over calibration sets: one set's
    share scatters about its mean by about sqrt(alpha (1 - alpha) / n calibration prompts) besides the
    test prompts' own scatter, which the interval shows.
    """
    from scipy.stats import binomtest

    truth = checks.some_prompts(true)
    chosen = checks.choice_vector(choice, truth.shape)
    model = checks.column(single, truth.shape[1], "single")
    short = _short(truth, model, checks.nonnegative(epsilon, "epsilon"))
    n = len(truth)
    share = float(1 - short[np.arange(n), chosen].mean())
    kept = n - int(short[np.arange(n), chosen].sum())
    ends = binomtest(kept, n).proportion_ci(method="wilson")
    return Coverage(share, float(ends.low), float(ends.high), n)


def abstain(choice: Array, unfamiliar: Array, *, safest: int, threshold: float | None = None) -> IntArray:
    """Replace the choice by column `safest` for out-of-distribution prompts.

    `unfamiliar` [n] is a boolean per prompt, or with `threshold` a score (higher is less familiar), which
    must be above the threshold. The threshold belongs to train or validation, as `novelty_threshold` sets it.
    """
    choice, unfamiliar = np.asarray(choice), np.asarray(unfamiliar)
    if unfamiliar.shape != choice.shape or choice.ndim != 1:
        raise ValueError(
            f"unfamiliar has shape {unfamiliar.shape} and choice {choice.shape}, expected one per prompt"
        )
    if threshold is not None:
        if unfamiliar.dtype.kind not in "iuf" or np.isnan(unfamiliar).any():
            raise ValueError("unfamiliar must hold numbers without NaN where a threshold is given")
        unfamiliar = unfamiliar > threshold
    elif unfamiliar.dtype != np.bool_:
        raise ValueError(f"unfamiliar has dtype {unfamiliar.dtype}: expected booleans, or give a threshold")
    return np.where(unfamiliar, safest, choice).astype(np.int64)


def novelty_threshold(scores: Array, share: float) -> float:
    """Return the least of `scores` [n] (of train or validation) with at most a `share` (0 to 1) above it."""
    scores = np.sort(np.asarray(scores, dtype=np.float64))
    if scores.ndim != 1 or len(scores) == 0 or np.isnan(scores).any():
        raise ValueError("scores must be a non-empty list of numbers without NaN")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, expected 0 to 1")
    above = int(np.floor(share * len(scores) + 1e-9))
    return float(scores[max(len(scores) - 1 - above, 0)]) if above < len(scores) else float("-inf")


def _short(true: FloatArray, single: int, epsilon: float) -> BoolArray:
    """Return bool [n, m]: whether a model's observed quality is below the single model's less epsilon."""
    return np.asarray(true < true[:, [single]] - epsilon)


def _critical_margins(
    predicted: FloatArray, short: BoolArray, cost: FloatArray, single: int
) -> tuple[FloatArray, FloatArray]:
    """Return the margin [n] below which the running maximum of the loss is 1 (-inf: never), and all margins.

    The margins [n, j] are predicted quality less that of `single`, of the j models that are cheaper.
    """
    cheaper = np.flatnonzero(cost < cost[single])
    margin = predicted[:, cheaper] - predicted[:, [single]]
    if len(cheaper) == 0:
        return np.full(len(predicted), -np.inf), margin
    price = np.broadcast_to(cost[cheaper], margin.shape)
    # As the threshold falls, models come in by falling margin; the choice moves to each that is cheaper
    # than all before it. The first such one that falls short sets the running maximum to 1 for good.
    order = np.lexsort((price, -margin))
    price, falling = np.take_along_axis(price, order, axis=1), np.take_along_axis(margin, order, axis=1)
    before = np.minimum.accumulate(price, axis=1)
    chosen = np.concatenate([np.ones((len(price), 1), bool), price[:, 1:] < before[:, :-1]], axis=1)
    bad = chosen & np.take_along_axis(short[:, cheaper], order, axis=1)
    return np.where(bad, falling, -np.inf).max(axis=1), margin
