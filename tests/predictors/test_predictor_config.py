"""conf/predictor composes and builds, one file for each kind."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptroute.core.errors import UserError
from promptroute.predictors.folder import KINDS
from promptroute.runtime.params import build

CONF = Path(__file__).parents[2] / "conf" / "predictor"
Compose = Callable[..., dict[str, Any]]


def section(compose: Compose, option: str, *overrides: str) -> dict[str, Any]:
    # The group `text` stands before `predictor`, as in conf/config.yaml: an option may bring its own encoder.
    return compose("+text_encoder=minilm", f"+predictor={option}", "+seed=7", *overrides)["predictor"]


def test_every_predictor_config_builds_with_its_defaults(compose: Compose) -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(KINDS)
    for option in KINDS:
        config = section(compose, option)
        predictor = build(config, "predictor")
        assert predictor.kind == option
        assert config.get("seed", 7) == 7
        if option == "ensemble":
            continue
        # The code's own defaults are the configured ones, so both can be trusted to be what is described.
        default = type(predictor)()
        default.seed = 7
        if hasattr(default, "features"):
            assert config["features"].get("seed", 7) == 7
            default.features = dataclasses.replace(default.features, seed=predictor.features.seed)
        assert json.loads(json.dumps(predictor._settings())) == json.loads(json.dumps(default._settings())), (
            option
        )


def test_an_ensembles_members_are_configs_of_their_own(compose: Compose) -> None:
    built = build(
        section(
            compose,
            "ensemble",
            "predictor.members.knn.neighbours=[3]",
            "+predictor.members.null._target_=promptroute.predictors.mean.Mean",
        ),
        "predictor",
    )
    assert {name: member.kind for name, member in built.members.items()} == {
        "ridge": "ridge",
        "gbm": "gbm",
        "knn": "knn",
        "null": "mean",
    }
    assert built.members["knn"].neighbours == [3] and built.members["ridge"].seed == 7


def test_a_bad_setting_is_named(compose: Compose) -> None:
    with pytest.raises(UserError, match="alphas is"):
        build(section(compose, "ridge", "predictor.alphas=[-1]"), "predictor")
    with pytest.raises(UserError, match=r"features\.scale is 'row'"):
        build(section(compose, "knn", "+predictor.features.scale=row"), "predictor")


def test_the_kernel_brings_its_encoder(compose: Compose) -> None:
    brought = compose("predictor=kernel", config="config")
    assert list(brought["text_encoder"]) == ["minilm_layers"]
    assert list(compose("predictor=ridge", config="config")["text_encoder"]) == ["minilm"]
