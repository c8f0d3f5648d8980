"""From prompts to images and their embeddings: each stage's files, and what growing a study costs."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from promptroute.core.image import Image as Row
from promptroute.encoders.open_clip import OpenClip
from promptroute.io.embeddings import read_embeddings, read_image_embeddings
from promptroute.io.images import write_shard
from tests.image_stages.conftest import TEXTS
from tests.shards import every_image
from tests.stages.small import run

Study = Callable[..., Path]
ROOT = Path(__file__).parents[2]


def ok(folder: Path, stage: str, *arguments: str) -> str:
    ran = run(folder, stage, *arguments)
    assert ran.status == 0, ran.err
    return ran.out


def failed(folder: Path, *command: str) -> str:
    ran = run(folder, *command)
    assert ran.status == 1 and "Traceback" not in ran.err, ran.err
    return ran.err


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    edit(params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def rows(folder: Path, model: str = "sd") -> list[Row]:
    return every_image(folder / "data" / "images" / model)


def opened(row: Row) -> Image.Image:
    return Image.open(io.BytesIO(row.image or b""))


class TestGenerate:
    def test_keeps_the_order(self, study: Study) -> None:
        folder = study()
        printed = ok(folder, "generate", "sd")
        assert printed.startswith("generate: 15 images of sd on cpu, 15 generated now at ")
        assert "0 failed" in printed
        shards = sorted((folder / "data/images/sd").iterdir())
        assert [shard.name for shard in shards] == [f"part-0000{i}.parquet" for i in range(3)]
        found = rows(folder)
        assert [(row.prompt_id, row.seed) for row in found] == sorted(
            (row.prompt_id, row.seed) for row in found
        )
        assert [row.prompt for row in found] == [text for text in TEXTS for _ in range(3)]
        assert all(opened(row).size == (row.width, row.height) == (16, 16) for row in found)
        assert len({row.image for row in found}) == 15

    def test_equals_plain_diffusers(self, study: Study, weights: Path) -> None:
        import torch
        from diffusers import StableDiffusionPipeline

        folder = study()
        change(folder, lambda params: params["models"]["sd"]["generator"].update(batch_size=1))
        ok(folder, "generate", "sd")
        pipeline = StableDiffusionPipeline.from_pretrained(weights / "sd")
        for row in rows(folder)[:4]:
            generator = torch.Generator("cpu").manual_seed(row.seed)
            again = pipeline(
                row.prompt, num_inference_steps=2, guidance_scale=4.0, generator=generator
            ).images[0]
            assert opened(row).tobytes() == again.tobytes()

    def test_growth(self, study: Study) -> None:
        folder = study(TEXTS[:4], seeds=[0, 1])
        ok(folder, "generate", "sd")
        study(TEXTS, seeds=[0, 1, 2])
        assert "15 images of sd on cpu, 7 generated now" in ok(folder, "generate", "sd")
        grown = rows(folder)
        assert "0 generated now" in ok(folder, "generate", "sd")
        shutil.rmtree(folder / "cache")
        assert "15 generated now" in ok(folder, "generate", "sd")
        assert rows(folder) == grown
        study(TEXTS[:2], seeds=[0])
        assert "2 images of sd on cpu, 0 generated now" in ok(folder, "generate", "sd")
        assert rows(folder) == [row for row in grown if row.prompt in TEXTS[:2] and row.seed == 0]

    def test_changed_setting_regenerates(self, study: Study) -> None:
        folder = study(TEXTS[:2], seeds=[0])
        ok(folder, "generate", "sd")
        before = rows(folder)
        change(folder, lambda params: params["models"]["sd"]["generator"].update(steps=3))
        assert "2 generated now" in ok(folder, "generate", "sd")
        assert all(a.image != b.image for a, b in zip(before, rows(folder), strict=True))

    def test_corrupt_cache_is_made_again(self, study: Study) -> None:
        folder = study(TEXTS[:2], seeds=[0])
        ok(folder, "generate", "sd")
        before = rows(folder)
        (shard,) = (folder / "cache" / "images").rglob("shard-*.parquet")
        content = bytearray(shard.read_bytes())
        content[content.index(b"IDAT") + 6] ^= 1
        shard.unlink()
        shard.write_bytes(content)
        assert "2 generated now" in ok(folder, "generate", "sd")
        assert rows(folder) == before

    @pytest.mark.slow
    def test_two_at_once(self, study: Study) -> None:
        folder = study()
        command = [sys.executable, "-W", "ignore", "-m", "stages.generate", "sd"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        other = folder / "other"
        shutil.copytree(folder / "data", other / "data")
        shutil.copy(folder / "params.yaml", other)
        change(other, lambda params: params["generation"].update(seeds=[0, 1], shard_prompts=3))
        both = [
            subprocess.Popen(
                command, cwd=place, env={**environment, "DVC_ROOT": str(folder)}, stderr=subprocess.PIPE
            )
            for place in (folder, other)
        ]
        errors = [process.communicate(timeout=300)[1].decode() for process in both]
        assert [process.returncode for process in both] == [0, 0], errors
        shared = {row.key: row.image for row in rows(folder)}
        assert all(shared[row.key] == row.image for row in rows(other)) and len(rows(other)) == 10

    @pytest.mark.parametrize(
        "wrong", [{"seeds": []}, {"seeds": [-1]}, {"shard_prompts": 0}, {"max_failed": 2}, {"seeds": [1.5]}]
    )
    def test_wrong_setting(self, study: Study, wrong: dict[str, Any]) -> None:
        folder = study(TEXTS[:2], **{"seeds": [0], **wrong})
        assert f"params.yaml: generation.{next(iter(wrong))}" in failed(folder, "generate", "sd")

    def test_names_a_model_it_lacks(self, study: Study) -> None:
        assert "models has no 'nonsense', only" in failed(study(), "generate", "nonsense")

    @pytest.mark.parametrize("arguments", [(), ("sd", "amused"), ("sd", "--steps")])
    def test_wrong_arguments(self, study: Study, arguments: tuple[str, ...]) -> None:
        ran = run(study(), "generate", *arguments)
        assert ran.status == 2 and "Traceback" not in ran.err and "error: " in ran.err

    def test_loads_no_other_room(self) -> None:
        script = (
            "import sys, stages.generate\n"
            "heavy = {'torch', 'open_clip', 'transformers', 'diffusers', 'hydra', 'dvc', 'matplotlib', 'sklearn'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout == "[]\n"


class TestEmbed:
    def test_images_and_prompts(self, study: Study, weights: Path) -> None:
        folder = study()
        for model in ("sd", "amused"):
            ok(folder, "generate", model)
        assert "embed: 5 prompts and the images of amused, sd with tiny" in ok(folder, "embed", "tiny")
        found = rows(folder, "amused")
        ids, seeds, vectors = read_image_embeddings(folder / "data/embeddings/tiny/amused")
        assert list(zip(ids, seeds, strict=True)) == [(row.prompt_id, row.seed) for row in found]
        clip = OpenClip(model=str(weights / "clip"))
        np.testing.assert_allclose(vectors, clip.encode_images([opened(row) for row in found]), atol=1e-5)
        texts = read_embeddings(folder / "data/embeddings/tiny/prompts.parquet")
        np.testing.assert_allclose(np.stack(list(texts["embedding"])), clip.encode_texts(TEXTS), atol=1e-5)

    def test_growth_embeds_what_is_new(self, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = study(TEXTS[:4])
        change(folder, lambda params: params["models"].pop("amused"))
        ok(folder, "generate", "sd")
        ok(folder, "embed", "tiny")
        before = read_image_embeddings(folder / "data/embeddings/tiny/sd")[2]
        study(TEXTS)
        change(folder, lambda params: params["models"].pop("amused"))
        ok(folder, "generate", "sd")
        counts: list[int] = []
        encode = OpenClip.encode_images
        monkeypatch.setattr(
            OpenClip,
            "encode_images",
            lambda self, images: (counts.append(len(images)), encode(self, images))[1],
        )
        ok(folder, "embed", "tiny")
        assert sum(counts) == 3
        np.testing.assert_array_equal(
            read_image_embeddings(folder / "data/embeddings/tiny/sd")[2][:12], before
        )

    def test_failed_images_have_none(self, study: Study) -> None:
        folder = study(TEXTS[:2], seeds=[0])
        change(folder, lambda params: params["models"].pop("amused"))
        ok(folder, "generate", "sd")
        first, second = rows(folder)
        broken = Row(first.prompt_id, first.prompt, "sd", 0, "failed", "it broke", None, None, None)
        path = folder / "data/images/sd/part-00000.parquet"
        path.unlink()
        write_shard(path, [broken, second])
        ok(folder, "embed", "tiny")
        assert list(read_image_embeddings(folder / "data/embeddings/tiny/sd")[0]) == [second.prompt_id]

    def test_another_models_images_are_refused(self, study: Study) -> None:
        folder = study(TEXTS[:2], seeds=[0])
        for model in ("sd", "amused"):
            ok(folder, "generate", model)
        ours, theirs = (folder / f"data/images/{model}/part-00000.parquet" for model in ("sd", "amused"))
        ours.unlink()
        shutil.copy(theirs, ours)
        assert "data/images/sd/part-00000.parquet: its images are by amused, expected sd" in failed(
            folder, "embed", "tiny"
        )

    def test_errors_name_the_file(self, study: Study) -> None:
        folder = study(TEXTS[:2], seeds=[0])
        change(folder, lambda params: params["models"].pop("amused"))
        assert "data/images/sd: no shard of images" in failed(folder, "embed", "tiny")
        assert "image_encoder has no 'nonsense', only tiny" in failed(folder, "embed", "nonsense")
        ok(folder, "generate", "sd")
        shard = folder / "data/images/sd/part-00000.parquet"
        content = shard.read_bytes()
        shard.unlink()
        shard.write_bytes(content[:-10])
        assert "part-00000.parquet: not a shard of images" in failed(folder, "embed", "tiny")
