"""Strengths of models from blind pairs: the Bradley–Terry model with ties, ranks, and votes as scores.

Bradley & Terry, Biometrika 39 (1952); ties as in Davidson, Journal of the American Statistical Association 65 (1970):
with strengths θ (natural logarithms) and η for ties, a pair i, j ends as i, j or a tie with probabilities in proportion
to exp(θ_i), exp(θ_j) and exp(η + (θ_i + θ_j) / 2).
"""

import math
from dataclasses import dataclass

import numpy as np

from promptroute.core.errors import UserError
from promptroute.evaluation.bootstrap import Interval

PRIOR = 0.1
"""Precision of a normal prior on each strength, worth a small part of a vote: keeps unbeaten models finite."""
_ITERATIONS = 100


@dataclass(frozen=True)
class Outcomes:
    """Votes on pairs of m models, counted.

    Attributes:
        wins: float64 [..., m, m]; how often the row was chosen over the column.
        ties: float64 [..., m, m]; symmetric, each tie counted in both places.
    """

    wins: np.ndarray
    ties: np.ndarray


def count(
    prompts: np.ndarray, first: np.ndarray, second: np.ndarray, lead: np.ndarray, models: int
) -> Outcomes:
    """Count votes by prompt: outcomes [prompts, m, m].

    Args:
        prompts: int64 [n], which prompt each vote is about.
        first, second: int64 [n], columns of its two models.
        lead: int64 [n]; 1 where the first was chosen, -1 the second, 0 a tie.
        models: m.
    """
    shape = (int(prompts.max(initial=-1)) + 1, models, models)
    wins, ties = np.zeros(shape), np.zeros(shape)
    np.add.at(wins, (prompts, first, second), lead == 1)
    np.add.at(wins, (prompts, second, first), lead == -1)
    np.add.at(ties, (prompts, first, second), lead == 0)
    np.add.at(ties, (prompts, second, first), lead == 0)
    return Outcomes(wins, ties)


def fit(
    outcomes: Outcomes, *, mean: np.ndarray | None = None, precision: float = PRIOR, tie: float | None = None
) -> tuple[np.ndarray, float]:
    """Return the strengths that fit best (the posterior mode), and η of ties.

    The logarithm of the likelihood is concave in (θ, η); Newton's method with halved steps finds its top.

    Args:
        outcomes: of one set of votes, [m, m].
        mean: prior mean of each strength [m]; 0 where None.
        precision: of the normal prior around it, above 0: what keeps the strengths of an unbeaten model finite.
        tie: η where it is known; None: fitted too, if there is a tie.

    Returns:
        Strengths float64 [m], whose mean is 0 where `mean` is None; η (-inf where there are no ties and none is given).
    """
    from scipy.special import log_softmax

    wins, ties, models = outcomes.wins, outcomes.ties, len(outcomes.wins)
    first, second = np.triu_indices(models, 1)
    seen = np.stack([wins[first, second], wins[second, first], ties[first, second]])
    counted = seen.sum(axis=0)
    fitted, given = tie is None and bool(seen[2].any()), -math.inf if tie is None else tie
    # The utilities of a pair's three outcomes are linear in x, which is θ, followed by η where that is fitted.
    centre = np.zeros(models + fitted)
    centre[:models] = 0.0 if mean is None else mean
    forms, fixed = np.zeros((3, len(first), len(centre))), np.zeros((3, 1))
    pairs = np.arange(len(first))
    forms[0, pairs, first] = forms[1, pairs, second] = 1
    forms[2, pairs, first] = forms[2, pairs, second] = 0.5
    if fitted:
        forms[2, :, models] = 1
    else:
        fixed[2] = given

    def logs(x: np.ndarray) -> np.ndarray:
        """Return the logarithm of each outcome's probability [3, pairs]."""
        return np.asarray(log_softmax(forms @ x + fixed, axis=0))

    def value(x: np.ndarray) -> float:
        with np.errstate(invalid="ignore"):  # 0 · -inf of ties that nobody gave
            likely = np.where(seen > 0, seen * logs(x), 0.0)
        return float(likely.sum() - precision / 2 * ((x - centre) ** 2).sum())

    x = centre.copy()
    for _ in range(_ITERATIONS):
        share = np.exp(logs(x))
        expected = np.einsum("kp,kps->ps", share, forms)
        gradient = np.einsum("kp,kps->s", seen, forms) - counted @ expected - precision * (x - centre)
        curve = np.einsum("p,kp,kps,kpt->st", counted, share, forms, forms)
        curve += precision * np.eye(len(x)) - np.einsum("p,ps,pt->st", counted, expected, expected)
        step = np.linalg.solve(curve, gradient)
        before, scale = value(x), 1.0
        while value(x + scale * step) < before - 1e-12 and scale > 1e-6:
            scale /= 2
        x += scale * step
        if np.abs(scale * step).max() < 1e-10:
            break
    return x[:models], float(x[models]) if fitted else given


