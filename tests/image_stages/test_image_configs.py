"""Every configuration of models, scorers and encoders composes and builds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.core.rows import Scorer
from promptroute.encoders.open_clip import OpenClip
from promptroute.generators.diffusers import DiffusersModel
from promptroute.generators.run import generate_images
from promptroute.io.images import ImageCache, ImageRequest
from promptroute.routing.costs import Facts, Flops, Serverless
from promptroute.runtime.params import build
from promptroute.scorers.base import EmbeddingScorer
from promptroute.scorers.nima import Nima

CONF = Path(__file__).parents[2] / "conf"
Compose = Callable[..., dict[str, Any]]
PINNED = ("amused", "pixart-alpha", "sd-turbo", "sd21", "sdxl", "sdxl-turbo", "taesd-sd21")
"""Models whose revision is in conf/; `diffusers` and the LoRA are yours to name."""
MODELS = ("diffusers", "sdxl-lora", *PINNED)


def test_every_model_file_is_tested_here() -> None:
    names = {path.stem for path in CONF.glob("model/*.yaml")}
    assert {name for name in names if not name.startswith("mini-")} == set(MODELS), "mini: tests/e2e"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_builds_and_is_never_drawn_with_unpinned(compose: Compose, name: str, tmp_path: Path) -> None:
    overrides = ["models.m.generator.model=owner/name"] if name == "diffusers" else []
    model = compose(f"+model@models.m={name}", *overrides, config=None)["models"]["m"]
    generator = build(model["generator"], "models.m.generator", device="cpu")
    assert isinstance(generator, DiffusersModel) and generator.batch_size >= 1 and model["label"]
    assert (generator.revision is not None) == (name in PINNED or name == "sdxl-lora")
    unpinned = build({**model["generator"], "revision": None, "lora": None}, "m", device="cpu")
    with pytest.raises(UserError, match="revision must be a commit"):
        _ = unpinned.fingerprint_parts
    with pytest.raises(UserError, match="revision must be a commit"):
        generate_images(unpinned, "m", [[ImageRequest("P1", "x", 0)]], ImageCache(tmp_path))


@pytest.mark.parametrize("name", PINNED)
def test_pinned_models_are_named_by_their_commits(compose: Compose, name: str) -> None:
    model = compose(f"+model@models.m={name}", config=None)["models"]["m"]["generator"]
    parts = build(model, "m", device="cpu").fingerprint_parts
    assert parts["weights"] == {"hub_id": model["model"], "revision": model["revision"]}
    for part, swapped in model["components"].items():
        assert parts["components"][part]["hub_id"] == swapped["model"]


def test_a_lora_of_ones_own_is_asked_for_by_its_folder(compose: Compose) -> None:
    model = compose("+model@models.m=sdxl-lora", config=None)["models"]["m"]["generator"]
    assert model["template"].format(prompt="a pond") == "a pond in the style of TOK"
    with pytest.raises(UserError, match=r"cache/weights/lora: no such folder"):
        _ = build(model, "m", device="cpu").fingerprint_parts


def test_sets_of_models(compose: Compose) -> None:
    steps = compose("+models=steps", config=None)["models"]
    assert [model["generator"]["steps"] for model in steps.values()] == [5, 10, 20, 50]
    generators = [build(model["generator"], name, device="cpu") for name, model in steps.items()]
    assert len({str(generator.fingerprint_parts) for generator in generators}) == 4
    cost = build(compose("+cost=flops", config=None)["cost"], "cost")
    dollars = cost.cost({name: Facts.of(model["profile"]) for name, model in steps.items()})
    assert (np.diff(dollars) > 0).all() and dollars[0] > 0
    paper = compose("+models=paper", config=None)["models"]
    assert (cost.cost({name: Facts.of(model["profile"]) for name, model in paper.items()}) > 0).all()
    pair = compose("+models=consistency-lora", config=None)["models"]
    assert [model["generator"]["template"] for model in pair.values()] == [
        "{prompt} in the style of Monet", "{prompt} in the style of TOK"
    ]  # fmt: skip
    mixed = compose(
        "+model@models.a=sd-turbo", "+model@models.b=sdxl", "models.b.generator.steps=30", config=None
    )
    assert [model["generator"]["steps"] for model in mixed["models"].values()] == [1, 30]


def test_the_papers_models_cost_what_it_says(compose: Compose) -> None:
    models = compose("+models=paper", config=None)["models"]
    facts = {name: Facts.of(model["profile"]) for name, model in models.items()}
    # Table 3, dollars for 5,000 prompts.
    assert [round(5000 * cost, 4) for cost in Serverless().cost(facts)] == [0.5133, 0.0733, 0.1630, 0.5293]
    assert [models[name]["generator"]["steps"] for name in models] == [4, 1, 12, 25]
    assert set(compose("+models=consistency", config=None)["models"]) == {"sdxl", "pixart-alpha"}
    assert isinstance(build(compose("+cost=flops", config=None)["cost"], "cost"), Flops)


def test_the_papers_scorers_build_and_find_their_encoders(compose: Compose) -> None:
    composed = compose("+scorers=paper", "+image_encoder=paper", config=None)
    encoders = {name: build(part, name, device="cpu") for name, part in composed["image_encoder"].items()}
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
    assert compose("+scorers=none", "+image_encoder=none", config=None) == {
        "scorers": {},
        "image_encoder": {},
    }


def test_the_draw_group_is_what_the_stage_takes(compose: Compose) -> None:
    from stages.generate import check_draw

    assert check_draw(**compose("+generation=default", config=None)["generation"]) == [0, 1, 2]
