import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptroute.core.errors import UserError
from promptroute.report.result import LARGEST_SHARE, AtOperatingPoint, Interval, Result, read_result
from tests.report.made import SCORES

Change = Callable[[Path], object]


def read(metrics: Path) -> Result:
    return read_result(
        metrics / "evaluate.json", metrics.parent / "data" / "evaluation", scores=SCORES, data="toy scores"
    )


def replace(old: str, new: str) -> Change:
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


def values(change: Callable[[dict[str, Any]], object]) -> Change:
    def write(path: Path) -> None:
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return write


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("evaluate.json", Path.unlink, r"evaluate\.json"),
            ("evaluate.json", lambda path: path.write_text("{"), r"evaluate\.json"),
            ("evaluate.json", lambda path: path.write_text("[]"), r"evaluate\.json"),
            ("evaluate.json", values(lambda v: v.pop("frontier")), "frontier: Field required; evaluate"),
            (
                "evaluate.json",
                values(lambda v: v["router"].pop("cost_change")),
                r"router\.cost_change: Field",
            ),
            ("evaluate.json", values(lambda v: v["strategies"].pop("oracle")), "strategies has no oracle"),
            (
                "evaluate.json",
                values(lambda v: v["sets"]["A"]["strategies"].pop("single_m1")),
                r"sets\.A\.strategies has no single_m1",
            ),
            ("evaluate.json", values(lambda v: v["choice"].pop("router")), r"choice\.router is missing"),
            ("evaluate.json", values(lambda v: v.update(prompts=3)), "120 prompts, but .* has 3"),
            ("evaluate.json", values(lambda v: v["labels"].update(m0="Model 1")), "called Model 1"),
            ("../data/evaluation/hull.csv", Path.unlink, r"hull\.csv: no such file; evaluate"),
            (
                "../data/evaluation/hull.csv",
                lambda p: p.write_text("cost,quality\nx,1\n"),
                r"line 2: cost 'x' is not a",
            ),
            ("../data/evaluation/frontier.csv", replace("cost", "price"), r"frontier\.csv.*cost"),
            (
                "../data/evaluation/confusion.csv",
                replace("Model 3", "Somebody"),
                r"line \d+: \w+ 'Somebody' is invalid; expected one of Model 0",
            ),
            (
                "../data/evaluation/predicted.csv",
                replace("A0,Model 0", "A2,Model 0"),
                "expected one for each of 120 prompts",
            ),
        ],
    )
    def test_names_the_fault(
        self, written: Path, tmp_path: Path, name: str, change: Change, message: str
    ) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(written, copy)
        change(copy / name)
        with pytest.raises(UserError, match=message):
            read(copy)


class TestTitle:
    def test_from_the_policy(self, written: Path) -> None:
        texts = {
            "best_predicted": {"title": "best predicted", "description": "whatever it costs"},
            "router": {"title": "cost-aware", "description": "quality less λ · cost"},
        }
        values(lambda v: v.update(policies=texts))(written / "evaluate.json")
        result = read(written)
        assert result.title("best_predicted") == "best predicted"
        assert result.description("best_predicted") == "whatever it costs"
        assert result.title("router") == "router"
        assert result.description("router") == "cost-aware, at the operating point set beforehand"

    def test_from_the_row(self, written: Path) -> None:
        result = read(written)
        assert result.title("single_m2") == "Model 2"
        assert result.title("single_nosuch") == "single nosuch"
        assert result.title("somebody_elses_policy") == "somebody elses policy"
        assert result.description("somebody_elses_policy") == ""
        assert result.description(f"single_{result.values.best_single}") == "best single model"


def test_quality_by_labels(written: Path) -> None:
    values(lambda v: v.update(score="nima.mean + clip.score"))(written / "evaluate.json")
    assert read(written).quality == "NIMA + clip.score"


def test_tiny_gap_undefined() -> None:
    kept = Interval(estimate=0.304, low=-0.15, high=0.543)
    assert kept.bounded(LARGEST_SHARE) == kept
    assert Interval(estimate=-169.2, low=-4e17, high=None).bounded(LARGEST_SHARE) == Interval(
        estimate=None, low=None, high=None
    )


def test_of_another_study(written: Path) -> None:
    where = written / "evaluate.json", written.parent / "data" / "evaluation"
    with pytest.raises(UserError, match=r"evaluate.json is of another study: .*; evaluate the router again"):
        read_result(
            *where, scores=SCORES, data="toy", study={"prompts": "others", "models": "a", "score": "s"}
        )


@pytest.mark.parametrize(
    ("cost", "quality", "said"),
    [
        ((-0.4, 2.0), (-0.02, 0.05), "Neither difference is beyond chance: both intervals hold zero."),
        ((-0.4, -0.1), (-0.02, 0.0), "in cost is beyond chance; that in quality is not"),
        ((-0.4, None), (0.01, 0.05), "in quality is beyond chance; that in cost is not"),
        ((0.1, 0.2), (-0.2, -0.1), "Both differences are beyond chance"),
        ((None, None), (None, None), ""),
    ],
)
def test_certainty(cost: tuple[float, float], quality: tuple[float, float], said: str) -> None:
    mean = Interval(estimate=1.0, low=0.9, high=1.1)
    change, gain = (Interval(estimate=0.0, low=low, high=high) for low, high in (cost, quality))
    point = AtOperatingPoint(quality=mean, cost=mean, quality_gain=gain, cost_change=change)
    assert said in point.certainty and bool(said) == bool(point.certainty)


def test_choices_listed(written: Path) -> None:
    share = {"m0": 0.1, "m1": 0.5, "m2": 0.0, "m3": 0.4}
    values(lambda v: v["strategies"]["router"].update(share=share))(written / "evaluate.json")
    measured = read(written).values
    nbsp = "\u00a0"
    assert measured.sent({"m3": "Three"}) == f"50{nbsp}% m1, 40{nbsp}% Three, 10{nbsp}% m0"
    assert measured.sent({}, most=1) == f"50{nbsp}% m1, 50{nbsp}% 2 others"
