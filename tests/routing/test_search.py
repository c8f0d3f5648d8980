"""Generate, look, decide: against brute force, against quadrature, and never with a look ahead."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import quad
from scipy.stats import norm

from promptroute.core.errors import UserError
from promptroute.routing import choices
from promptroute.routing.belief import Belief
from promptroute.routing.search import (
    STOP,
    grid,
    improvement,
    kept,
    next_draw,
    replay,
    reservation,
    run,
    sweep,
    trace,
    view,
)

PRICE = np.array([1.0, 3.0, 2.0])
DIAGONAL = np.diag([0.8, 1.5, 0.5]) ** 2
FULL = np.array([[1.0, 0.6, 0.3], [0.6, 1.2, 0.4], [0.3, 0.4, 0.9]])
finite = st.floats(-3, 3, width=32)


def belief(covariance: np.ndarray = FULL, noise: Any = None) -> Belief:
    return Belief(
        np.asarray(covariance, float), None if noise is None else np.asarray(noise, float), 100, 0.9
    )


def problem(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mean = np.array([0.0, 0.5, 0.2]) + 0.4 * rng.normal(size=(n, 3))
    return mean, mean + rng.multivariate_normal(np.zeros(3), FULL, n)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Belief, np.ndarray, np.ndarray, np.ndarray, float]:
    """A belief of up to 4 models, mean and scores of up to 5 prompts, prices and λ."""
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    root = draw(hnp.arrays(np.float64, (m, m), elements=finite))
    mean = draw(hnp.arrays(np.float64, (n, m), elements=finite))
    scores = draw(hnp.arrays(np.float64, (n, m), elements=finite))
    price = draw(hnp.arrays(np.float64, (m,), elements=st.floats(0.125, 4, width=32)))
    tradeoff = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 3.0, np.inf]))
    return belief(root @ root.T + 0.05 * np.eye(m)), mean, scores, price, tradeoff


class TestImprovement:
    @settings(max_examples=40, deadline=None)
    @given(mean=finite, sd=st.floats(0.05, 3), best=finite)
    def test_against_quadrature(self, mean: float, sd: float, best: float) -> None:
        edge = max(best, mean - 10 * sd)
        wanted = quad(
            lambda x: (x - best) * norm.pdf(x, mean, sd), edge, max(edge, mean) + 10 * sd, limit=200
        )[0]
        assert improvement(mean, sd, best) == pytest.approx(wanted, rel=2e-5, abs=1e-9)

    def test_far_out(self) -> None:
        far = improvement(0.0, 1.0, np.array([25.0, 30.0, 60.0]))
        u = np.array([25.0, 30.0])
        np.testing.assert_allclose(far[:2], norm.pdf(u) / u**2 * (1 - 3 / u**2), rtol=1e-3)
        assert far[2] == 0
        assert improvement(50.0, 1.0, 0.0) == pytest.approx(50.0)

    def test_without_doubt(self) -> None:
        np.testing.assert_array_equal(improvement([1.0, 3.0], 0.0, 2.0), [0.0, 1.0])


class TestReservation:
    @settings(max_examples=60, deadline=None)
    @given(mean=finite, sd=st.floats(0.05, 3), price=st.floats(0.01, 5), tradeoff=st.floats(0.001, 10))
    def test_another_image_just_pays(self, mean: float, sd: float, price: float, tradeoff: float) -> None:
        z = reservation(mean, sd, price, tradeoff)
        assert improvement(mean, sd, z) == pytest.approx(tradeoff * price, rel=1e-5)

    def test_ends(self) -> None:
        assert reservation(1.0, 2.0, 3.0, 0.0) == np.inf
        assert reservation(1.0, 2.0, 3.0, np.inf) == -np.inf
        assert reservation(1.0, 0.0, 3.0, 0.5) == pytest.approx(-0.5)


class TestWeitzman:
    """Boxes that tell nothing of each other: the rule is optimal."""

    def test_against_brute_force(self) -> None:
        mean, tradeoff = np.array([0.2, 0.0, 0.4]), 0.12
        sd, ask = np.sqrt(np.diag(DIAGONAL)), tradeoff * PRICE
        nodes = np.linspace(-6, 6, 1201)  # dense: what comes after has kinks
        weights = norm.pdf(nodes) / norm.pdf(nodes).sum()
        best = np.linspace(-6, 8, 1401)
        # By backward induction: what an optimal rule is worth with the models of `left` unopened and `best` in hand.
        worth: dict[frozenset[int], np.ndarray] = {frozenset(): best}
        asking: dict[tuple[frozenset[int], int], np.ndarray] = {}
        for size in (1, 2, 3):
            for left in [frozenset(one) for one in _subsets(3, size)]:
                for j in left:
                    after = np.maximum(best[:, None], mean[j] + sd[j] * nodes)
                    asking[left, j] = np.interp(after, best, worth[left - {j}]) @ weights - ask[j]
                worth[left] = np.maximum(best, np.max([asking[left, j] for j in left], axis=0))
        shown = (best > -3) & (best < 4)
        for left in worth:
            opened = sorted({0, 1, 2} - left)
            if not left or not opened:
                continue
            scores = np.full((shown.sum(), 3), np.nan)
            scores[:, opened] = best[shown, None]
            action = next_draw(
                belief(DIAGONAL), np.tile(mean, (len(scores), 1)), scores, PRICE, tradeoff=tradeoff
            )
            gained = best[shown].copy()
            for j in left:
                gained[action == j] = asking[left, j][shown][action == j]
            np.testing.assert_allclose(gained, worth[left][shown], atol=1e-4)
            assert set(action) > {STOP}
        first = next_draw(belief(DIAGONAL), mean[None], np.full((1, 3), np.nan), PRICE, tradeoff=tradeoff)[0]
        whole = frozenset({0, 1, 2})
        assert asking[whole, first][0] == pytest.approx(worth[whole][0], abs=1e-4)


def _subsets(m: int, size: int) -> list[set[int]]:
    return [{j for j in range(m) if code >> j & 1} for code in range(2**m) if bin(code).count("1") == size]


class TestNextDraw:
    def test_stops_at_the_reservation_value(self) -> None:
        own, mean = belief(), np.zeros((1, 3))
        seen = np.array([[0.3, np.nan, np.nan]])
        look = view(own, mean, seen, PRICE, tradeoff=0.1)
        top = np.nanmax(look.reservation)
        assert (look.model[0] == STOP) == (top <= 0.3)
        assert np.isnan(look.reservation[0, 0]) and np.isnan(look.gain[0, 0])
        assert look.kept[0] == 0 and look.value[0] == 0.3

    @pytest.mark.parametrize("most", [None, 1, 2])
    @pytest.mark.parametrize("seen", [[], [0], [1, 2]])
    def test_permuting_models_permutes_the_answer(self, most: int | None, seen: list[int]) -> None:
        mean, observed = problem()
        scores = np.full_like(observed, np.nan)
        scores[:, seen] = observed[:, seen]
        here = view(belief(), mean, scores, PRICE, tradeoff=0.1, max_images=most)
        for place in ([2, 0, 1], [1, 0, 2]):
            turned = belief(FULL[np.ix_(place, place)])
            there = view(
                turned, mean[:, place], scores[:, place], PRICE[place], tradeoff=0.1, max_images=most
            )
            np.testing.assert_allclose(here.reservation[:, place], there.reservation, atol=1e-9)
            back = np.where(there.model == STOP, STOP, np.array(place)[there.model])
            np.testing.assert_array_equal(back, here.model)
            np.testing.assert_array_equal(here.value, there.value)

    def test_lambda_zero_asks_everyone(self) -> None:
        mean, scores = problem()
        assert (run(belief(), mean, scores, PRICE, tradeoff=0.0).images == 3).all()

    @pytest.mark.parametrize("tradeoff", [1e6, np.inf])
    def test_huge_lambda_asks_the_cheapest_alone(self, tradeoff: float) -> None:
        mean, scores = problem()
        replayed = run(belief(), mean, scores, PRICE, tradeoff=tradeoff)
        assert (replayed.order == [0, -1, -1]).all() and (replayed.kept == 0).all()

    @settings(max_examples=60, deadline=None)
    @given(world=worlds())
    def test_at_most_one_image_is_choosing_before(self, world: Any) -> None:
        own, mean, scores, price, tradeoff = world
        replayed = run(own, mean, scores, price, tradeoff=tradeoff, max_images=1)
        chosen = choices.cost_aware(mean, price, tradeoff=tradeoff)
        np.testing.assert_array_equal(replayed.kept, chosen)
        np.testing.assert_array_equal(replayed.images, 1)

    @settings(max_examples=60, deadline=None)
    @given(
        world=worlds(),
        other=hnp.arrays(np.float64, (5, 4), elements=finite),
        most=st.sampled_from([None, 2, 3]),
    )
    def test_never_reads_what_it_has_not_paid_for(
        self, world: Any, other: np.ndarray, most: int | None
    ) -> None:
        own, mean, scores, price, tradeoff = world
        replayed = run(own, mean, scores, price, tradeoff=tradeoff, max_images=most)
        n, m = scores.shape
        paid = (replayed.order[:, :, None] == np.arange(m)).any(axis=1)
        changed = np.where(paid, scores, other[:n, :m])
        again = run(own, mean, changed, price, tradeoff=tradeoff, max_images=most)
        np.testing.assert_array_equal(again.order, replayed.order)
        np.testing.assert_array_equal(again.kept, replayed.kept)

    def test_two_images_against_quadrature(self) -> None:
        own, mean, tradeoff = belief(), np.array([[0.0, 0.4, 0.1]]), 0.1
        scores = np.full((1, 3), np.nan)
        worth = []
        for j in range(3):
            sd = np.sqrt(FULL[j, j])

            def after(x: float, j: int = j, sd: float = float(sd)) -> float:
                shown = scores.copy()
                shown[0, j] = x
                center, spread = own.posterior(mean, shown)
                more = improvement(center, spread, x) - tradeoff * PRICE
                more[0, j] = 0
                return float((x + max(more.max(), 0)) * norm.pdf(x, mean[0, j], sd))

            worth.append(quad(after, -8, 8, limit=200)[0] - tradeoff * PRICE[j])
        chosen = next_draw(own, mean, scores, PRICE, tradeoff=tradeoff, max_images=2)
        assert chosen[0] == int(np.argmax(worth))

    def test_two_images_beat_an_index_rule_that_is_cut(self) -> None:
        mean, scores = problem(4000)
        for tradeoff in (0.03, 0.1):
            replayed = run(belief(), mean, scores, PRICE, tradeoff=tradeoff, max_images=2)

            def cut(rows: np.ndarray, seen: np.ndarray, tradeoff: float = tradeoff) -> np.ndarray:
                return next_draw(belief(), mean[rows], seen, PRICE, tradeoff=tradeoff)

            blind = replay(cut, scores, PRICE, max_images=2)
            assert replayed.images.max() == 2 and blind.images.max() == 2
            assert (replayed.quality - tradeoff * replayed.cost).mean() > (
                blind.quality - tradeoff * blind.cost
            ).mean()

    def test_failed_image_is_not_asked_again(self) -> None:
        scores = np.array(
            [[-np.inf, np.nan, np.nan], [-np.inf, -np.inf, np.nan], [-np.inf, -np.inf, -np.inf]]
        )
        look = view(belief(), np.zeros((3, 3)), scores, PRICE, tradeoff=5.0)
        assert look.model[0] in (1, 2) and look.model[1] == 2  # there must be an image, whatever it costs
        assert look.model[2] == STOP and (look.kept == STOP).all()

    def test_failed_image_does_not_count_as_one(self) -> None:
        scores = np.array([[-np.inf, np.nan, np.nan]])
        assert next_draw(belief(), np.zeros((1, 3)), scores, PRICE, tradeoff=0.1, max_images=1)[0] in (1, 2)

    def test_only_allowed_models(self) -> None:
        mean, scores = problem()
        allowed = np.array([False, True, True])
        assert not (run(belief(), mean, scores, PRICE, tradeoff=0.01, allowed=allowed).order == 0).any()

    def test_no_prompt(self) -> None:
        assert next_draw(belief(), np.zeros((0, 3)), np.zeros((0, 3)), PRICE, tradeoff=1.0).shape == (0,)

    @pytest.mark.parametrize(
        ("change", "error", "says"),
        [
            ({"tradeoff": -1.0}, UserError, "tradeoff is -1"),
            ({"tradeoff": float("nan")}, UserError, "tradeoff is nan"),
            ({"max_images": 0}, UserError, "max_images is 0"),
            ({"max_images": True}, UserError, "max_images is True"),
            ({"trust": 1.5}, UserError, "trust is 1.5"),
            ({"trust": 0.5}, UserError, "image's luck"),
            ({"price": [1.0, 0.0, 2.0]}, ValueError, r"cost\[1\] is 0.0"),
            ({"price": [1.0, 2.0]}, ValueError, "one price per model"),
            ({"mean": np.zeros((1, 2))}, ValueError, "the belief 3"),
            ({"mean": np.full((1, 3), np.nan)}, ValueError, "mean"),
            ({"scores": np.full((1, 3), np.inf)}, ValueError, "a score is inf"),
        ],
    )
    def test_bad_input(self, change: dict[str, Any], error: type[Exception], says: str) -> None:
        given: dict[str, Any] = {"mean": np.zeros((1, 3)), "scores": np.full((1, 3), np.nan), "price": PRICE}
        with pytest.raises(error, match=says):
            next_draw(belief(), **given | {"tradeoff": 1.0} | change)


class TestTrust:
    NOISE = np.array([0.5, 0.6, 0.3])

    def test_full_trust_is_the_plain_rule(self) -> None:
        mean, scores = problem()
        plain = run(belief(), mean, scores, PRICE, tradeoff=0.05)
        same = run(belief(noise=self.NOISE), mean, scores, PRICE, tradeoff=0.05, trust=1.0)
        np.testing.assert_array_equal(plain.order, same.order)

    def test_value_by_hand(self) -> None:
        own = belief(np.array([[2.0, 0.0], [0.0, 1.0]]), [1.5, 0.0])
        look = view(own, [[1.0, 0.0]], [[3.0, np.nan]], PRICE[:2], tradeoff=1.0, trust=0.5)
        # E[luck] = 1.5 / 2 of the surprise of 2; half of it counts.
        assert look.value[0] == pytest.approx(3.0 - 0.5 * 1.5)
        assert look.value[0] == pytest.approx(2.25)

    def test_without_trust_a_lucky_image_is_not_kept(self) -> None:
        own = belief(np.eye(2), [0.9, 0.0])
        scores = np.array([[2.0, 1.0]])
        assert kept(own, np.zeros((1, 2)), scores)[0] == 0
        assert kept(own, np.zeros((1, 2)), scores, trust=0.0)[0] == 1

    def test_expects_less_of_luck(self) -> None:
        scores = np.full((1, 3), np.nan)
        whole = view(belief(noise=self.NOISE), np.zeros((1, 3)), scores, PRICE, tradeoff=0.1)
        half = view(belief(noise=self.NOISE), np.zeros((1, 3)), scores, PRICE, tradeoff=0.1, trust=0.5)
        none = view(belief(noise=self.NOISE), np.zeros((1, 3)), scores, PRICE, tradeoff=0.1, trust=0.0)
        assert (whole.reservation > half.reservation).all() and (half.reservation > none.reservation).all()

    def test_is_better_on_fresh_images(self) -> None:
        rng = np.random.default_rng(0)
        noise, shared = np.array([1.0, 1.0, 1.0]), FULL - 0.3 * np.eye(3)
        own = belief(shared + np.diag(noise), noise)
        mean = np.zeros((4000, 3))
        theta = rng.multivariate_normal(np.zeros(3), shared, 4000)
        first, fresh = theta + rng.normal(size=(4000, 3)), theta + rng.normal(size=(4000, 3))
        rows = np.arange(4000)
        got = [
            fresh[rows, run(own, mean, first, PRICE, tradeoff=0.02, trust=trust).kept].mean()
            for trust in (0.0, 1.0)
        ]
        assert got[0] >= got[1] - 0.02
        lucky = run(own, mean, first, PRICE, tradeoff=0.02)
        assert first[rows, lucky.kept].mean() > fresh[rows, lucky.kept].mean() + 0.2  # the winner's curse


class TestReplay:
    @settings(max_examples=60, deadline=None)
    @given(world=worlds(), most=st.sampled_from([None, 1, 2, 3]))
    def test_cost_is_the_sum_of_the_order(self, world: Any, most: int | None) -> None:
        own, mean, scores, price, tradeoff = world
        replayed = run(own, mean, scores, price, tradeoff=tradeoff, max_images=most)
        for row in range(len(mean)):
            opened = replayed.order[row][replayed.order[row] >= 0]
            assert len(set(opened)) == len(opened) >= 1
            assert replayed.cost[row] == pytest.approx(price[opened].sum())
            assert replayed.quality[row] == scores[row, opened].max()
            assert replayed.kept[row] in opened

    def test_failed_images_are_paid(self) -> None:
        scores = np.array([[-np.inf, 1.0, 0.5]])
        replayed = run(belief(), np.zeros((1, 3)), scores, PRICE, tradeoff=0.5)
        assert replayed.order[0, 0] == 0 and replayed.cost[0] > PRICE[0] and np.isfinite(replayed.quality[0])

    def test_everything_failed(self) -> None:
        replayed = run(belief(), np.zeros((1, 3)), np.full((1, 3), -np.inf), PRICE, tradeoff=0.5)
        assert replayed.kept[0] == STOP and replayed.quality[0] == -np.inf and replayed.cost[0] == PRICE.sum()

    @pytest.mark.parametrize("answer", [0, 7, -2])
    def test_rule_that_asks_amiss(self, answer: int) -> None:
        with pytest.raises(ValueError, match="asks for an image that it has"):
            replay(lambda rows, seen: np.full(len(rows), answer), np.zeros((2, 3)), PRICE)

    def test_missing_score(self) -> None:
        with pytest.raises(ValueError, match="NaN"):
            replay(lambda rows, seen: np.zeros(len(rows), int), np.full((1, 3), np.nan), PRICE)


class TestSweep:
    def test_costs_rise_as_lambda_falls(self) -> None:
        mean, scores = problem(1000)
        found = trace(belief(), mean, scores, PRICE)
        assert (np.diff(found.points) < 0).all() and (np.diff(found.cost) > -0.02 * PRICE.sum()).all()
        assert found.cost[-1] > 0.9 * PRICE.sum() and found.cost[0] == PRICE.min()
        assert found.quality[-1] > found.quality[0]

    def test_each_point_is_a_replay(self) -> None:
        mean, scores = problem(50)
        found = sweep(belief(), mean, scores, PRICE, [0.5, 0.1], max_images=2)
        for place, tradeoff in enumerate([0.5, 0.1]):
            replayed = run(belief(), mean, scores, PRICE, tradeoff=tradeoff, max_images=2)
            np.testing.assert_array_equal(found[place].cost, replayed.cost)
            np.testing.assert_array_equal(found[place].order, replayed.order)

    def test_grid_of_equal_scores(self) -> None:
        assert (grid(np.ones((3, 2)), PRICE) > 0).all() and len(grid(np.ones((3, 2)), PRICE)) == 33
