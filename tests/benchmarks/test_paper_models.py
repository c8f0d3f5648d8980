"""Counts of the true architectures against published sizes, hand counts, and counts of real generation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import paper_models
from benchmarks.architectures import HUB, SD21, Architecture, Part, architecture_of
from benchmarks.counting import count, network
from promptroute.core.errors import UserError
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.profiling import count_gflops
from tests.generators.tiny import PIPELINES, SIDE, save


def millions(architecture: Architecture, part: str) -> float:
    return sum(weight.numel() for weight in network(architecture.parts[part]).parameters()) / 1e6


@pytest.mark.parametrize(
    ("hub_id", "part", "published"),
    [
        ("stabilityai/sdxl-turbo", "unet", 2567.5),  # 2.6 B in SDXL's paper; 2,567,463,684 in its file
        ("stabilityai/sdxl-turbo", "text_encoder_2", 694.7),  # OpenCLIP bigG's text tower
        ("stabilityai/sd-turbo", "unet", 865.9),  # 865,910,724, Stable Diffusion 2's
        ("stabilityai/sd-turbo", "text_encoder", 340.4),  # OpenCLIP H's, 23 of 24 layers
        ("stabilityai/sd-turbo", "vae", 83.65),
        ("amused/amused-512", "transformer", 608.0),  # aMUSEd's paper, section 3
        ("amused/amused-512", "vqvae", 146.0),
    ],
)
def test_published_sizes(hub_id: str, part: str, published: float) -> None:
    assert millions(HUB[hub_id], part) == pytest.approx(published, rel=0.005)


def as_architecture(pipeline: Any) -> Architecture:
    """Describe a pipeline's networks as parts."""
    parts = {}
    for name, model in pipeline.components.items():
        if not hasattr(model, "parameters"):
            continue
        library = type(model).__module__.split(".")[0]
        config = model.config.to_dict() if library == "transformers" else {key: value for key, value in model.config.items() if not key.startswith("_")}  # fmt: skip
        parts[name] = Part(f"{library}.{type(model).__name__}", dict(config))
    plan = pipeline.scheduler
    return Architecture(type(pipeline).__name__, parts, type(plan).__name__, dict(plan.config), tokens=16)


@pytest.mark.parametrize("name", ["sd", "sdxl", "amused"])
def test_count_equals_real_generation(name: str, tmp_path: Path) -> None:
    maker, how = PIPELINES[name]
    whole = sum(
        one.gflops for one in count(as_architecture(maker()), how["steps"], how["guidance"], SIDE, SIDE)
    )
    generated = count_gflops(DiffusersModel(model=str(save(name, tmp_path)), **how))
    assert whole == pytest.approx(generated, rel=0.01)


def test_extra_scheduler_step() -> None:
    tiny = as_architecture(PIPELINES["sd"][0]())
    calls = {}
    for scheduler in ("PNDMScheduler", "DPMSolverMultistepScheduler"):
        config = {"skip_prk_steps": True} if scheduler == "PNDMScheduler" else {}
        one = Architecture(tiny.pipeline, tiny.parts, scheduler, config, tiny.tokens)
        calls[scheduler] = {part.part: part.calls for part in count(one, 10, 5.0, SIDE, SIDE)}
    assert calls["PNDMScheduler"] == {"vae": 1, "text_encoder": 2, "unet": 11}
    assert calls["DPMSolverMultistepScheduler"]["unet"] == 10


def test_configured_parts_and_schedulers() -> None:
    models = paper_models.models("paper")
    assert list(models) == ["sdxl-turbo", "sd-turbo", "amused", "taesd-sd21"]
    swapped = architecture_of(models["taesd-sd21"]["generator"])
    assert (
        swapped.parts["vae"].kind == "diffusers.AutoencoderTiny"
        and swapped.parts["unet"] == SD21.parts["unet"]
    )
    steps = paper_models.models("steps")["sd21-steps10"]["generator"]
    assert architecture_of(steps).scheduler == "DPMSolverMultistepScheduler"
    with pytest.raises(UserError, match=r"some/model: its architecture is unknown"):
        architecture_of({**steps, "model": "some/model"})


def test_committed_count() -> None:
    rows = pd.read_csv(paper_models.CSV)
    facts = {
        name: model for option in paper_models.SETS for name, model in paper_models.models(option).items()
    }
    assert set(rows["model"]) == set(facts)
    for name, parts in rows.groupby("model"):
        assert facts[str(name)]["profile"]["gflops"] == pytest.approx(parts["gflops"].sum(), rel=1e-3), name
        how = facts[str(name)]["generator"]
        denoiser = parts[parts["part"].isin(["unet", "transformer"])].iloc[0]
        assert denoiser["rows"] == (2 if how["guidance"] > 1 else 1)
        assert denoiser["calls"] - how["steps"] in (0, 1)
    assert paper_models.main(["--table"]).count("\n") == len(facts) + 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The paper's models with tiny networks in place of theirs, and results elsewhere."""
    tiny = {
        "StableDiffusionPipeline": as_architecture(PIPELINES["sd"][0]()),
        "StableDiffusionXLPipeline": as_architecture(PIPELINES["sdxl"][0]()),
        "AmusedPipeline": as_architecture(PIPELINES["amused"][0]()),
    }
    monkeypatch.setattr(paper_models, "architecture_of", lambda how: tiny[architecture_of(how).pipeline])
    whole = paper_models.models

    def models(option: str) -> dict[str, Any]:
        found = whole(option)
        for model in found.values():
            model["generator"].update({"width": SIDE, "height": SIDE, "steps": 1})
        return found

    monkeypatch.setattr(paper_models, "models", models)
    for name in ("CSV", "MEASURED"):
        monkeypatch.setattr(paper_models, name, tmp_path / f"{name}.csv")


def test_measure_random_weights(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    counted = paper_models.main([])
    assert counted.count("unmeasured") == 8
    shown = paper_models.main(
        ["--measure", "--device", "cpu", "--way", "plain", "--way", "channels last", "--images", "2", "--max-batch", "2", "--tolerance", "10"]
    )  # fmt: skip
    rows = pd.read_csv(paper_models.MEASURED)
    assert list(rows["model"].unique()) == ["sdxl-turbo", "sd-turbo", "amused", "taesd-sd21"]
    assert len(rows) == 8 and (rows["seconds"] > 0).all() and set(rows["way"]) == {"plain", "channels last"}
    np.testing.assert_allclose(rows["images_per_second"], 1 / rows["seconds"], rtol=0.05)
    assert (rows[["stage_1_streams", "stage_2_streams"]] > 0).all(axis=None)
    assert shown.count("images/s by the stage, in batches of") == 4 and shown.count("unmeasured") == 4


def test_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"compute.device=cuda:99: can't be used"):
        paper_models.main(["--measure", "--device", "cuda:99"])


def test_substitute_tokenizer() -> None:
    encoder = network(Part("transformers.CLIPTextModel", {"vocab_size": 300, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}))  # fmt: skip
    tokens = paper_models.tokenizer(encoder)(["a red fox", ""], padding="max_length", truncation=True)[
        "input_ids"
    ]
    assert all(len(row) == 77 and max(row) < 300 for row in tokens) and tokens[0] != tokens[1]
