"""Cost rules against CEMS's published figures, and what they say to bad facts."""

import dataclasses

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.routing.costs import Flops, PricePerImage, Serverless, serverless_cost

# Table 2 of CEMS: seconds per image and memory in GB.
FACTS = {
    "sdxl-turbo": {"seconds": 0.616, "memory_gb": 9.51},
    "sd-turbo": {"seconds": 0.176, "memory_gb": 4.64},
    "amused": {"seconds": 0.489, "memory_gb": 3.75},
    "taesd": {"seconds": 1.588, "memory_gb": 3.48},
}


def test_equation_4_gives_the_published_cost_of_sdxl_turbo():
    assert float(serverless_cost(0.616, 9.51)) == pytest.approx(1.02667e-4, rel=1e-5)


def test_serverless_reproduces_table_2_and_the_totals_of_table_3():
    cost = Serverless()(FACTS)
    expected = [0.616 * 10, 0.176 * 5, 0.489 * 4, 1.588 * 4]
    assert cost.dtype == np.float64
    np.testing.assert_allclose(cost, np.array(expected) * 0.0000166667, rtol=1e-14)
    # Table 3: 5,000 prompts, four decimals.
    assert np.round(5000 * cost, 4).tolist() == [0.5133, 0.0733, 0.1630, 0.5293]


def test_whole_gigabytes_are_not_rounded_up():
    assert serverless_cost([1.0, 1.0], [4.0, 4.001], 1.0).tolist() == [4.0, 5.0]


def test_order_follows_the_facts():
    backwards = dict(reversed(FACTS.items()))
    assert Serverless()(backwards).tolist() == Serverless()(FACTS).tolist()[::-1]


def test_measured_seconds_replace_the_stated_ones():
    facts = {"a": {"seconds": 9.0, "measured_seconds": 2.0, "memory_gb": 1.5}}
    assert Serverless(price_per_gb_second=0.5, seconds="measured")(facts).tolist() == [2.0]
    assert Serverless(price_per_gb_second=0.5)(facts).tolist() == [9.0]


def test_price_per_image_takes_the_order_of_the_facts():
    rule = PricePerImage({"b": 0.04, "a": 0.002})
    assert rule({"a": {}, "b": {}}).tolist() == [0.002, 0.04]


def test_rules_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Serverless().seconds = "measured"


@pytest.mark.parametrize(
    ("facts", "rule", "says"),
    [
        ({"a": {"seconds": 1.0}}, Serverless(), "model a has no memory_gb.*model file"),
        ({"a": {"memory_gb": 1.0}}, Serverless(), "model a has no seconds.*model file"),
        (
            {"a": {"memory_gb": 1.0, "seconds": 1.0, "measured_seconds": None}},
            Serverless(seconds="measured"),
            "model a has no measured_seconds.*profile",
        ),
        ({"a": {"memory_gb": 0, "seconds": 1.0}}, Serverless(), "model a: memory_gb is 0"),
        ({"a": {"memory_gb": 1, "seconds": float("nan")}}, Serverless(), "model a: seconds is nan"),
        ({"a": {"memory_gb": 1, "seconds": float("inf")}}, Serverless(), "model a: seconds is inf"),
        ({"a": {"memory_gb": 1, "seconds": "0.6"}}, Serverless(), "model a: seconds is '0.6'"),
        ({"a": {"memory_gb": True, "seconds": 1.0}}, Serverless(), "memory_gb is True"),
        ({}, Serverless(), "no model"),
        ({}, PricePerImage({}), "no model"),
        ({"a": {}, "b": {}}, PricePerImage({"a": 1.0}), "no price for b"),
        ({"a": {}}, PricePerImage({"a": 1.0, "c": 1.0}), "names c, which this study lacks.*models are a"),
    ],
)
def test_bad_facts_are_named(facts, rule, says):
    with pytest.raises(UserError, match=says):
        rule(facts)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Serverless(price_per_gb_second=0), "price_per_gb_second is 0"),
        (lambda: Serverless(price_per_gb_second=float("nan")), "price_per_gb_second is nan"),
        (lambda: Serverless(seconds="guessed"), "seconds is 'guessed'; expected 'profile' or 'measured'"),
        (lambda: PricePerImage({"a": -1.0}), "price of a is -1.0"),
        (lambda: PricePerImage({"a": None}), "price of a is None"),
        (lambda: PricePerImage([1.0]), "expected model name: dollars"),
    ],
)
def test_bad_rules_are_refused_when_built(build, says):
    with pytest.raises(UserError, match=says):
        build()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_serverless_cost_refuses_what_is_not_above_zero(bad):
    with pytest.raises(ValueError, match="memory_gb"):
        serverless_cost(1.0, [1.0, bad])


def test_flops_cost_by_hand():
    # 2,000 GFLOPs are 0.002 PFLOPs, at 5 dollars each.
    assert Flops(5.0)({"a": {"gflops": 2000.0}, "b": {"gflops": 1}}).tolist() == pytest.approx([0.01, 5e-6])
    with pytest.raises(UserError, match="model a has no gflops, which its flops cost needs"):
        Flops(5.0)({"a": {}})
    with pytest.raises(UserError, match="price_per_petaflop is 0"):
        Flops(0)
