"""The small world's whole chain with the real commands: generate, embed, score, train, evaluate; then let it grow."""

import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.e2e.conftest import Run, choose_study, git_clone, runner
from tests.e2e.test_pipeline import changed, ran
from tests.shards import every_image

pytestmark = pytest.mark.slow

PROMPTS = 30
MODELS = ("mini-unet", "mini-masked", "mini-tiny", "mini-student")
FEW = (
    f"prompts.n={PROMPTS}",
    "generation.seeds=[0,1]",
    "split.shares=[0.5,0.2,0.3]",
    "evaluate.resamples=50",
    "compute.threads=1",  # tests run side by side, see tests/conftest.py
    *(f"models.{model}.generator.steps=2" for model in ("mini-unet", "mini-masked", "mini-tiny")),
)
"""Less of everything."""
SCORERS = ("nima", "clip", "consistency")


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which a few prompts of the small world have been generated for, scored and learnt from."""
    folder = tmp_path_factory.mktemp("mini")
    git_clone(folder, without=("dvc.lock",))
    choose_study(folder, "mini", *FEW)
    run = runner(folder, folder / "no-cems")
    run("dvc", "repro")
    for command in (["git", "add", "--all"], ["git", "commit", "--quiet", "--allow-empty", "--message=mini"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def go(mini: Path) -> Run:
    return runner(mini, mini / "no-cems")


@pytest.fixture(autouse=True)
def as_committed(go: Run) -> Iterator[None]:
    """Leave the clone as it was found."""
    yield
    if changes := changed(go):
        go("git", "checkout", "--quiet", "--force", "main")
        if "dvc.lock" in changes:
            go("dvc", "checkout")


def compose(go: Run, *overrides: str) -> None:
    go("python", "-m", "promptroute", "compose", *FEW, *overrides)


def pending(go: Run) -> set[str]:
    """Stages that `dvc repro` would run."""
    return set(json.loads(go("dvc", "status", "--json").stdout))


def test_model_reproduces_committed_figures(tmp_path: Path) -> None:
    # The cheapest model alone: all four take minutes. Another kind of processor may move the last digits.
    git_clone(tmp_path, without=("dvc.lock",))
    alone = runner(tmp_path, tmp_path / "no-cems")
    alone(
        "python",
        "-m",
        "promptroute",
        "compose",
        "compute.threads=1",
        "~models.mini-unet",
        "~models.mini-masked",
        "~models.mini-tiny",
    )
    alone("dvc", "repro", "score@nima", "score@clip")
    committed = json.loads((tmp_path / "metrics" / "evaluate.json").read_text())["all_prompts"]
    for scorer, name in (("nima", "nima.mean"), ("clip", "clip.score")):
        rows = pd.read_parquet(tmp_path / "data" / "scores" / scorer / "mini-student" / "scores.parquet")
        assert rows["prompt_id"].nunique() == committed["prompts"]
        assert rows["value"].mean() == pytest.approx(
            committed["strategies"]["single_mini-student"][name], rel=2e-3
        )


def test_a_second_repro_runs_nothing(mini: Path, go: Run) -> None:
    again = go("dvc", "repro")
    assert "Data and pipelines are up to date." in again.stdout + again.stderr
    assert changed(go) == set()


def test_every_image_is_scored(mini: Path, go: Run) -> None:
    ids = set(pd.read_parquet(mini / "data" / "prompts.parquet")["prompt_id"])
    assert len(ids) == PROMPTS
    rows = pd.read_parquet(mini / "data" / "performance.parquet")
    assert set(rows["score"].str.split(".").str[0]) == {*SCORERS, "rahf"}
    assert len(rows) == PROMPTS * len(MODELS) * rows["score"].nunique() and set(rows["prompt_id"]) == ids
    for model in MODELS:
        images = every_image(mini / "data" / "images" / model)
        assert {(one.prompt_id, one.seed) for one in images} == {
            (one, seed) for one in ids for seed in (0, 1)
        }
        assert all(one.status == "ok" and (one.width, one.height) == (64, 64) for one in images)


def test_image_equals_plain_diffusers(mini: Path, go: Run) -> None:
    import torch
    from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from PIL import Image

    stored = every_image(mini / "data" / "images" / "mini-student")[3]
    assert stored.image is not None
    before = torch.get_num_threads()
    params = yaml.safe_load((mini / "params.yaml").read_text())
    torch.set_num_threads(params["compute"]["threads"])
    try:
        weights = mini / "mini" / "weights"
        unet = UNet2DConditionModel.from_pretrained(weights / "student", dtype=torch.float32)
        pipe = StableDiffusionPipeline.from_pretrained(weights / "diffusion", unet=unet, dtype=torch.float32)
        pipe.scheduler = LCMScheduler.from_config(
            pipe.scheduler.config, original_inference_steps=20, timestep_spacing="leading"
        )
        pipe.set_progress_bar_config(disable=True)
        size = params["models"]["mini-student"]["generator"]["batch_size"]
        seeds = [torch.Generator("cpu").manual_seed(stored.seed) for _ in range(size)]
        made = pipe([stored.prompt] * size, num_inference_steps=4, guidance_scale=0, generator=seeds).images
    finally:
        torch.set_num_threads(before)
    pixels = np.asarray(Image.open(io.BytesIO(stored.image)))
    assert all(np.array_equal(np.asarray(one), pixels) for one in made)


def test_add_model(mini: Path, go: Run) -> None:
    compose(go, "+model@models.other=mini-student", "models.other.generator.steps=2")
    touched = pending(go)
    # A new model's images are images to embed and score; those of the other models come from the cache.
    assert {"generate@other", "table"} <= touched
    assert not [stage for stage in touched if any(stage.endswith(model) for model in MODELS)]


def test_another_scorer(mini: Path, go: Run) -> None:
    compose(go, "+scorer@scorers.again=clip")
    touched = pending(go)
    assert {"score@again", "table"} <= touched
    assert not [
        stage
        for stage in touched
        if stage.startswith(("generate", "embed")) or re.match(r"score@(nima|clip|cons)", stage)
    ]


def test_another_price_fits_nothing_again(mini: Path, go: Run) -> None:
    compose(go, "models.mini-unet.profile.seconds=9")
    assert "calibrate" in pending(go)
    assert "train" not in ran(go("dvc", "repro", "train").stdout)


def test_growth_generates_only_new(go: Run) -> None:
    compose(go, f"prompts.n={PROMPTS + 6}", "generation.seeds=[0,1,5]")
    said = go("dvc", "repro", "generate@mini-student").stdout
    assert f" {(PROMPTS + 6) * 3 - PROMPTS * 2} generated now" in said, said
    go("git", "checkout", "--quiet", "--force", "main")
    assert (
        " 0 generated now" in go("dvc", "repro", "--force", "--single-item", "generate@mini-student").stdout
    )


def test_the_gallery_shows_the_images(mini: Path, go: Run) -> None:
    page = (mini / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") > 6 + 2 * len(MODELS) * 4
    assert "small models of our own" in page, "labelled for what it is"


def test_lost_images(mini: Path, go: Run) -> None:
    path = mini / "data" / "images" / "mini-student" / "part-00000.parquet"
    before = path.read_bytes()
    go("rm", "-r", "cache/images")
    ran_again = ran(go("dvc", "repro", "--force", "--single-item", "generate@mini-student").stdout)
    assert ran_again == {"generate@mini-student"} and path.read_bytes() == before


def test_fresh_costs_time_the_models(go: Run) -> None:
    compose(go, "cost=measured")
    assert {f"profile@{model}" for model in MODELS} | {"calibrate"} <= pending(go)


def test_ray_and_back(mini: Path, go: Run) -> None:
    """Where shards were done decides nothing: neither there nor back is anything made again."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    path = mini / "data" / "images" / "mini-student" / "part-00000.parquet"

    def experiment(*overrides: str) -> str:
        chosen = [part for one in (*FEW, *overrides) for part in ("-S", one)]
        done = go("dvc", "exp", "run", *chosen, "generate@mini-student", "encode@minilm_layers")
        return done.stdout + done.stderr

    assert ran(experiment("compute=ray")) == set(), "all is there"
    more = f"prompts.n={PROMPTS + 3}"
    there = experiment("compute=ray", more)
    assert {"generate@mini-student", "encode@minilm_layers"} <= ran(there)
    assert " 6 generated now" in there and re.search(
        r"^1 shards by \S+ \(process \d+\)$", there, re.MULTILINE
    ), there
    made = path.read_bytes()
    assert ran(experiment(more)) == set() and path.read_bytes() == made
    again = go("dvc", "repro", "--force", "--single-item", "generate@mini-student").stdout
    assert " 0 generated now" in again and path.read_bytes() == made
