"""Every class of pipeline through the `generate` stage: three seeds, resumed, and compared with plain diffusers."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from promptroute.generators.base import Generated
from promptroute.generators.diffusers.model import DiffusersModel
from tests.generators.tiny import LORA, PIPELINES, SIDE, save, save_lora
from tests.image_stages.conftest import write_prompts
from tests.shards import every_image
from tests.stages.small import run

TEXTS = ("a dog", "a red cat", "two hats")
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models by name, `taesd`, and `lora` with layers for `sdxl`."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("hub")
    for name in (*PIPELINES, "taesd"):
        save(name, root / name)
    save_lora(root / "lora", StableDiffusionXLPipeline.from_pretrained(root / "sdxl"))
    return root


def with_taesd(pipeline: Any, folders: Path) -> None:
    from diffusers import AutoencoderTiny

    pipeline.vae = AutoencoderTiny.from_pretrained(folders / "taesd", use_safetensors=True)


def with_lora(pipeline: Any, folders: Path) -> None:
    pipeline.load_lora_weights(folders / "lora", weight_name=LORA, adapter_name="x")
    pipeline.set_adapters(["x"], [0.5])


def with_euler(pipeline: Any, folders: Path) -> None:
    from diffusers import EulerDiscreteScheduler

    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)


Change = Callable[[Any, Path], None]
CASES: dict[str, tuple[str, str, dict[str, Any], Sequence[Change]]] = {
    "sd": ("sd", "StableDiffusionPipeline", {}, ()),
    "sdxl": ("sdxl", "StableDiffusionXLPipeline", {}, ()),
    "amused": ("amused", "AmusedPipeline", {}, ()),
    "pixart": (
        "pixart",
        "PixArtAlphaPipeline",
        {"scheduler": {"class": "EulerDiscreteScheduler"}},
        (with_euler,),
    ),
    "sd-taesd": (
        "sd",
        "StableDiffusionPipeline",
        {"components": {"vae": {"class": "AutoencoderTiny", "model": "HERE/taesd"}}},
        (with_taesd,),
    ),
    "sdxl-lora": (
        "sdxl",
        "StableDiffusionXLPipeline",
        {
            "lora": {"model": "HERE/lora", "weight_name": LORA, "scale": 0.5},
            "scheduler": {"class": "EulerDiscreteScheduler"},
        },
        (with_lora, with_euler),
    ),
}
"""model → the tiny folder, the pipeline's class, further settings, and the same settings in plain diffusers."""


def lay_out(folder: Path, folders: Path, name: str) -> Path:
    model, _, settings, _ = CASES[name]
    generator = {
        "_target_": "promptroute.generators.diffusers.model.DiffusersModel",
        "model": f"HERE/{model}",
        **PIPELINES[model][1],
        **settings,
    }
    params = {
        "models": {name: {"label": name, "generator": generator}},
        "generation": {"seeds": list(SEEDS), "shard_prompts": 1, "max_failed": 0.0},
        "compute": {"device": "cpu", "threads": 1},
    }
    write_prompts(folder, TEXTS)
    (folder / "params.yaml").write_text(yaml.safe_dump(params).replace("HERE", str(folders)))
    return folder


def bytes_of(folder: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "data" / "images" / name).iterdir()}


@pytest.mark.parametrize("name", CASES)
def test_equals_plain_diffusers(
    name: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lay_out(tmp_path / "whole", folders, name)
    ran = run(whole, "generate", name)
    assert ran.status == 0, ran.err
    assert (
        ran.out.startswith(f"generate: 9 images of {name} on cpu, 9 generated now") and "0 failed" in ran.out
    )

    killed = lay_out(tmp_path / "killed", folders, name)
    generate, calls = DiffusersModel.generate, []

    def interrupted(self: DiffusersModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        calls.extend(seeds)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return generate(self, prompts, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusersModel, "generate", interrupted)
        assert run(killed, "generate", name).status == 130, "as of a program that Ctrl-C ended"
    assert not (killed / "data" / "images").exists(), "nothing half-written"
    ran = run(killed, "generate", name)
    assert ran.status == 0, ran.err
    assert "9 images" in ran.out and "6 generated now" in ran.out, "the first shard was kept"
    assert bytes_of(killed, name) == bytes_of(whole, name)

    rows = every_image(whole / "data" / "images" / name)
    assert [(row.prompt, row.seed) for row in rows] == [(text, seed) for text in TEXTS for seed in SEEDS]
    assert len({row.image for row in rows}) == 9, "each prompt and seed has a image of its own"
    assert all((row.width, row.height) == (SIDE, SIDE) for row in rows)
    again = plain(name, folders)(rows[4].prompt, rows[4].seed)
    assert Image.open(io.BytesIO(rows[4].image or b"")).tobytes() == again.tobytes()


def plain(name: str, folders: Path) -> Callable[[str, int], Image.Image]:
    """One image by plain diffusers, as anybody would write it."""
    import diffusers
    import torch

    model, kind, _, changes = CASES[name]
    pipeline = getattr(diffusers, kind).from_pretrained(folders / model, use_safetensors=True)
    assert type(pipeline) is type(diffusers.DiffusionPipeline.from_pretrained(folders / model))
    for change in changes:
        change(pipeline, folders)
    pipeline.set_progress_bar_config(disable=True)
    how = PIPELINES[model][1]

    def generate(prompt: str, seed: int) -> Image.Image:
        return pipeline(
            prompt,
            num_inference_steps=how["steps"],
            guidance_scale=how["guidance"],
            generator=torch.Generator("cpu").manual_seed(seed),
            **how.get("call", {}),
        ).images[0]

    return generate


def test_settings_change_the_image(folders: Path) -> None:
    images = {name: plain(name, folders)("a dog", 0).tobytes() for name in CASES}
    assert len(set(images.values())) == len(CASES)
