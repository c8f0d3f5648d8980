"""Generate, look, then decide: whether to go on after a look at the images so far, and with which model.

Pandora's box (Weitzman, Econometrica 47, 1979): boxes with a price and an unknown prize are opened one by one, and
the best opened one is kept. A box is a model's image, its prize the image's score, its price that of generating and
scoring it. The only state is `scores` [n, m]: NaN where an image is not made yet, -inf where it failed. So one
function serves a live request, the replay of observed scores, and tests.

`mean` [n, m] is predicted quality, `price` [m] dollars an image with its look, `tradeoff` λ quality per dollar.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypedDict, Unpack

import numpy as np

from promptroute.core.errors import UserError
from promptroute.routing import checks
from promptroute.routing.belief import Belief, groups
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray
from promptroute.routing.frontier import Frontier

STOP = -1
"""Instead of a model: no further image."""

Step = Callable[[IntArray, FloatArray], IntArray]
"""Prompts (their rows [k]) and their scores so far [k, m] → next model or `STOP` [k]."""
Keep = Callable[[IntArray, FloatArray], IntArray]
"""Prompts (their rows [k]) and their scores so far [k, m] → the model whose image is delivered [k]."""


class Limits(TypedDict, total=False):
    """What bounds a search besides λ; see `next_draw`."""

    max_images: int | None
    trust: float


_LOW, _HIGH = -8, 36  # of the table of h: below it h(t) = -t, above it h is 0 for our purposes
_LOG_LOW, _LOG_HIGH = -600, 3  # of the table of its inverse, over ln h
_PER_UNIT = 500
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, eq=False)
class View:
    """What is thought of n prompts in their present state; m models.

    Attributes:
        model: to generate with next [n], or `STOP`.
        kept: whose image would be delivered now [n]; `STOP` where there is none.
        value: of that image [n], in units of quality; -inf where there is none.
        reservation: [n, m], the value in hand at which another image just pays; NaN where there is one already, or the
            model may not be asked.
        gain: [n, m], expected improvement on the value in hand, in units of quality; NaN as above, and where there
            is no image yet.
    """

    model: IntArray
    kept: IntArray
    value: FloatArray
    reservation: FloatArray
    gain: FloatArray


@dataclass(frozen=True, eq=False)
class Replayed:
    """What a search came to on n prompts.

    Attributes:
        order: int64 [n, m], models in the order of their images, padded with -1.
        kept: whose image is delivered [n].
        quality: its observed quality [n].
        cost: dollars of all images and looks [n].
    """

    order: IntArray
    kept: IntArray
    quality: FloatArray
    cost: FloatArray

    @property
    def images(self) -> IntArray:
        """Give how many images each prompt took [n]."""
        return np.asarray((self.order >= 0).sum(axis=1), np.int64)


def improvement(mean: Array, sd: Array, best: Array) -> FloatArray:
    """Return E[max(X - best, 0)] for X ~ N(mean, sd²), of the shape that the arguments broadcast to.

    EI = (mean - best) Φ(u) + sd φ(u), u = (mean - best) / sd: sd · h(-u) with `h` below.
    """
    center, spread, floor = (np.asarray(one, np.float64) for one in (mean, sd, best))
    some = spread > 0
    safe = np.where(some, spread, 1.0)
    return np.where(some, spread * _h((floor - center) / safe), np.maximum(center - floor, 0.0))


def reservation(mean: Array, sd: Array, price: Array, tradeoff: float) -> FloatArray:
    """Return the value in hand at which one more image just pays: z with EI(mean, sd, z) = tradeoff · price.

    z = mean + sd · h⁻¹(tradeoff · price / sd), with h(t) = φ(t) - t (1 - Φ(t)). For tradeoff 0 it is infinite.
    """
    center, spread, dollars = (np.asarray(one, np.float64) for one in (mean, sd, price))
    if np.isinf(tradeoff):
        return np.full(np.broadcast_shapes(center.shape, spread.shape, dollars.shape), -np.inf)
    if tradeoff == 0:
        return np.full(np.broadcast_shapes(center.shape, spread.shape, dollars.shape), np.inf)
    some = spread > 0
    safe = np.where(some, spread, 1.0)
    ask = tradeoff * dollars
    return np.where(some, center + spread * _inverse(ask / safe), center - ask)


def next_draw(
    belief: Belief,
    mean: Array,
    scores: Array,
    price: Array,
    *,
    tradeoff: float,
    max_images: int | None = None,
    trust: float = 1.0,
    allowed: BoolArray | None = None,
) -> IntArray:
    """Return the model to generate with next, or `STOP`, for each prompt [n].

    Without a limit: Weitzman's rule. Generate with the model of the highest reservation value as long as that is
    above the value in hand; with a covariance of 0 between models this is optimal. Given `max_images`, what is left
    decides: with two images or one the rule looks exactly so far ahead (see `_ahead`). There is always one image.
    Ties go to the cheaper model.

    Args:
        belief: of m models.
        mean: predicted quality [n, m].
        scores: [n, m] so far; NaN: not seen; -inf: failed, paid for and not asked again.
        price: dollars an image with its look [m].
        tradeoff: λ, quality per dollar, 0 or more: 0 generates with every model, infinity with the cheapest alone.
        max_images: of a prompt, failed ones not counted; None: as many as there are models.
        trust: κ, the part of an image's luck that counts as real, 0 to 1. Below 1 an image is valued by what its
            model makes of the prompt, E[θ | seen], and κ of the rest: the best of several scores is a lucky one.
        allowed: bool [m] or [n, m], models that may be asked; None: all.

    Raises:
        UserError: a setting out of range; trust below 1 where the belief's noise is not known.
        ValueError: a wrong shape, a NaN mean, an infinite score, or a price of 0 or less.
    """
    guess, seen = belief.check(mean, scores)
    cost = checks.cost_vector(price, len(belief))
    tradeoff = checks.nonnegative(tradeoff, "tradeoff")
    if max_images is not None and (isinstance(max_images, bool) or max_images < 1):
        raise UserError(f"max_images is {max_images!r}, expected 1 or more, or None for no limit")
    free = np.isnan(seen) & (True if allowed is None else np.asarray(allowed, bool))
    model = np.full(len(guess), STOP)
    for rows, known in groups(np.isfinite(seen)):
        remaining = len(cost) if max_images is None else max_images - len(known)
        if remaining > 0:
            state = _state(belief, guess[rows], seen[rows], known, trust)
            merit, stay = _merit(belief, state, free[rows], cost, tradeoff, remaining, trust)
            model[rows] = _pick(merit, free[rows], stay, cost)
    return model


def view(
    belief: Belief,
    mean: Array,
    scores: Array,
    price: Array,
    *,
    tradeoff: float,
    allowed: BoolArray | None = None,
    **limits: Unpack[Limits],
) -> View:
    """Tell what `next_draw` does next with each prompt, and why; arguments and errors as there."""
    model = next_draw(belief, mean, scores, price, tradeoff=tradeoff, allowed=allowed, **limits)
    trust = limits.get("trust", 1.0)
    guess, seen = belief.check(mean, scores)
    cost = checks.cost_vector(price, len(belief))
    free = np.isnan(seen) & (True if allowed is None else np.asarray(allowed, bool))
    best, holds = np.full(len(guess), -np.inf), np.full(len(guess), STOP)
    z, gain = np.full(guess.shape, np.nan), np.full(guess.shape, np.nan)
    for rows, known in groups(np.isfinite(seen)):
        state = _state(belief, guess[rows], seen[rows], known, trust)
        best[rows] = state.best
        z[rows] = np.where(free[rows], reservation(state.center, state.spread, cost, tradeoff), np.nan)
        if len(known):
            holds[rows] = known[state.value.argmax(axis=1)]
            more = improvement(state.center, state.spread, state.best[:, None])
            gain[rows] = np.where(free[rows], more, np.nan)
    return View(model, holds, best, z, gain)


def kept(belief: Belief, mean: Array, scores: Array, *, trust: float = 1.0) -> IntArray:
    """Return the model whose image is delivered, for each prompt [n]: the highest valued of those seen; `STOP`: none.

    With trust 1 that is the highest score.
    """
    guess, seen = belief.check(mean, scores)
    holds = np.full(len(guess), STOP)
    for rows, known in groups(np.isfinite(seen)):
        if len(known):
            holds[rows] = known[_state(belief, guess[rows], seen[rows], known, trust).value.argmax(axis=1)]
    return holds


def replay(
    step: Step, scores: Array, price: Array, max_images: int | None = None, *, keep: Keep | None = None
) -> Replayed:
    """Let a rule search prompts whose scores are all known; it is shown none that it has not paid for.

    Args:
        step: the rule.
        scores: observed quality [n, m]; -inf: this image fails.
        price: dollars an image with its look [m].
        max_images: after so many the search ends, whatever `step` says; None: no limit.
        keep: which image is delivered; the highest score where None.

    Raises:
        ValueError: a score is NaN, or the rule asks for an image twice or for no model's.
    """
    truth = np.asarray(scores, np.float64)
    if truth.ndim != 2 or np.isnan(truth).any():
        raise ValueError(f"scores has shape {truth.shape} and may hold NaN; expected a score for each [n, m]")
    n, m = truth.shape
    cost = checks.cost_vector(price, m)
    shown, order = np.full((n, m), np.nan), np.full((n, m), -1)
    rows = np.arange(n)
    for turn in range(m if max_images is None else min(max_images, m)):
        asked = step(rows, shown[rows].copy())
        rows, asked = rows[asked != STOP], asked[asked != STOP]
        if not len(rows):
            break
        if ((asked < 0) | (asked >= m)).any() or not np.isnan(shown[rows, asked]).all():
            raise ValueError("the rule asks for an image that it has, or for a model that is none")
        shown[rows, asked], order[rows, turn] = truth[rows, asked], asked
    every = np.arange(n)
    best = np.where(np.isnan(shown), -np.inf, shown)
    holds = best.argmax(axis=1) if keep is None else keep(every, shown)
    holds = np.where(np.isfinite(best).any(axis=1), holds, STOP)
    spent = np.where(order >= 0, cost[order], 0.0).sum(axis=1)
    return Replayed(order, holds, np.where(holds == STOP, -np.inf, truth[every, holds]), spent)


def run(
    belief: Belief,
    mean: Array,
    scores: Array,
    price: Array,
    *,
    tradeoff: float,
    allowed: BoolArray | None = None,
    **limits: Unpack[Limits],
) -> Replayed:
    """Replay `next_draw` on observed scores [n, m]; arguments as of `view`."""
    guess, trust = checks.quality_matrix(mean, "mean"), limits.get("trust", 1.0)
    may = None if allowed is None else np.broadcast_to(allowed, guess.shape)

    def step(rows: IntArray, seen: FloatArray) -> IntArray:
        own = None if may is None else may[rows]
        return next_draw(belief, guess[rows], seen, price, tradeoff=tradeoff, allowed=own, **limits)

    def keep(rows: IntArray, seen: FloatArray) -> IntArray:
        return kept(belief, guess[rows], seen, trust=trust)

    return replay(step, scores, price, keep=None if trust == 1 else keep)


def grid(observed: Array, price: Array, points: int = 33) -> FloatArray:
    """Return values of λ to try, falling: sd of the observed quality per highest price, times 10^0.8 to 10^-3.2."""
    unit = float(np.std(np.asarray(observed, np.float64))) / float(np.max(np.asarray(price)))
    return (unit or 1.0) * np.logspace(0.8, -3.2, points)


def sweep(
    belief: Belief,
    mean: Array,
    scores: Array,
    price: Array,
    tradeoffs: Array,
    **limits: Unpack[Limits],
) -> list[Replayed]:
    """Replay the search at each λ of `tradeoffs`, in their order."""
    return [
        run(belief, mean, scores, price, tradeoff=float(value), **limits)
        for value in np.asarray(tradeoffs, np.float64)
    ]


def trace(
    belief: Belief,
    mean: Array,
    scores: Array,
    price: Array,
    tradeoffs: Array | None = None,
    **limits: Unpack[Limits],
) -> Frontier:
    """Return mean cost and mean observed quality of the search at each λ, falling; at those of `grid` where None."""
    given = grid(scores, price) if tradeoffs is None else np.asarray(tradeoffs, np.float64)
    values = np.sort(given)[::-1]
    found = sweep(belief, mean, scores, price, values, **limits)
    return Frontier(
        values,
        np.array([one.cost.mean() for one in found]),
        np.array([one.quality.mean() for one in found]),
    )


class _State(NamedTuple):
    """What is believed of k prompts of which the same models are seen.

    Attributes:
        center, spread: [k, m] and [m], mean and standard deviation of the value that each model's image would have.
        value: [k, o], of those seen.
        left: covariance between the scores [m, m] once these are seen.
    """

    center: FloatArray
    spread: FloatArray
    value: FloatArray
    left: FloatArray

    @property
    def best(self) -> FloatArray:
        """Give the value in hand [k]; -inf where there is none."""
        return self.value.max(axis=1, initial=-np.inf)


def _state(belief: Belief, mean: FloatArray, scores: FloatArray, known: IntArray, trust: float) -> _State:
    """Tell what is believed of k prompts of which the columns `known` [o] are seen."""
    if isinstance(trust, bool) or not 0 <= trust <= 1:
        raise UserError(f"trust is {trust!r}, expected a number from 0 to 1")
    gain, left = belief.given(known)
    residual = scores[:, known] - mean[:, known]
    center, spread, value = mean + residual @ gain.T, _spread(belief, np.diag(left), trust), scores[:, known]
    if trust < 1 and belief.noise is not None:
        inverse = np.linalg.pinv(belief.covariance[np.ix_(known, known)], rcond=1e-10, hermitian=True)
        # E[luck | seen] of each image: what of its surprise is not the model's own.
        value = value - (1 - trust) * (residual @ inverse) * belief.noise[known]
    return _State(center, spread, value, left)


def _merit(
    belief: Belief,
    state: _State,
    open_: BoolArray,
    price: FloatArray,
    tradeoff: float,
    remaining: int,
    trust: float,
) -> tuple[FloatArray, FloatArray]:
    """Return each model's merit [k, m] where `remaining` images may follow, and that of stopping [k]."""
    m, seen, have = len(price), state.value.shape[1], state.best
    if tradeoff == np.inf:
        # The cheapest, of equally cheap ones the best predicted, and nothing after it.
        least = np.where(open_, price, np.inf).min(axis=1, keepdims=True)
        return np.where(price == least, state.center, -np.inf), np.where(np.isfinite(have), np.inf, -np.inf)
    if remaining >= 3 or remaining >= m - seen:
        return reservation(state.center, state.spread, price, tradeoff), have
    if remaining == 2:
        return _ahead(belief, state, price, tradeoff, trust, open_), have
    if seen:
        gain = improvement(state.center, state.spread, have[:, None])
        return gain - tradeoff * price, np.zeros(len(have))
    return state.center - tradeoff * price, have


