"""Every configuration of models, scorers and encoders composes and builds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.generators import DiffusersModel
from stages.generators.drawing import draw_study
from stages.records import BadInput, Scorer
from stages.routing.costs import Flops, Serverless
from stages.runtime import build
from stages.scorers import EmbeddingScorer, Nima, OpenClip
from stages.store.images import ImageArea, Wanted

CONF = Path(__file__).parents[2] / "conf"
Compose = Callable[..., dict[str, Any]]
MODELS = ("amused", "diffusers", "pixart-alpha", "sd-turbo", "sdxl", "sdxl-turbo", "taesd-sd21")


def test_every_model_file_is_tested_here() -> None:
    ours = [path.stem for path in CONF.glob("model/*.yaml") if "DiffusersModel" in path.read_text() or "[diffusers," in path.read_text()]  # fmt: skip
    assert set(MODELS) <= set(ours)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_builds_and_is_never_drawn_with_unpinned(compose: Compose, name: str, tmp_path: Path) -> None:
    overrides = ["models.m.generator.model=owner/name"] if name == "diffusers" else []
    model = compose(f"+model@models.m={name}", *overrides, config=None)["models"]["m"]
    generator = build(model["generator"], "models.m.generator", device="cpu", threads=1)
    assert isinstance(generator, DiffusersModel) and generator.batch_size >= 1 and model["label"]
    with pytest.raises(BadInput, match="revision must be a commit"):
        _ = generator.fingerprint_parts
    with pytest.raises(BadInput, match="revision must be a commit"):
        draw_study(generator, "m", [[Wanted("P1", "x", 0)]], ImageArea(tmp_path))
    pinned = build({**model["generator"], "revision": "a" * 40}, "m", device="cpu", threads=1)
    if name != "taesd-sd21":
        assert pinned.fingerprint_parts["weights"]["revision"] == "a" * 40


def test_the_papers_models_cost_what_it_says(compose: Compose) -> None:
    models = compose("+models=paper", config=None)["models"]
    facts = {name: model["profile"] for name, model in models.items()}
    # Table 3, dollars for 5,000 prompts.
    assert [round(5000 * cost, 4) for cost in Serverless()(facts)] == [0.5133, 0.0733, 0.1630, 0.5293]
    assert [models[name]["generator"]["steps"] for name in models] == [4, 1, 12, 25]
    assert set(compose("+models=consistency", config=None)["models"]) == {"sdxl", "pixart-alpha"}
    assert isinstance(build(compose("+cost=flops", config=None)["cost"], "cost"), Flops)


def test_the_papers_scorers_build_and_find_their_encoders(compose: Compose) -> None:
    composed = compose("+scorers=paper", "+encoders=paper", config=None)
    encoders = {name: build(part, name, device="cpu") for name, part in composed["encoders"].items()}
    assert all(isinstance(encoder, OpenClip) for encoder in encoders.values()) and len(encoders) == 2
    kinds = []
    for name, part in composed["scorers"].items():
        config = part.pop("scorer")
        assert Scorer.declared(name, part).higher_is_better
        if "encoder" in config:
            assert config["encoder"] in encoders
            kinds.append(isinstance(build(config, name), EmbeddingScorer))
        else:
            kinds.append(type(build(config, name, device="cpu")) is Nima)
    assert kinds == [True] * 3
    assert compose("+scorers=none", "+encoders=none", config=None) == {"scorers": {}, "encoders": {}}


def test_the_draw_group_is_what_the_stage_takes(compose: Compose) -> None:
    from stages.generate import check_draw

    assert check_draw(**compose("+draw=default", config=None)["draw"]) == [0, 1, 2]
