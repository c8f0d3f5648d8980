"""A study whose router looks: calibrated, judged, and refused where nothing says what a look costs."""

import json
from pathlib import Path

import pytest

from promptroute.router.router import Router
from promptroute.routing.search_policy import Search
from tests.stages.small import params, run


def test_search_beside_choosing_before(study: Path) -> None:
    params(study, "policy=search", "evaluate.resamples=20")
    ran = run(study, "calibrate")
    assert ran.status == 0, ran.err
    policy = Router.load(study / "data/router").policy
    assert isinstance(policy, Search)
    assert policy.look == pytest.approx(0.005 * 1 * 0.0000166667)  # NIMA, by equation (4)
    assert run(study, "evaluate").status == 0
    found = json.loads((study / "metrics/evaluate.json").read_text())
    for name in ("search", "search_two_draws"):
        assert {"iso_quality_cost", "oracle_gap_closed", "frontier_area"} <= set(found[name])
        assert set(found[name]["frontier_area"]) >= {"estimate", "low", "high"}
        assert found[name]["fresh"] is None  # a published table has no single images
    assert found["searched"]["seconds"]["mean"] >= 0.176
    assert {"search_quality", "search_cost"} <= set(found["strategies"])
    summary = json.loads((study / "metrics/summary.json").read_text())
    assert summary["quality_gain_on_fresh_images"] is None and summary["images_per_prompt"] >= 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("cost=flops", "~published.scorers.nima.profile.gflops"), "nima has no gflops"),
        (("published.scorers.nima.profile=null",), "scorer nima doesn't say what scoring an image takes"),
    ],
)
def test_unknown_price_of_a_look(study: Path, overrides: tuple[str, ...], says: str) -> None:
    given = list(overrides)
    facts = [
        f"+published.models.{model}.profile.gflops=100"
        for model in ("sdxl-turbo", "sd-turbo", "amused", "taesd-sd21")
    ]
    params(study, "policy=search", *given, *(facts if "cost=flops" in given else []))
    ran = run(study, "calibrate")
    assert ran.status == 1 and says in ran.err and "-S policy.look=DOLLARS" in ran.err
    params(study, "policy=search", *given, *(facts if "cost=flops" in given else []), "policy.look=0.000001")
    assert run(study, "calibrate").status == 0


def test_no_gain_without_what_is_left_of_it(study: Path) -> None:
    from promptroute.cli.evaluate import shown

    params(study, "policy=search", "evaluate.resamples=0")
    assert run(study, "calibrate").status == 0
    ran = run(study, "evaluate")
    assert "not known, as the study has no single images" in ran.out
    lines = [
        line.strip()
        for line in shown(study / "metrics/evaluate.json").splitlines()
        if line.startswith("  search,")
    ]
    assert (
        len(lines) == 4 and lines[1] == "search, on fresh images: not known: the study has no single images"
    )
    summary = json.loads((study / "metrics/summary.json").read_text())
    left = [name for name in summary if name.endswith("_on_fresh_images")]
    assert {name.removesuffix("_on_fresh_images") for name in left} <= set(summary) and len(left) >= 4
