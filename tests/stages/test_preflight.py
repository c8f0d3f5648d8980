"""The stage `preflight` refuses what would fail hours later, and its output never changes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.generators.tiny import save
from tests.stages.small import params, run


def test_passes_and_is_constant(study: Path) -> None:
    before = (study / "data/preflight.txt").read_bytes()
    params(study, "predictor=knn", "score=mixed")
    assert run(study, "preflight").out == "preflight: no image to generate\n"
    assert (study / "data/preflight.txt").read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["~published.models.amused.profile.seconds"],
            "model amused has no seconds, .*; give it with -S \\+published.models.amused.profile.seconds=NUMBER",
        ),
        (["cost=api"], r"has no price, .*; give it with -S \+cost.prices.sdxl-turbo=NUMBER"),
        (["+score.weights.nima.beauty=1"], "unknown score 'nima.beauty'"),
        (["score.scale=zscore"], "score.scale: 'zscore'"),
        (["+predictor.colour=red"], "predictor.colour is no setting of Ridge"),
        (["policy.target=speed"], "policy.target is 'speed'"),
        (["split.shares=[1,0,0]"], "shares is"),
        (
            ["policy=search", "published.scorers.nima.profile=null"],
            "nima doesn't say what scoring an image takes",
        ),
        (["evaluate.resamples=-1"], "evaluate.resamples is -1"),
        (["agreement.votes=/nosuch.sqlite"], "agreement.votes is '/nosuch.sqlite'"),
        (["predictor=kernel", "+predictor.encoder=nope"], "predictor asks for text encoder 'nope'"),
        (
            [
                "predictor=kernel-statistics",
                "+predictor.members.kernel={_target_: promptroute.predictors.kernel.Kernel, encoder: nope}",
            ],
            "asks for text encoder 'nope'",
        ),
        (
            [
                "predictor=knn",
                "+predictor.features={_target_: promptroute.predictors.features.Features, embeddings: [a]}",
            ],
            "asks for text encoder 'a'",
        ),
        (["policy=with_fallback", "+policy.encoder=nope"], "policy asks for text encoder 'nope'"),
    ],
)
def test_refused_early(study: Path, overrides: list[str], message: str) -> None:
    params(study, *overrides)
    ran = run(study, "preflight")
    assert ran.status == 1 and re.search(message, ran.err), ran


def test_measured_costs_are_exempt(study: Path) -> None:
    params(study, "cost=measured", "~published.models.amused.profile.seconds")
    assert run(study, "preflight").status == 0


def generating(study: Path, scorers: dict[str, Any], **generator: Any) -> None:
    """Let the study generate with a tiny model, and nothing be published."""
    save("sd", study / "sd")
    params(study, "published=none")
    given = yaml.safe_load((study / "params.yaml").read_text())
    section = {"_target_": "promptroute.generators.diffusers.model.DiffusersModel", "model": "sd", "steps": 1}
    profile = {"seconds": 2.0, "memory_gb": 1.0}
    given["models"] = {"tiny": {"label": "tiny", "generator": {**section, **generator}, "profile": profile}}
    output = "mean" if "Nima" in str(scorers) else "score"
    given |= {"scorers": {"s": scorers}, "score": {"weights": {"s": {output: 1.0}}}}
    (study / "params.yaml").write_text(yaml.safe_dump(given))


CLIP = {"_target_": "promptroute.scorers.clip_score.ClipScore"}
NIMA = {"_target_": "promptroute.scorers.nima.Nima", "checkpoint": "nima.safetensors"}


def test_missing_weights(study: Path) -> None:
    generating(study, NIMA)
    assert "nima.safetensors: NIMA's weights are not there" in run(study, "preflight").err


def test_missing_image_encoder(study: Path) -> None:
    generating(study, CLIP)
    assert "scorers.s takes embeddings by clip, which image_encoder lacks" in run(study, "preflight").err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"width": 33, "height": 32}, "width is 33; expected a multiple of"),
        ({"call": {"colour": 1}}, "colour"),
    ],
)
def test_model_that_would_fail(study: Path, setting: dict[str, Any], message: str) -> None:
    (study / "nima.safetensors").write_bytes(b"")
    generating(study, {**NIMA, "sha256": None}, **setting)
    assert message in run(study, "preflight").err


def test_says_how_long(study: Path) -> None:
    (study / "nima.safetensors").write_bytes(b"")
    generating(study, NIMA)
    said = run(study, "preflight")
    assert said.out == (
        "preflight: 1 models × 150 prompts × 3 seeds = 450 images; about 15.0 minutes by the models' profiles; "
        "at most 0.00 GB; $0.02 by the cost rule\n"
    ), said.err