def expected_share(strengths: np.ndarray, tie: float = -math.inf) -> np.ndarray:
    """Return each model's expected share of wins against the others, ties half: [m] in 0 to 1, 1 is best."""
    difference = strengths[:, None] - strengths[None, :]
    both = math.exp(tie) if tie > -math.inf else 0.0
    win, loss = np.exp(difference / 2), np.exp(-difference / 2)
    share = (win + both / 2) / (win + loss + both)
    np.fill_diagonal(share, 0)
    return np.asarray(share.sum(axis=1) / max(len(strengths) - 1, 1))


@dataclass(frozen=True)
class Ranking:
    """Strengths of m models with intervals over resamples of the prompts.

    Attributes:
        strength: [m] `Interval`s of θ; their mean over the models is 0.
        share: [m] of the expected share of wins against the others, 0 to 1.
        rank: [m] (rank, lowest and highest rank in the 95 % interval); 1 is best.
        tie: η.
    """

    strength: list[Interval]
    share: list[Interval]
    rank: list[tuple[int, int, int]]
    tie: float


def rank(outcomes: Outcomes, *, seed: int, resamples: int = 1000) -> Ranking:
    """Rank the models by all votes.

    Args:
        outcomes: by prompt, [prompts, m, m].
        seed, resamples: of the bootstrap over prompts.

    Raises:
        UserError: there is no vote.
    """
    prompts = len(outcomes.wins)
    if not prompts:
        raise UserError("no vote on any pair, so there is nothing to rank")
    strength, tie = fit(Outcomes(outcomes.wins.sum(axis=0), outcomes.ties.sum(axis=0)))
    generator = np.random.default_rng(seed)
    found = np.empty((resamples, len(strength)))
    shares = np.empty_like(found)
    for row in range(resamples):
        weight = np.bincount(generator.integers(prompts, size=prompts), minlength=prompts).astype(float)
        again = Outcomes(np.tensordot(weight, outcomes.wins, 1), np.tensordot(weight, outcomes.ties, 1))
        found[row], eta = fit(again)
        shares[row] = expected_share(found[row], eta)
    places = (-found).argsort(axis=1).argsort(axis=1) + 1

    def ends(values: np.ndarray, column: int) -> tuple[float, float]:
        if not resamples:
            return math.nan, math.nan
        low, high = np.quantile(values[:, column], [0.025, 0.975]).tolist()
        return low, high

    order = (-strength).argsort().argsort() + 1
    share = expected_share(strength, tie)
    columns = range(len(strength))
    ranks = []
    for column in columns:
        low, high = ends(places, column) if resamples else (1.0, float(len(strength)))
        ranks.append((int(order[column]), math.floor(low), math.ceil(high)))
    return Ranking(
        [Interval(float(strength[column]), *ends(found, column), 0.0) for column in columns],
        [Interval(float(share[column]), *ends(shares, column), 0.0) for column in columns],
        ranks,
        tie,
    )


def votes_until_apart(wins: float, losses: float, ties: float, power: float = 0.8) -> int | None:
    """Estimate how many more votes tell two models apart, were their rates those seen so far.

    Apart means that the 95 % interval of the mean lead (1, -1, 0 for a tie) leaves zero out, with probability `power`.

    Returns:
        0 where they are apart already; None where no lead is seen, so that no number of votes is in sight.
    """
    from scipy import stats

    total = wins + losses + ties
    if total == 0 or wins == losses:
        return None
    lead = (wins - losses) / total
    variance = (wins + losses) / total - lead**2
    # One vote more of each kind keeps a variance of 0 (all votes alike) from meaning certainty.
    variance = max(variance, (wins + losses + 2) / (total + 3) - (lead * total / (total + 3)) ** 2)
    if abs(lead) > stats.norm.ppf(0.975) * math.sqrt(variance / total):
        return 0
    needed = variance * ((stats.norm.ppf(0.975) + stats.norm.ppf(power)) / lead) ** 2
    return max(math.ceil(needed - total), 1)


def votes_as_scores(outcomes: Outcomes, *, spread: float = 1.0) -> np.ndarray:
    """Turn votes into a score of each prompt and model: the share of wins that its image can expect, in percent.

    Strengths of a prompt are fitted around the models' own over all prompts: a prompt with few votes stays near them.

    Args:
        outcomes: by prompt, [prompts, m, m].
        spread: standard deviation of a prompt's strengths around the models', in natural logarithms, above 0.

    Returns:
        float64 [prompts, m] in 0 to 100, higher is better.

    Raises:
        UserError: no vote at all.
    """
    if not len(outcomes.wins) or not (outcomes.wins.sum() + outcomes.ties.sum()):
        raise UserError("no vote on any pair, so there is nothing to make scores of")
    overall, tie = fit(Outcomes(outcomes.wins.sum(axis=0), outcomes.ties.sum(axis=0)))
    rows = [
        fit(Outcomes(wins, ties), mean=overall, precision=1 / spread**2, tie=tie)[0]
        for wins, ties in zip(outcomes.wins, outcomes.ties, strict=True)
    ]
    return np.stack([100 * expected_share(row, tie) for row in rows])
