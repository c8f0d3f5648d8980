"""The policy that looks: generate an image, see its score, stop or go on, deliver the best so far."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.routing import checks, choices
from promptroute.routing.base import Calibration, Candidates, OperatingPoint, Policy, Training
from promptroute.routing.belief import Belief, fit
from promptroute.routing.calibrate import REASON
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray
from promptroute.routing.guarantees import calibrate_draft, draft_margins
from promptroute.routing.policies import Promising, Single, Tuned
from promptroute.routing.search import STOP, Limits, Replayed, View, grid, kept, replay, run, sweep, view
from promptroute.routing.steps import tradeoff_steps

_FINE = 64  # points between two values of λ that were tried, when one is read off between them


class SearchFacts(BaseModel):
    """What is known of a calibrated search, on the held-out prompts that it was calibrated on.

    Attributes:
        prompts: held-out prompts behind the belief.
        coverage: of the belief's 90 % intervals there.
        single_images: it was fitted on single images; else on a score a prompt, perhaps a mean of several images.
        first: share of the prompts whose first image is each model's [m].
        images: share of the prompts that take 1, 2, … images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    prompts: int
    coverage: float
    single_images: bool
    first: list[float]
    images: list[float]


class Search(Tuned):
    """Generate with one model, look at the image's score, stop or generate with another, deliver the best so far.

    Weitzman's rule on a belief about the scores (`routing.search`), fitted on out-of-fold predictions.

    Settings, besides those of `Tuned`:
        tradeoff: λ, quality per dollar, 0 or more; None: set by `calibrate`.
        look: dollars for scoring an image, 0 or more; None: what the study's scorers cost by its cost rule.
        max_images: of a prompt, 1 or more; None: no limit; 1 is choosing before, exactly as `CostAware` does.
        images: of one model for a prompt, at most; 1 or more.
        trust: κ, the part of an image's luck that counts as real, 0 to 1; below 1 needs several seeds.
        facts: what is known of it on the prompts that it was calibrated on; set by `calibrate`.
    """

    title = "search"
    operating_point = OperatingPoint("tradeoff", "λ", "quality per dollar")
    steps = staticmethod(tradeoff_steps)
    looks: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    tradeoff: float | None = Field(default=None, ge=0)
    look: float | None = Field(default=None, ge=0)
    max_images: int | None = Field(default=None, ge=1)
    images: int = Field(default=1, ge=1)
    trust: float = Field(default=1.0, ge=0, le=1)
    facts: SearchFacts | None = None

    _belief: Belief | None = PrivateAttr(default=None)

    @property
    def description(self) -> str:
        most = "" if self.max_images is None else f", at most {self.max_images} images"
        return f"an image, a look at its score, then another or the best so far{most}; λ set {self.goal}"

    @property
    def belief(self) -> Belief:
        """Give what is believed of the scores of each model's `images` images.

        Raises:
            UserError: it isn't calibrated.
        """
        if self._belief is None:
            raise UserError(f"{self.title} has no belief about the models' scores yet; calibrate it")
        return self._belief.repeated(self.images)

    def prices(self, cost: Array) -> FloatArray:
        """Return dollars of each image with its look, [images · m], for those of generating [m].

        Raises:
            UserError: the price of a look isn't known.
        """
        price = np.asarray(cost, np.float64)
        if self.max_images == 1:  # nothing comes of a look
            return np.tile(price, self.images)
        if self.look is None:
            raise UserError(
                f"{self.title} doesn't know what a look costs; give it as `look`, in dollars an image, or calibrate it"
            )
        return np.tile(price + self.look, self.images)

    def view(self, quality: Array, scores: Array, cost: Array, *, allowed: IntArray | None = None) -> View:
        """Tell what comes next for each prompt, and why.

        Args:
            quality: predicted [n, m].
            scores: [n, images · m], every model's first image, then every model's second, and so on: observed quality,
                NaN where there is no image yet, -inf where it failed.
            cost: dollars of generating an image [m].
            allowed: ascending columns of the models that may be asked; None: all.
        """
        guess = np.tile(checks.quality_matrix(quality), self.images)
        may = None
        if allowed is not None:
            may = np.isin(np.arange(guess.shape[1]) % (guess.shape[1] // self.images), allowed)
        price = self.prices(cost)
        return view(self.belief, guess, scores, price, tradeoff=self.point, allowed=may, **self._limits)

    def kept(self, quality: Array, scores: Array) -> IntArray:
        """Return the place in `scores` of the image that is delivered [n], -1 where there is none; see `view`."""
        guess = np.tile(checks.quality_matrix(quality), self.images)
        return kept(self.belief, guess, scores, trust=self.trust)

    def choose(
        self, quality: Array, cost: Array, *, allowed: IntArray | None = None, ood: BoolArray | None = None
    ) -> IntArray:
        """Return the model of each prompt's first image [n]; what follows depends on its score."""
        if self.max_images == 1:
            return super().choose(quality, cost, allowed=allowed, ood=ood)
        guess = checks.quality_matrix(quality)
        return self.view(guess, np.full((len(guess), len(self.belief)), np.nan), cost, allowed=allowed).model

    def rule(self, quality: FloatArray, cost: FloatArray) -> IntArray:
        return choices.cost_aware(quality, cost, tradeoff=self.point)

    def replays(
        self, quality: Array, observed: Array, cost: Array, images: FloatArray | None = None
    ) -> list[Replayed]:
        """Search n prompts whose scores are known; columns of the result are those of `view`'s scores.

        Args:
            quality: predicted [n, m].
            observed: [n, m], taken for an image's score where `images` is None.
            cost: dollars of generating an image [m].
            images: observed quality of k images a model [n, m, k]; each is the first in one of k replays.
        """
        guess = np.tile(checks.quality_matrix(quality), self.images)
        return [
            run(self.belief, guess, scores, self.prices(cost), tradeoff=self.point, **self._limits)
            for scores in rounds(observed, images, self.images)
        ]

    def sweep(
        self,
        quality: Array,
        observed: Array,
        cost: Array,
        images: FloatArray | None = None,
    ) -> tuple[FloatArray, list[list[Replayed]]]:
        """Return λ [k] of `search.grid`, falling, and for each of the `replays` what the search comes to at each λ.

        It ends where a prompt takes half as much again as the most expensive image: nothing is read off beyond that,
        and with many models, whose every subset would be met, it is there that replays take long.
        """
        guess, price = np.tile(checks.quality_matrix(quality), self.images), self.prices(cost)
        first, *others = rounds(observed, images, self.images)
        found: list[list[Replayed]] = [[]]
        for value in grid(observed, price):
            found[0] += sweep(self.belief, guess, first, price, [value], **self._limits)
            if found[0][-1].cost.mean() > 1.5 * price.max():
                break
        values = grid(observed, price)[: len(found[0])]
        rest = [sweep(self.belief, guess, scores, price, values, **self._limits) for scores in others]
        return values, found + rest

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        """Return the policy with its belief, and with λ set; the best single model where none meets the target.

        λ is read off between those of a grid, mean cost and quality being interpolated in ln λ.
        """
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        known = training or Training()
        images = known.images
        own = self.model_copy(update={"look": self._priced(known)})
        own._belief = fit(guess, truth if images is None else images)
        if self.tradeoff is None and self.max_images == 1:
            set_ = super(Search, own).calibrate(guess, truth, price, training)
            if not isinstance(set_, Search):
                return set_
            own = set_
        elif self.tradeoff is None:
            values, swept = own.sweep(guess, truth, price, images)
            spent, gained = (
                np.mean([[getattr(each, name) for each in one] for one in swept], axis=0)
                for name in ("cost", "quality")
            )
            point, why = set_tradeoff(
                values, spent, gained, truth, price, self.target, self.standard_errors, self.budget
            )
            if point is None:
                single = checks.best_single(truth)
                facts = Calibration.of(
                    truth, price, np.full(len(truth), single), single, reached=False, reason=why
                )
                return Single(model=single, because=why, calibration=facts)
            own = own.model_copy(update={"tradeoff": point})
            return own._measured(guess, truth, price, images, why)
        return own._measured(guess, truth, price, images, "")

    def _priced(self, known: Training) -> float | None:
        look = self.look if self.look is not None else known.look
        if look is None and self.max_images != 1:
            raise UserError(
                f"{self.title} doesn't know what a look costs: no scorer of this study says what it takes; give it as "
                f"policy.look, in dollars an image"
            )
        return look

    def measured(self, predicted: FloatArray, observed: FloatArray, cost: FloatArray) -> Self:
        return self._measured(predicted, observed, cost, None, "")

    def _measured(
        self, guess: FloatArray, truth: FloatArray, price: FloatArray, images: FloatArray | None, why: str
    ) -> Self:
        replayed = self.replays(guess, truth, price, images)
        m, belief = len(price), self._belief
        assert belief is not None
        opened = np.concatenate([one.images for one in replayed])
        first = np.concatenate([one.order[:, 0] % m for one in replayed])
        facts = SearchFacts(
            prompts=belief.prompts,
            coverage=belief.coverage,
            single_images=images is not None,
            first=(np.bincount(first, minlength=m) / len(first)).tolist(),
            images=(np.bincount(opened)[1:] / len(opened)).tolist(),
        )
        single = checks.best_single(truth)
        means = Calibration.of(truth, price, np.full(len(truth), single), single, reason=why)
        own = {
            "quality": float(np.mean([one.quality for one in replayed])),
            "cost": float(np.mean([one.cost for one in replayed])),
        }
        return self.model_copy(update={"calibration": means.model_copy(update=own), "facts": facts})

    @property
    def _limits(self) -> Limits:
        return {"max_images": self.max_images, "trust": self.trust}

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        if self.max_images == 1:
            return super().explain(predicted, chosen, candidates, ood=ood)
        return "first, as its image may be worth most for what it costs; what comes next depends on that image's score"

    def summary(self, labels: Sequence[str]) -> str:
        look = "" if not self.look else f"; a look costs ${1000 * self.look:.4g} per 1000 images"
        return super().summary(labels) + look

    def describe(self, models: Sequence[str]) -> Plain:
        more = {"look": self.look, "max_images": self.max_images, "images": self.images, "trust": self.trust}
        return {
            **super().describe(models),
            **more,
            "facts": None if self.facts is None else self.facts.model_dump(),
        }

    def notes(self, labels: Sequence[str]) -> list[str]:
        if self.facts is None or self._belief is None:
            return []
        facts = self.facts
        taken = ", ".join(
            f"{place} on {share:.0%}" for place, share in enumerate(facts.images, 1) if share > 0
        )
        kind = "single images" if facts.single_images else "one score a prompt and model, priced as one image"
        return [
            f"Search: images taken: {taken} of the prompts it was calibrated on. Scoring an image costs "
            f"${1000 * (self.look or 0):.4g} per 1000 and is included in all its costs.",
            f"Belief: of {facts.prompts} held-out prompts' scores ({kind}) {facts.coverage:.1%} lie within their 90 % "
            f"interval.",
        ]

    def check(self, cost: FloatArray, encoders: Collection[str]) -> None:
        if self._belief is None or self._belief.covariance.shape != (len(cost), len(cost)):
            found = "none" if self._belief is None else f"one of {len(self._belief)} models"
            raise ValueError(f"a search needs a belief of {len(cost)} models; this has {found}")
        if self.facts is not None and len(self.facts.first) != len(cost):
            raise ValueError(f"first images of {len(self.facts.first)} models, expected {len(cost)}")
        self.prices(cost)
        super().check(cost, encoders)

    def arrays(self) -> dict[str, np.ndarray]:
        if self._belief is None:
            return {}
        noise = {} if self._belief.noise is None else {"noise": self._belief.noise}
        return {"covariance": self._belief.covariance, **noise}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        if "covariance" not in arrays or self.facts is None:
            raise ValueError("a search has no covariance, or no facts of its calibration")
        noise = arrays.get("noise")
        own = self.model_copy()
        own._belief = Belief(
            arrays["covariance"].astype(np.float64),
            None if noise is None else noise.astype(np.float64),
            self.facts.prompts,
            self.facts.coverage,
        )
        return own


def rounds(observed: Array, images: FloatArray | None, per_model: int) -> list[FloatArray]:
    """Return the scores of each replay, [n, per_model · m]: every model's first image, then every model's second.

    Args:
        observed: [n, m], the only replay where there are no single `images`.
        images: [n, m, k]; in the replay r of k, image r of each model is its first, r + 1 its second.
        per_model: images of one model.

    Raises:
        UserError: more images of a model are asked than there are.
    """
    k = 1 if images is None else images.shape[2]
    if per_model > k:
        raise UserError(
            f"a search with {per_model} images a model needs as many scores of each, and this study has {k}; generate "
            f"more seeds, or leave images at 1"
        )
    if images is None:
        return [np.asarray(observed, np.float64)]
    return [np.concatenate([images[:, :, (r + i) % k] for i in range(per_model)], axis=1) for r in range(k)]


def set_tradeoff(
    tradeoffs: FloatArray,
    spent: FloatArray,
    gained: FloatArray,
    observed: FloatArray,
    cost: FloatArray,
    target: str,
    standard_errors: float = 0.0,
    budget: float | None = None,
) -> tuple[float | None, str]:
    """Return λ that meets a target on calibration prompts, None where none does, and the reason in words.

    target "quality": least mean cost at the best single model's mean quality, plus `standard_errors` of the paired
    difference; "cost": highest mean quality at no more than its cost, or the budget. Between the λ tried, mean cost and quality are
    interpolated in ln λ.

    Args:
        tradeoffs: λ tried, falling [k].
        spent, gained: dollars and observed quality of each prompt at each [k, n].
        observed, cost: of the models alone, [n, m] and [m].
        target, standard_errors, budget: as settings of `Tuned`.
    """
    model = checks.best_single(observed)
    lead = gained - observed[:, model]
    error = lead.std(axis=1, ddof=1) / np.sqrt(len(observed))
    log = np.log(tradeoffs)
    fine = np.interp(np.arange((len(log) - 1) * _FINE + 1) / _FINE, np.arange(len(log)), log)
    price, gain, doubt = (
        np.interp(-fine, -log, values) for values in (spent.mean(axis=1), lead.mean(axis=1), error)
    )
    affordable = price <= (cost[model] if budget is None else budget) * (1 + 1e-9)
    least = standard_errors * doubt if target == "quality" else 0 if budget is None else -np.inf
    fits = affordable & (gain >= least - 1e-12)
    if not fits.any():
        return None, (
            f"no search met the target ({target}) on the prompts that it was calibrated on, so every prompt goes to "
            f"the best single model"
        )
    place = np.flatnonzero(fits)[(price if target == "quality" else -gain)[fits].argmin()]
    return float(np.exp(fine[place])), REASON[target if budget is None else "budget"]


class GuaranteedSearch(Promising, Search):
    """Look at the cheapest model's image, then stop or generate with the best single model too, under a guarantee.

    Conformal risk control sets the threshold; see `guarantees.calibrate_draft` for what is guaranteed: within ε of the
    best single model's own image, with probability 1 - α, on average over prompts. Of the settings of `Search` it takes
    `look` alone.
    """

    title = "guaranteed search"

    @property
    def name(self) -> str:
        return self.title

    @property
    def description(self) -> str:
        return (
            f"a draft by the cheapest model, then the best single model's image unless the draft is within "
            f"{self.epsilon:g} of it with probability {1 - self.alpha:g}"
        )

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if self.images != 1 or self.trust != 1 or self.max_images is not None:
            raise UserError(
                f"{self.title} makes one image a model, two at most, and trusts their scores; leave images, max_images "
                f"and trust out"
            )
        return self

    def view(self, quality: Array, scores: Array, cost: Array, *, allowed: IntArray | None = None) -> View:
        guess, seen = self.belief.check(quality, scores)
        price = self.prices(cost)
        # What λ would say has no part in it; reservation values are those at which another image costs nothing.
        plain = view(self.belief, guess, seen, price, tradeoff=0.0)
        return replace(plain, model=self._next(guess, seen, price, allowed))

    def _next(
        self, guess: FloatArray, seen: FloatArray, price: FloatArray, allowed: IntArray | None
    ) -> IntArray:
        own, draft = self._given, int(price.argmin())
        single = own.single if allowed is None or own.single in allowed else self.safest(allowed)
        free = np.isnan(seen)
        last = np.where(free[:, single], single, STOP)
        if not own.given or own.threshold is None or single != own.single or draft == single:
            return np.where(np.isfinite(seen).any(axis=1), STOP, last)
        worth, stop = draft_margins(
            self.belief, guess, seen[:, draft], price, draft=draft, single=single, epsilon=self.epsilon
        )
        may = allowed is None or draft in allowed
        first = np.where((worth <= own.threshold) & may, draft, last)
        after = np.where((stop <= own.threshold) & np.isfinite(seen[:, draft]), STOP, last)
        model = np.where(free.all(axis=1), first, after)
        # Where its image failed and nothing is in hand, any other model's must do.
        lost = (model == STOP) & ~np.isfinite(seen).any(axis=1) & free.any(axis=1)
        return np.asarray(np.where(lost, np.where(free, price, np.inf).argmin(axis=1), model), np.int64)

    def choose(
        self, quality: Array, cost: Array, *, allowed: IntArray | None = None, ood: BoolArray | None = None
    ) -> IntArray:
        guess = checks.quality_matrix(quality)
        return self._next(guess, np.full(guess.shape, np.nan), self.prices(cost), allowed)

    def replays(
        self, quality: Array, observed: Array, cost: Array, images: FloatArray | None = None
    ) -> list[Replayed]:
        guess, price = checks.quality_matrix(quality), self.prices(cost)

        def step(rows: IntArray, seen: FloatArray) -> IntArray:
            return self._next(guess[rows], seen, price, None)

        found = [replay(step, scores, price) for scores in rounds(observed, images, 1)]
        # Whoever asks the best single model at once needs no look.
        own, look = self._given.single, self.look or 0.0
        return [
            replace(one, cost=one.cost - look * ((one.order[:, 0] == own) & (one.images == 1)))
            for one in found
        ]

    def calibrate(
        self, predicted: Array, observed: Array, cost: Array, training: Training | None = None
    ) -> Policy:
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        known = training or Training()
        own = self.model_copy(update={"look": self._priced(known)})
        own._belief = fit(guess, truth if known.images is None else known.images)
        single = checks.best_single(truth, known.single)
        # Of several images the first is judged: they are alike, and the theorem asks for one prompt, one loss.
        scores = rounds(truth, known.images, 1)[0]
        paid = own.prices(price)
        found = calibrate_draft(
            own._belief,
            guess,
            scores,
            paid,
            draft=int(paid.argmin()),
            single=single,
            epsilon=self.epsilon,
            alpha=self.alpha,
        )
        fitted = own.model_copy(update={"guarantee": found})._measured(
            guess, truth, price, known.images, found.statement
        )
        facts = fitted.calibration
        assert facts is not None
        against = {
            "single": single,
            "single_quality": float(truth[:, single].mean()),
            "single_cost": float(price[single]),
            "reached": found.given,
        }
        return fitted.model_copy(update={"calibration": facts.model_copy(update=against)})

    def figures(
        self, observed: FloatArray, cost: FloatArray, choice: IntArray, models: Sequence[str]
    ) -> Plain:
        """Measure the share of prompts whose delivered image is within epsilon; of single images nothing is said."""
        if self.facts is None or self.facts.single_images:
            return {}
        return super().figures(observed, cost, choice, models)

    def explain(
        self, predicted: Sequence[float], chosen: int, candidates: Candidates, *, ood: bool = False
    ) -> str:
        if chosen == self._given.single:
            return "no draft is likely enough to be kept, so the best single model's image is made at once"
        return f"a draft: kept if its score makes sure enough that it is within {self.epsilon:g}"

    def notes(self, labels: Sequence[str]) -> list[str]:
        return [
            f"Guarantee, against {labels[self._given.single]}: {self._given.statement}.",
            *super().notes(labels),
        ]
