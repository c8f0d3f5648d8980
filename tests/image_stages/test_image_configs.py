"""Every configuration of models, scorers and encoders composes and builds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.encoders.base import ImageEncoder
from promptroute.encoders.open_clip import OpenClip
from promptroute.generators.base import build_generator
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.run import generate_images
from promptroute.generators.study import Generation
from promptroute.io.images import ImageCache, ImageRequest
from promptroute.routing.costs import CostRule, Facts, Flops, Serverless
from promptroute.scorers.base import EmbeddingScorer, Scorer
from promptroute.scorers.nima import Nima

CONF = Path(__file__).parents[2] / "conf"
Compose = Callable[..., dict[str, Any]]
PINNED = ("amused", "pixart-alpha", "sd-turbo", "sd21", "sdxl", "sdxl-turbo", "taesd-sd21")
"""Models whose revision is in conf/; `diffusers` and the LoRA are yours to name."""
MODELS = ("diffusers", "sdxl-lora", *PINNED)


def test_every_model_is_tested() -> None:
    names = {path.stem for path in CONF.glob("model/*.yaml")}
    assert {name for name in names if not name.startswith("mini-")} == set(MODELS), "mini: tests/e2e"


@pytest.mark.parametrize("name", MODELS)
def test_model_is_never_run_unpinned(compose: Compose, name: str, tmp_path: Path) -> None:
    overrides = ["models.m.generator.model=owner/name"] if name == "diffusers" else []
    section = compose(f"+model@models.m={name}", *overrides, config=None)["models"]["m"]["generator"]
    generator = build_generator(section, "models.m.generator", "cpu")
    assert isinstance(generator, DiffusersModel)
    assert (generator.revision is not None) == (name in PINNED or name == "sdxl-lora")
    unpinned = build_generator({**section, "revision": None, "lora": None}, "m", "cpu")
    with pytest.raises(UserError, match="revision must be a commit"):
        unpinned.fingerprint()
    with pytest.raises(UserError, match="revision must be a commit"):
        generate_images(unpinned, "m", [[ImageRequest("P1", "x", 0)]], ImageCache(tmp_path))


@pytest.mark.parametrize("name", PINNED)
def test_pinned_by_commit(compose: Compose, name: str) -> None:
    section = compose(f"+model@models.m={name}", config=None)["models"]["m"]["generator"]
    weights = build_generator(section, "m", "cpu").weights()
    assert (weights["hub_id"], weights["revision"]) == (section["model"], section["revision"])
    for part, swapped in section.get("components", {}).items():
        assert weights["components"][part]["hub_id"] == swapped["model"]


def test_lora_folder(compose: Compose) -> None:
    section = compose("+model@models.m=sdxl-lora", config=None)["models"]["m"]["generator"]
    assert section["template"].format(prompt="a pond") == "a pond in the style of TOK"
    with pytest.raises(UserError, match=r"cache/weights/lora: no such folder"):
        build_generator(section, "m", "cpu").fingerprint()


def test_sets_of_models(compose: Compose) -> None:
    steps = compose("+models=steps", config=None)["models"]
    assert [model["generator"]["steps"] for model in steps.values()] == [5, 10, 20, 50]
    generators = [build_generator(model["generator"], name, "cpu") for name, model in steps.items()]
    assert len({str(generator.fingerprint()) for generator in generators}) == 4
    cost = build(compose("+cost=flops", config=None)["cost"], "cost", CostRule)
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


def test_costs_of_papers_models(compose: Compose) -> None:
    models = compose("+models=paper", config=None)["models"]
    facts = {name: Facts.of(model["profile"]) for name, model in models.items()}
    # Table 3, dollars for 5,000 prompts.
    assert [round(5000 * cost, 4) for cost in Serverless().cost(facts)] == [0.5133, 0.0733, 0.1630, 0.5293]
    generators = [build_generator(model["generator"], name, "cpu") for name, model in models.items()]
    assert [generator.steps for generator in generators] == [4, 1, 12, 25]
    assert set(compose("+models=consistency", config=None)["models"]) == {"sdxl", "pixart-alpha"}
    assert isinstance(build(compose("+cost=flops", config=None)["cost"], "cost", CostRule), Flops)


def test_scorers_of_papers(compose: Compose) -> None:
    composed = compose("+scorers=paper", "+image_encoder=paper", config=None)
    encoders = {
        name: build(part, name, ImageEncoder, device="cpu")
        for name, part in composed["image_encoder"].items()
    }
    assert all(isinstance(encoder, OpenClip) for encoder in encoders.values()) and len(encoders) == 2
    for name, part in composed["scorers"].items():
        scorer = build(part, name, Scorer)
        assert all(output.higher_is_better for output in scorer.outputs)
        assert scorer.encoder in encoders if isinstance(scorer, EmbeddingScorer) else type(scorer) is Nima
    assert list(composed["scorers"]) == ["nima", "clip", "consistency"]
    assert compose("+scorers=none", "+image_encoder=none", config=None) == {
        "scorers": {},
        "image_encoder": {},
    }


def test_generation_section(compose: Compose) -> None:
    section = compose("+generation=default", config=None)["generation"]
    assert Generation.read(section, "generation").seeds == 3