def _spread(belief: Belief, variance: FloatArray, trust: float) -> FloatArray:
    """Return the standard deviation [m] of the value that an image will have, for the variance [m] of its score.

    Of the variance V + σ² the share ρ = V / (V + σ²) is the model's own, and of the rest trust κ counts:
    (ρ + κ (1 - ρ)) √(V + σ²).
    """
    if trust == 1:
        return np.sqrt(variance)
    if belief.noise is None:
        raise UserError(
            f"trust is {trust:g}, but the belief doesn't know an image's luck, which a study of one score a prompt "
            f"can't tell; generate more seeds, or leave trust at 1"
        )
    some = variance > 0
    real = np.where(some, np.maximum(variance - belief.noise, 0.0) / np.where(some, variance, 1.0), 1.0)
    return np.asarray((real + trust * (1 - real)) * np.sqrt(variance))


def _ahead(
    belief: Belief, state: _State, price: FloatArray, tradeoff: float, trust: float, open_: BoolArray
) -> FloatArray:
    """Return what asking each model is worth where one more image may follow [k, m], the value in hand included.

    Q_j = -λ c_j + E[max(b, X_j) + max(0, max_k EI_k(max(b, X_j)) - λ c_k)], by Gauss-Hermite with 9 nodes over X_j.
    """
    left, variance = state.left, np.diag(state.left)
    deviation = np.sqrt(variance)
    worth = np.empty(state.center.shape)
    for first, sd in enumerate(deviation):
        # A look at the first moves the others by the covariance of scores, and narrows them.
        slope = left[:, first] / sd if sd > 0 else np.zeros(len(price))
        narrowed = _spread(belief, np.maximum(variance - slope**2, 0.0), trust)
        value = np.maximum(state.center[:, [first]] + state.spread[first] * _NODES, state.best[:, None])
        more = np.zeros(value.shape)
        for second in np.flatnonzero(open_.any(axis=0)):
            if second != first:
                moved = state.center[:, [second]] + slope[second] * _NODES
                gain = improvement(moved, narrowed[second], value) - tradeoff * price[second]
                np.maximum(more, gain, out=more, where=open_[:, [second]])
        worth[:, first] = (value + more) @ _WEIGHTS - tradeoff * price[first]
    return worth


