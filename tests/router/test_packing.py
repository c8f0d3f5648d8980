"""What packing adds: the price of a look, and refusing to search on probabilities."""

from typing import Any

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.study import StudyData
from promptroute.predictors.mean import Mean
from promptroute.router.packing import Trained, look_of, pack
from promptroute.routing.costs import Flops, PricePerImage, Serverless
from promptroute.routing.search_policy import Search
from tests.router.made import COST, QUALITY

NIMA = {
    "_target_": "promptroute.scorers.nima.Nima",
    "profile": {"seconds": 0.01, "memory_gb": 1.5, "gflops": 2.0},
}
CLIP = {"_target_": "promptroute.scorers.clip_score.ClipScore"}
RULE = Serverless(price_per_gb_second=1.0)


class TestLook:
    def test_sum_over_scorers_by_the_cost_rule(self) -> None:
        look = look_of({"nima": NIMA, "clip": CLIP}, ["nima.mean", "clip.score"], RULE)
        assert look.dollars == pytest.approx(0.01 * 2 + 0.004 * 1)
        assert look.seconds == pytest.approx(0.014)
        assert look_of({"nima": NIMA}, ["nima.mean"], Flops(price_per_petaflop=1e6)).dollars == pytest.approx(
            2.0
        )

    def test_a_scorer_is_paid_once(self) -> None:
        twice = look_of({"nima": NIMA}, ["nima.mean", "nima.other"], RULE)
        assert twice == look_of({"nima": NIMA}, ["nima.mean"], RULE)

    def test_measured_rule(self) -> None:
        rule = Serverless(price_per_gb_second=1.0, seconds="measured")
        assert look_of({"nima": NIMA}, ["nima.mean"], rule).dollars == pytest.approx(0.02)

    @pytest.mark.parametrize(
        ("section", "rule", "says"),
        [
            ({**NIMA, "profile": None}, RULE, "doesn't say what scoring an image takes"),
            ({**NIMA, "profile": {"seconds": 0.01}}, RULE, "nima has no memory_gb"),
            ({**NIMA, "profile": {"seconds": -1.0, "memory_gb": 1.0}}, RULE, "seconds is -1.0"),
            (NIMA, PricePerImage(prices={"a": 1.0}), "nima has no price"),
            (
                {"_target_": "promptroute.scorers.consistency.Consistency"},
                RULE,
                "nothing to look at after one",
            ),
        ],
    )
    def test_refused(self, section: dict[str, Any], rule: Any, says: str) -> None:
        with pytest.raises(UserError, match=says):
            look_of({"nima": section}, ["nima.mean"], rule)


def test_probabilities_have_no_belief() -> None:
    class Shares(Mean):
        unit = "probability"

    n = 12
    study = StudyData(
        np.array([f"P{i}" for i in range(n)]),
        np.array(["A"] * n),
        PromptBatch(["a"] * n, {}),
        ("dear", "middle", "cheap"),
        {"nima": np.random.default_rng(0).random((n, 3))},
        np.full((n, 3), np.nan),
    )
    trained = Trained(study, np.array(["validation"] * n), Shares(), QUALITY, {}, np.zeros((0, 3)), {})
    with pytest.raises(UserError, match="Shares predicts probabilities, which say nothing of a score"):
        pack(trained, Search(), COST, {}, {})
