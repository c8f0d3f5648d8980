"""A study is drawn once, whatever happens to it: kills, growth, failures, other studies beside it."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.generators.diffusers import DiffusersModel
from promptroute.generators.run import Drawn, generate_images, to_png
from promptroute.io.images import ImageCache, ImageRequest, read_shard
from tests.generators.conftest import Fake

ROOT = Path(__file__).parents[2]


def wanted(prompts: int, seeds: int, per_shard: int = 3) -> list[list[ImageRequest]]:
    rows = [ImageRequest(f"P{p}", f"prompt {p}", s) for p in range(prompts) for s in range(seeds)]
    return [list(rows[i : i + per_shard * seeds]) for i in range(0, len(rows), per_shard * seeds)]


def generate(fake: Fake, shards: list[list[ImageRequest]], folder: Path, **options: float) -> Drawn:
    return generate_images(fake, "tiny", shards, ImageCache(folder), **options)


def test_every_image_stands_in_its_shard_in_order(tmp_path: Path) -> None:
    fake, shards = Fake(), wanted(4, 2)
    drawn = generate(fake, shards, tmp_path)
    assert (drawn.images, drawn.new, drawn.failed.total()) == (8, 8, 0)
    for path, shard in zip(drawn.shards, shards, strict=True):
        rows = read_shard(path)
        assert [(row.prompt_id, row.prompt, row.seed) for row in rows] == shard
        for row in rows:
            assert row.image == to_png(fake.picture(row.prompt, row.seed))
            assert (row.model, row.status, row.reason, row.width, row.height) == ("tiny", "ok", None, 3, 2)


def test_a_png_is_rounded_as_diffusers_rounds() -> None:
    import io

    from diffusers.image_processor import VaeImageProcessor
    from PIL import Image

    picture = np.random.default_rng(0).random((5, 4, 3), np.float32)
    theirs = VaeImageProcessor.numpy_to_pil(picture)[0]
    assert Image.open(io.BytesIO(to_png(picture))).tobytes() == theirs.tobytes()


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    first = generate(Fake(), wanted(5, 2), tmp_path)
    before = [path.read_bytes() for path in first.shards]
    again = Fake()
    second = generate(again, wanted(5, 2), tmp_path)
    assert not again.batches and second.new == 0
    assert [path.read_bytes() for path in second.shards] == before


@pytest.mark.parametrize(
    ("then", "new"),
    [
        (wanted(7, 2), 4),  # more prompts
        (wanted(5, 3), 5),  # one seed more
        (wanted(5, 2, per_shard=2), 0),  # other shards
        (wanted(3, 1), 0),  # less of both
    ],
)
def test_growing_draws_only_what_is_new(tmp_path: Path, then: list[list[ImageRequest]], new: int) -> None:
    generate(Fake(), wanted(5, 2), tmp_path / "grown")
    fake = Fake()
    grown = generate(fake, then, tmp_path / "grown")
    assert len(fake.drawn) == grown.new == new
    fresh = generate(Fake(), then, tmp_path / "fresh")
    assert [path.read_bytes() for path in grown.shards] == [path.read_bytes() for path in fresh.shards]


def test_the_area_holds_each_image_of_the_study_once(tmp_path: Path) -> None:
    generate(Fake(), wanted(5, 2), tmp_path, save_seconds=0)
    generate(Fake(), wanted(5, 3), tmp_path, save_seconds=0)
    rows = [row for path in tmp_path.glob("*") for row in read_shard(path)]
    assert len(rows) == len({(row.prompt, row.seed) for row in rows}) == 15


def test_a_text_that_stands_twice_is_drawn_once(tmp_path: Path) -> None:
    fake = Fake()
    drawn = generate(fake, [[ImageRequest("A1", "a dog", 0), ImageRequest("B1", "a dog", 0)]], tmp_path)
    assert fake.drawn == [("a dog", 0)]
    one, two = read_shard(drawn.shards[0])
    assert (one.prompt_id, two.prompt_id) == ("A1", "B1") and one.image == two.image


class Faulty(Fake):
    """Gives no picture for the prompts in `nan`, and an error for those in `error`."""

    nan: tuple[str, ...] = ("prompt 1",)
    error: tuple[str, ...] = ("prompt 3",)

    def generate(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        if set(prompts) & set(self.error):
            raise ValueError("too strange a prompt\nsecond line")
        pictures = super().generate(prompts, seeds)
        for picture, prompt in zip(pictures, prompts, strict=True):
            if prompt in self.nan:
                picture[0, 0, 0] = np.nan
        return pictures


def test_an_image_that_fails_is_a_row_with_its_reason_and_is_tried_again(tmp_path: Path) -> None:
    drawn = generate(Faulty(), wanted(5, 2), tmp_path, max_failed=0.4)
    rows = [row for path in drawn.shards for row in read_shard(path)]
    failed = {row.prompt: row.reason for row in rows if row.status == "failed"}
    assert failed["prompt 3"] == "ValueError: too strange a prompt"
    assert "not finite" in str(failed["prompt 1"]) and len(failed) == 2
    assert all((row.image is None) == (row.status == "failed") for row in rows) and len(rows) == 10
    assert drawn.failed.total() == 4 and drawn.new == 6
    mended = generate(Fake(), wanted(5, 2), tmp_path)
    fresh = generate(Fake(), wanted(5, 2), tmp_path / "fresh")
    assert mended.new == 4
    assert [path.read_bytes() for path in mended.shards] == [path.read_bytes() for path in fresh.shards]


def test_too_many_failures_fail_the_stage_but_lose_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"models.tiny: 1 of 10 images failed, more than generation.max_failed=0.05"
    ):
        generate(Faulty(), wanted(5, 2), tmp_path, max_failed=0.05, save_seconds=0)
    fake = Fake()
    generate(fake, wanted(5, 2), tmp_path)
    assert len(fake.drawn) == 8, "the two images before the failure were kept"


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    class Small(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
            if len(prompts) > 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
            return super().generate(prompts, seeds)

    small = Small(batch_size=8)
    drawn = generate(small, wanted(3, 3), tmp_path / "a")
    assert max(len(batch) for batch in small.batches) == 2 and drawn.failed.total() == 0
    fresh = generate(Fake(), wanted(3, 3), tmp_path / "b")
    assert [path.read_bytes() for path in drawn.shards] == [path.read_bytes() for path in fresh.shards]


def test_the_number_of_cores_changes_no_bit(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    shards, before, drawn = wanted(5, 3), torch.get_num_threads(), {}
    try:
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            model = DiffusersModel(str(tiny("sd")), steps=2, guidance=5.0, batch_size=4)
            area = ImageCache(tmp_path / str(cores))
            drawn[cores] = [path.read_bytes() for path in generate_images(model, "tiny", shards, area).shards]
            assert torch.get_num_threads() == cores, "the setting is as it was"
    finally:
        torch.set_num_threads(before)
    assert drawn[1] == drawn[2] == drawn[3]


DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
from promptroute.generators.diffusers import DiffusersModel
from promptroute.generators.run import generate_images
from promptroute.io.images import ImageCache, ImageRequest
import diffusers, torch, transformers, PIL.Image, peft
from diffusers import StableDiffusionPipeline  # its modules too, so that a child starts at once

folder, model, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rows = [ImageRequest(f"P{p}", f"a dog {p}", s) for p in range(24) for s in range(3)]
shards = [rows[i : i + 24] for i in range(0, len(rows), 24)]

def run():
    torch.set_num_threads(2)
    generator = DiffusersModel(model, steps=2, guidance=5.0, batch_size=4)
    drawn = generate_images(generator, "tiny", shards, ImageCache(folder), save_seconds=0)
    (folder / "done").write_text(json.dumps([drawn.new, *(path.name for path in drawn.shards)]))

def files():
    return list(folder.glob("*.parquet"))

chance, held = random.Random(0), []
while len(held) < kills:
    child = os.fork()
    if not child:
        run()
        os._exit(0)
    until, end = len(files()) + chance.choice([0, 1, 1, 2, 3]), time.monotonic() + 20
    ended = lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    while len(files()) < until and not ended() and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    held.append(len(files()))
    (folder / "done").unlink(missing_ok=True)
run()
print(json.dumps(held))
"""


def test_killed_at_ten_random_moments_it_ends_as_if_nothing_had_happened(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    def run(folder: Path, kills: int) -> tuple[list[int], int, list[bytes]]:
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DRIVER, str(folder), str(tiny("sd")), str(kills)],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        new, *names = json.loads((folder / "done").read_text())
        return json.loads(done.stdout), new, [(folder / name).read_bytes() for name in names]

    held, new, killed = run(tmp_path / "killed", kills=10)
    _, whole, expected = run(tmp_path / "whole", kills=0)
    assert len(held) == 10 and max(held) > 0
    assert any(a != b for a, b in itertools.pairwise(held)), "the kills fell at different stages of the work"
    assert whole == 72 and new < 72, "what was finished before the last kill was not drawn again"
    assert killed == expected
    left = [path for path in (tmp_path / "killed").iterdir() if path.suffix == ".parquet"]
    assert len(left) == 3, "pieces are gone once their shard is finished"
