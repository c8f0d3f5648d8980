"""From prompts to images: each stage's file, and what growing a study costs."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from promptroute.core.image import Image as Row
from promptroute.io.images import read_images
from tests.image_stages.conftest import TEXTS
from tests.stages.small import Ran, run

Study = Callable[..., Path]


def ok(folder: Path, stage: str, *arguments: str) -> str:
    ran = run(folder, stage, *arguments)
    assert ran.status == 0, ran.err
    return ran.out


def rows(folder: Path, model: str = "sd") -> list[Row]:
    return [row for shard in read_images(folder / "data" / "images" / model) for row in shard]


def picture(row: Row) -> Image.Image:
    return Image.open(io.BytesIO(row.image or b""))


def test_generate_lays_out_every_image_in_order(study: Study) -> None:
    folder = study()
    printed = ok(folder, "generate", "sd")
    assert (
        printed.startswith("generate: 15 images of sd on cpu, 15 generated now at ") and "0 failed" in printed
    )
    shards = sorted((folder / "data/images/sd").iterdir())
    assert [shard.name for shard in shards] == [f"part-0000{i}.parquet" for i in range(3)]
    found = rows(folder)
    assert [(row.prompt_id, row.seed) for row in found] == sorted((row.prompt_id, row.seed) for row in found)
    assert [row.prompt for row in found] == [text for text in TEXTS for _ in range(3)]
    assert all(picture(row).size == (row.width, row.height) == (16, 16) for row in found)
    assert len({row.image for row in found}) == 15


def test_a_stored_image_is_redrawn_by_plain_diffusers(study: Study, weights: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    folder = study()
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["models"]["sd"]["generator"]["batch_size"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    ok(folder, "generate", "sd")
    pipeline = StableDiffusionPipeline.from_pretrained(weights / "sd")
    for row in rows(folder)[:4]:
        generator = torch.Generator("cpu").manual_seed(row.seed)
        again = pipeline(row.prompt, num_inference_steps=2, guidance_scale=4.0, generator=generator).images[0]
        assert picture(row).tobytes() == again.tobytes()


def test_growing_draws_only_what_is_new_and_ends_the_same(
    study: Study, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = study(TEXTS[:4], seeds=[0, 1])
    ok(folder, "generate", "sd")
    study(TEXTS, seeds=[0, 1, 2])
    assert "15 images of sd on cpu, 7 generated now" in ok(folder, "generate", "sd")
    grown = rows(folder)
    assert "0 generated now" in ok(folder, "generate", "sd")
    import shutil

    shutil.rmtree(folder / "cache")
    assert "15 generated now" in ok(folder, "generate", "sd")
    assert rows(folder) == grown
    study(TEXTS[:2], seeds=[0])
    assert "2 images of sd on cpu, 0 generated now" in ok(folder, "generate", "sd")
    assert rows(folder) == [row for row in grown if row.prompt in TEXTS[:2] and row.seed == 0]


def test_a_changed_setting_never_meets_an_old_image(study: Study) -> None:
    folder = study(TEXTS[:2], seeds=[0])
    ok(folder, "generate", "sd")
    before = rows(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["models"]["sd"]["generator"]["steps"] = 3
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    assert "2 generated now" in ok(folder, "generate", "sd")
    assert all(a.image != b.image for a, b in zip(before, rows(folder), strict=True))


def failed(folder: Path, *command: str) -> str:
    ran: Ran = run(folder, *command)
    assert ran.status == 1 and "Traceback" not in ran.err, ran.err
    return ran.err


def test_errors_name_the_file_or_setting_and_the_fix(study: Study) -> None:
    folder = study(TEXTS[:2], seeds=[0])
    assert "data/images/sd: no shard of images" in failed(folder, "embed", "sd")
    assert "models has no 'nonsense', only" in failed(folder, "generate", "nonsense")
    ok(folder, "generate", "sd")
    for wrong in ({"seeds": []}, {"seeds": [-1]}, {"shard_prompts": 0}, {"max_failed": 2}):
        study(TEXTS[:2], **{"seeds": [0], **wrong})
        assert f"generation.{next(iter(wrong))} is" in failed(folder, "generate", "sd")
    shard = folder / "data/images/sd/part-00000.parquet"
    content = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(content[:-10])
    assert "part-00000.parquet: not a readable shard" in failed(folder, "embed", "sd")
