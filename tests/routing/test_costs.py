"""Cost rules against CEMS's published figures, and what they say to bad facts."""

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.routing.costs import Facts, Flops, MissingFact, PricePerImage, Serverless, serverless_cost


def price(rule, profiles):
    return rule.cost({model: Facts.of(profile) for model, profile in profiles.items()})


# Table 2 of CEMS: seconds per image and memory in GB.
FACTS = {
    "sdxl-turbo": {"seconds": 0.616, "memory_gb": 9.51},
    "sd-turbo": {"seconds": 0.176, "memory_gb": 4.64},
    "amused": {"seconds": 0.489, "memory_gb": 3.75},
    "taesd": {"seconds": 1.588, "memory_gb": 3.48},
}


@pytest.mark.parametrize("name", ["secnds", "second", "memory_gib", "gflop"])
def test_slip_in_a_name(name):
    """A fact that nobody finds would else only be lacking, or not even that."""
    with pytest.raises(UserError, match=rf"profile\.{name} is none of the facts .* did you mean"):
        Facts.of({"seconds": 1.0, name: 2.0})
    assert Facts.of({"seconds_std": 1.0, "measured_on": "a card", "dollars": 2}).stated["dollars"] == 2


def test_equation_4():
    assert float(serverless_cost(0.616, 9.51)) == pytest.approx(1.02667e-4, rel=1e-5)


def test_tables_2_and_3():
    cost = price(Serverless(), FACTS)
    expected = [0.616 * 10, 0.176 * 5, 0.489 * 4, 1.588 * 4]
    assert cost.dtype == np.float64
    np.testing.assert_allclose(cost, np.array(expected) * 0.0000166667, rtol=1e-14)
    # Table 3: 5,000 prompts, four decimals.
    assert np.round(5000 * cost, 4).tolist() == [0.5133, 0.0733, 0.1630, 0.5293]


def test_whole_gigabytes():
    assert serverless_cost([1.0, 1.0], [4.0, 4.001], 1.0).tolist() == [4.0, 5.0]


def test_order_follows_the_facts():
    backwards = dict(reversed(FACTS.items()))
    assert price(Serverless(), backwards).tolist() == price(Serverless(), FACTS).tolist()[::-1]


def test_measured_seconds():
    facts = {"a": {"seconds": 9.0, "measured_seconds": 2.0, "memory_gb": 1.5}}
    assert price(Serverless(price_per_gb_second=0.5, seconds="measured"), facts).tolist() == [2.0]
    assert price(Serverless(price_per_gb_second=0.5), facts).tolist() == [9.0]


def test_price_per_image_order():
    rule = PricePerImage(prices={"b": 0.04, "a": 0.002})
    assert price(rule, {"a": {}, "b": {}}).tolist() == [0.002, 0.04]


def test_rules_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Serverless().seconds = "measured"


def test_missing_fact():
    with pytest.raises(MissingFact) as caught:
        price(Serverless(), {"a": {"seconds": 1.0}})
    error = caught.value
    assert (error.model, error.fact, error.rule) == ("a", "memory_gb", "serverless")


def test_foreign_facts():
    facts = {"a": Facts.of({"seconds": 1.0, "watts": 300.0, "measured_on": "a card"})}
    assert facts["a"].stated == {"watts": 300.0, "measured_on": "a card"}
    assert Serverless().fact(facts, "watts").tolist() == [300.0]


@pytest.mark.parametrize(
    ("facts", "rule", "says"),
    [
        ({"a": {"seconds": 1.0}}, Serverless(), "model a has no memory_gb, which .* rule serverless needs"),
        ({"a": {"memory_gb": 1.0}}, Serverless(), "model a has no seconds,"),
        (
            {"a": {"memory_gb": 1.0, "seconds": 1.0, "measured_seconds": None}},
            Serverless(seconds="measured"),
            "model a has no measured_seconds,",
        ),
        ({"a": {"memory_gb": 0, "seconds": 1.0}}, Serverless(), "model a: memory_gb is 0"),
        ({"a": {"memory_gb": 1, "seconds": float("nan")}}, Serverless(), "model a: seconds is nan"),
        ({"a": {"memory_gb": 1, "seconds": float("inf")}}, Serverless(), "model a: seconds is inf"),
        ({"a": {"memory_gb": 1, "seconds": "0.6"}}, Serverless(), "model a: seconds is '0.6'"),
        ({"a": {"memory_gb": True, "seconds": 1.0}}, Serverless(), "memory_gb is True"),
        ({}, Serverless(), "no model"),
        ({}, PricePerImage(prices={}), "no model"),
        (
            {"a": {}, "b": {}},
            PricePerImage(prices={"a": 1.0}),
            "model b has no price, .* rule price per image needs",
        ),
        (
            {"a": {}},
            PricePerImage(prices={"a": 1.0, "c": 1.0}),
            "names c, which this study lacks.*models are a",
        ),
    ],
)
def test_bad_facts(facts, rule, says):
    with pytest.raises(UserError, match=says):
        price(rule, facts)


def test_stated_prices():
    rule = PricePerImage(prices={"a": 0.5}, default=0.01)
    facts = {"a": {"dollars": 0.3}, "b": {"dollars": 0.2}, "c": {}}
    assert price(rule, facts).tolist() == [0.5, 0.2, 0.01]
    with pytest.raises(UserError, match="the price of b is -1"):
        price(PricePerImage(), {"b": {"dollars": -1}})


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Serverless(price_per_gb_second=0), "price_per_gb_second is 0"),
        (lambda: Serverless(price_per_gb_second=float("nan")), "price_per_gb_second is nan"),
        (lambda: Serverless(seconds="guessed"), "seconds is 'guessed'; expected 'profile' or 'measured'"),
        (lambda: PricePerImage(prices={"a": -1.0}), "price of a is -1.0"),
        (lambda: PricePerImage(default=0.0), "default is 0.0"),
        (lambda: PricePerImage(prices={"a": None}), "prices.a is None; expected a valid number"),
        (lambda: PricePerImage(prices=[1.0]), "prices is .*expected a valid dictionary"),
    ],
)
def test_bad_rules(build, says):
    with pytest.raises(UserError, match=says):
        build()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_serverless_cost_above_zero(bad):
    with pytest.raises(ValueError, match="memory_gb"):
        serverless_cost(1.0, [1.0, bad])


def test_flops_cost_by_hand():
    # 2,000 GFLOPs are 0.002 PFLOPs, at 5 dollars each.
    assert price(
        Flops(price_per_petaflop=5.0), {"a": {"gflops": 2000.0}, "b": {"gflops": 1}}
    ).tolist() == pytest.approx([0.01, 5e-6])
    with pytest.raises(UserError, match="model a has no gflops, which its cost by the rule flops needs"):
        price(Flops(price_per_petaflop=5.0), {"a": {}})
    with pytest.raises(UserError, match="price_per_petaflop is 0"):
        Flops(price_per_petaflop=0)
