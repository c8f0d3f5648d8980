"""A budget for a search: prompts come one by one, or as a batch, and it is never overspent."""

from dataclasses import dataclass, replace

import numpy as np

from promptroute.core.errors import UserError
from promptroute.routing import checks
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray
from promptroute.routing.search import STOP, Replayed, kept, next_draw
from promptroute.routing.search_policy import Search

_ROUNDING = 1e-12  # sums of the same prices in another order differ in their last digits


@dataclass(frozen=True)
class Purse:
    """What is left: `dollars` for the `prompts` still to come, the one in hand included."""

    dollars: float
    prompts: int


@dataclass(frozen=True, eq=False)
class SearchBudget:
    """Spend a budget on prompts that are searched one by one.

    At every prompt λ is set again, to that at which prompts like the calibration ones cost what is left per prompt;
    and no image is made that would not leave the cheapest one's price for each prompt to come. So the budget holds
    whatever comes.

    Attributes:
        policy: calibrated; its λ isn't used.
        price: dollars of an image with its look [m].
        tradeoffs, mean_cost: λ falling, and the mean dollars of a prompt at each [k].
    """

    policy: Search
    price: FloatArray
    tradeoffs: FloatArray
    mean_cost: FloatArray

    @classmethod
    def fit(cls, policy: Search, predicted: Array, observed: Array, cost: Array) -> "SearchBudget":
        """Learn how λ sets the mean cost, on held-out predictions [n, m] of a calibrated policy's prompts."""
        guess, truth, price = checks.evaluation(predicted, observed, cost)
        values, swept = policy.sweep(guess, truth, price)
        spent = np.array([one.cost.mean() for one in swept[0]])
        return cls(policy, policy.prices(price), values, np.maximum.accumulate(spent))

    def tradeoff(self, dollars: float) -> float:
        """Return λ at which a prompt costs `dollars` on average, interpolated in ln λ; infinite below the least."""
        if dollars < self.mean_cost[0]:
            return float("inf")
        return float(np.exp(np.interp(dollars, self.mean_cost, np.log(self.tradeoffs))))

    def start(self, dollars: float, prompts: int) -> Purse:
        """Return the purse for a batch or a stream.

        Raises:
            UserError: it doesn't pay for the cheapest image of each prompt.
        """
        least = prompts * float(self.price.min())
        if prompts < 1 or not dollars * (1 + _ROUNDING) >= least:
            raise UserError(
                f"a budget of {dollars:g} dollars for {prompts} prompts: expected one prompt or more, and at least "
                f"{least:g} dollars, the cheapest model's image and a look at it for each"
            )
        return Purse(float(dollars), int(prompts))

    def affordable(self, purse: Purse) -> BoolArray:
        """Tell which images leave the cheapest one's price for each prompt to come, bool [m]."""
        # In excess of the cheapest image, so that rounding can't rule that one out.
        least = float(self.price.min())
        spare = purse.dollars - purse.prompts * least
        return np.asarray(self.price - least <= max(spare, 0.0))

    def step(self, purse: Purse, mean: FloatArray, seen: FloatArray, tradeoff: float) -> int:
        """Return the model to generate with next for a prompt with predicted quality [m], or `STOP`.

        Args:
            purse: what was left before the prompt, less what its images `seen` [m] cost.
            mean: predicted quality [m].
            seen: scores so far, as of `search.next_draw`.
            tradeoff: λ for this prompt, from what was left before it.
        """
        may = self.affordable(purse)
        if np.isfinite(seen).any():  # another image must leave the least for all prompts after this one
            may = self.price <= purse.dollars - (purse.prompts - 1) * float(self.price.min())
        policy = self.policy
        return int(
            next_draw(
                policy.belief,
                mean[None],
                seen[None],
                self.price,
                tradeoff=tradeoff,
                max_images=policy.max_images,
                trust=policy.trust,
                allowed=may,
            )[0]
        )

    def run(self, purse: Purse, predicted: Array, scores: Array) -> tuple[Purse, Replayed]:
        """Search n prompts in their order, whose scores [n, m] are all known; returns what is left, and what came."""
        guess, truth = self.policy.belief.check(predicted, scores)
        shown, order = np.full(guess.shape, np.nan), np.full(guess.shape, STOP)
        for row in range(len(guess)):
            tradeoff = self.tradeoff(purse.dollars / purse.prompts)
            for turn in range(guess.shape[1]):
                model = self.step(purse, guess[row], shown[row], tradeoff)
                if model == STOP:
                    break
                shown[row, model], order[row, turn] = truth[row, model], model
                purse = replace(purse, dollars=purse.dollars - float(self.price[model]))
            purse = replace(purse, prompts=purse.prompts - 1)
        holds: IntArray = kept(self.policy.belief, guess, shown, trust=self.policy.trust)
        rows = np.arange(len(guess))
        quality = np.where(holds == STOP, -np.inf, truth[rows, holds])
        return purse, Replayed(
            order, holds, quality, np.where(order >= 0, self.price[order], 0.0).sum(axis=1)
        )
