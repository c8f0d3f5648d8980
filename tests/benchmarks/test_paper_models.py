"""Counts of the true architectures against published sizes, hand counts, and counts of real generation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import paper_models, paper_speed
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


def test_measure_tiny_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["card", "model:sd-turbo", "nima"]
    options = [option for part in wanted for option in ("--part", part)]
    said = paper_models.main(
        ["--measure", "--tiny", "--device", "cpu", "--out", str(tmp_path), "--seconds", "1", *options]
    )
    rows = pd.read_csv(tmp_path / "paper_models_measured.csv")
    assert said == f"{len(rows)} rows, 0 with a reason: {tmp_path / 'paper_models_measured.csv'}"
    assert list(rows["model"].unique()) == ["card", "sd-turbo", "nima"]
    own = rows[rows["model"] == "sd-turbo"]
    assert {"building", "plain call", "plain call, saved", "generate", "stage"} == set(own["what"])
    stage = own[own["what"] == "stage"]
    assert (stage["failed"] == 0).all() and (stage["png_kb"] > 1).all()
    assert list(stage["streams"]) == [1, 1, 2, 2] and list(stage["shards_at_once"]) == [1, 1, 1, 2]
    timed = rows[rows["images"].notna()]
    np.testing.assert_allclose(timed["images_per_second"], timed["images"] / timed["seconds"], rtol=1e-4)


@pytest.mark.parametrize("change", paper_speed.CHANGES)
def test_changes_keep_the_image(change: str, tmp_path: Path) -> None:
    def wiring(model: DiffusersModel) -> tuple[Any, ...]:
        pipeline: Any = model.pipeline
        attention = pipeline.vae.decoder.mid_block.attentions[0]
        fused = getattr(pipeline.unet, "original_attn_processors", None) is not None
        return len(attention._forward_hooks), type(attention.processor), fused

    how = PIPELINES["sd"][1]
    models = [
        DiffusersModel(model=str(save("sd", tmp_path / name)), **how) for name in ("as-it-is", "changed")
    ]
    paper_speed.CHANGES[change](models[1].pipeline)
    assert wiring(models[0]) != wiring(models[1])
    (one,), (other,) = (model.generate(["a cat"], [0]) for model in models)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_committed_speed() -> None:
    rows = pd.read_csv(paper_speed.CSV)
    timed = rows[rows["images"].notna()]
    np.testing.assert_allclose(timed["images_per_second"], timed["images"] / timed["seconds"], rtol=1e-4)
    gflops = pd.read_csv(paper_models.CSV).groupby("model")["gflops"].sum()
    counted = rows[rows["share_of_peak"].notna() & rows["images"].notna()]
    expected = counted["images_per_second"] * counted["model"].map(gflops) / 1000 / paper_speed.PEAK
    np.testing.assert_allclose(counted["share_of_peak"], expected, rtol=1e-4)
    shown = paper_speed.table(rows)
    assert "| taesd-sd21, channels last, compiled |" in shown and "Unmeasured" in shown


class TestFaults:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> paper_speed.Bench:
        return paper_speed.Bench("cpu", paper_models.models("paper"), {}, tmp_path)

    def measured(
        self, bench: paper_speed.Bench, monkeypatch: pytest.MonkeyPatch, *parts: Any
    ) -> pd.DataFrame:
        made = [paper_speed.Part(name, name, estimate, rows) for name, estimate, rows in parts]
        monkeypatch.setattr(paper_speed, "parts", lambda: made)
        paper_speed.measure(bench, 10, bench.folder / "rows.csv")
        return pd.read_csv(bench.folder / "rows.csv")

    def test_failing_part_leaves_a_reason(
        self, bench: paper_speed.Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(bench: Any) -> Any:
            yield {"what": "first"}
            raise RuntimeError("no kernel\nimage")

        rows = self.measured(
            bench, monkeypatch, ("a", 1, failing), ("b", 1, lambda bench: iter([{"what": "x"}]))
        )
        assert rows["what"].fillna("-").tolist() == ["first", "-", "x"]
        assert rows["reason"].fillna("-").tolist() == ["-", "RuntimeError: no kernel", "-"]

    def test_part_without_time_is_left_out(
        self, bench: paper_speed.Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = self.measured(
            bench, monkeypatch, ("a", 60, None), ("b", 1, lambda bench: iter([{"what": "x"}]))
        )
        assert (
            rows["reason"].iloc[0] == "left out: 10 s left, about 60 s needed" and rows["what"].iloc[1] == "x"
        )

    def test_tiny_figures_stay_out_of_the_results(self) -> None:
        with pytest.raises(UserError, match="--tiny needs --out"):
            paper_models.main(["--measure", "--tiny", "--device", "cpu"])


def test_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"compute.device=cuda:99: can't be used"):
        paper_models.main(["--measure", "--device", "cuda:99"])


def test_substitute_tokenizer() -> None:
    encoder = network(Part("transformers.CLIPTextModel", {"vocab_size": 300, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}))  # fmt: skip
    tokens = paper_speed.tokenizer(encoder)(["a red fox", ""], padding="max_length", truncation=True)[
        "input_ids"
    ]
    assert all(len(row) == 77 and max(row) < 300 for row in tokens) and tokens[0] != tokens[1]