def _pick(merit: FloatArray, open_: BoolArray, stay: FloatArray, price: FloatArray) -> IntArray:
    """Return the open model of the highest merit [k], the cheaper of equals; `STOP` where none is above `stay`."""
    by_price = np.argsort(price, kind="stable")
    ranked = np.where(open_, merit, -np.inf)[:, by_price]
    top = ranked.max(axis=1)
    # The first of the open ones that reach the top: -inf is a merit too, where the tradeoff is infinite.
    model = by_price[((ranked == top[:, None]) & open_[:, by_price]).argmax(axis=1)]
    go = open_.any(axis=1) & ((top > stay) | np.isneginf(stay))
    return np.where(go, model, STOP)


class _Table(NamedTuple):
    """Tables at even steps, for interpolation that is right to 1e-6: ln h over t, and t over ln h."""

    log: FloatArray
    log_step: FloatArray
    inverse: FloatArray
    inverse_step: FloatArray


@cache
def _table() -> _Table:
    """Make the tables, in some 10 ms."""
    t = _LOW + np.arange((_HIGH - _LOW) * _PER_UNIT + 1) / _PER_UNIT
    tail = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in t.tolist()])
    density = np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Far out both terms agree in nearly all their digits: there the asymptotic series is the better.
        far = density / t**2 * (1 - 3 / t**2 + 15 / t**4 - 105 / t**6)
    log = np.log(np.where(t > 20, far, density - t * tail))
    even = _LOG_LOW + np.arange((_LOG_HIGH - _LOG_LOW) * _PER_UNIT + 1) / _PER_UNIT
    inverse = np.interp(even, log[::-1], t[::-1])
    return _Table(log, np.diff(log), inverse, np.diff(inverse))


def _between(values: FloatArray, steps: FloatArray, low: int, x: FloatArray) -> FloatArray:
    """Interpolate a table that starts at `low`; beyond its ends the outer steps go on."""
    place = np.clip((x - low) * _PER_UNIT, 0, len(steps) - 1e-6)
    index = place.astype(np.int64)
    return np.asarray(values[index] + (place - index) * steps[index])


def _h(t: FloatArray) -> FloatArray:
    """Return h(t) = φ(t) - t (1 - Φ(t)): what a standard normal is expected to exceed t by."""
    table = _table()
    middle = np.exp(_between(table.log, table.log_step, _LOW, t))
    return np.where(t < _LOW, -t, np.where(t > _HIGH, 0.0, middle))


def _inverse(value: FloatArray) -> FloatArray:
    """Return t with h(t) = value, for values above 0; below e^-600 that of e^-600."""
    table = _table()
    with np.errstate(divide="ignore"):
        middle = _between(table.inverse, table.inverse_step, _LOG_LOW, np.log(value))
    # h(t) = h(-t) - t: where t is well below 0 a step of that leaves a hundredth of the table's error.
    middle = np.where(value > 2, _h(-middle) - value, middle)
    return np.where(value > -_LOW, -value, middle)
