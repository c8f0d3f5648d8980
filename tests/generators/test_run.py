"""A study is generated once, whatever happens to it: kills, growth, failures, other studies beside it."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from promptroute.core.errors import UserError
from promptroute.generators.base import Generated
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.run import StudyImages, checked, generate_images, to_png
from promptroute.io.images import ImageCache, ImageRequest, read_shard
from promptroute.runtime.batching import Failure
from promptroute.runtime.executors import InProcess, Threads
from tests.generators.conftest import Fake

ROOT = Path(__file__).parents[2]


def requests(prompts: int, seeds: int, per_shard: int = 3) -> list[list[ImageRequest]]:
    rows = [ImageRequest(f"P{p}", f"prompt {p}", s) for p in range(prompts) for s in range(seeds)]
    return [list(rows[i : i + per_shard * seeds]) for i in range(0, len(rows), per_shard * seeds)]


def generate(fake: Fake, shards: list[list[ImageRequest]], folder: Path, **options: Any) -> StudyImages:
    cache = ImageCache(folder)
    with cache.in_use() as finished:
        study = generate_images(fake, "tiny", shards, cache, **options)
        finished += study.shards
    return study


def test_rows_keep_the_order(tmp_path: Path) -> None:
    fake, shards = Fake(), requests(4, 2)
    study = generate(fake, shards, tmp_path)
    assert (study.images, study.now.new, study.now.failed.total()) == (8, 8, 0)
    for path, shard in zip(study.shards, shards, strict=True):
        rows = read_shard(path)
        assert [(row.prompt_id, row.prompt, row.seed) for row in rows] == shard
        for row in rows:
            assert row.image == to_png(fake.image(row.prompt, row.seed))
            assert (row.model, row.status, row.reason, row.width, row.height) == ("tiny", "ok", None, 3, 2)


def test_png_rounding() -> None:
    import io

    from diffusers.image_processor import VaeImageProcessor
    from PIL import Image

    image = np.random.default_rng(0).random((5, 4, 3), np.float32)
    theirs = VaeImageProcessor.numpy_to_pil(image)[0]
    assert Image.open(io.BytesIO(to_png(image))).tobytes() == theirs.tobytes()


def test_nothing_twice(tmp_path: Path) -> None:
    first = generate(Fake(), requests(5, 2), tmp_path)
    before = [path.read_bytes() for path in first.shards]
    again = Fake()
    second = generate(again, requests(5, 2), tmp_path)
    assert not again.batches and second.now.new == 0
    assert [path.read_bytes() for path in second.shards] == before


@pytest.mark.parametrize(
    ("then", "new"),
    [
        (requests(7, 2), 4),  # more prompts
        (requests(5, 3), 5),  # one seed more
        (requests(5, 2, per_shard=2), 0),  # other shards
        (requests(3, 1), 0),  # less of both
    ],
)
def test_growth(tmp_path: Path, then: list[list[ImageRequest]], new: int) -> None:
    generate(Fake(), requests(5, 2), tmp_path / "grown")
    fake = Fake()
    grown = generate(fake, then, tmp_path / "grown")
    assert len(fake.asked) == grown.now.new == new
    fresh = generate(Fake(), then, tmp_path / "fresh")
    assert [path.read_bytes() for path in grown.shards] == [path.read_bytes() for path in fresh.shards]


def test_cache_has_each_image_once(tmp_path: Path) -> None:
    generate(Fake(), requests(5, 2), tmp_path, save_seconds=0)
    generate(Fake(), requests(5, 3), tmp_path, save_seconds=0)
    rows = [row for path in tmp_path.glob("*.parquet") for row in read_shard(path)]
    assert len(rows) == len({(row.prompt, row.seed) for row in rows}) == 15


def test_duplicate_text(tmp_path: Path) -> None:
    fake = Fake()
    study = generate(fake, [[ImageRequest("A1", "a dog", 0), ImageRequest("B1", "a dog", 0)]], tmp_path)
    assert fake.asked == [("a dog", 0)]
    one, two = read_shard(study.shards[0])
    assert (one.prompt_id, two.prompt_id) == ("A1", "B1") and one.image == two.image


class Faulty(Fake):
    """Gives no finite image for the prompts in `nan`, and an error for those in `error`."""

    nan: list[str] = Field(["prompt 1"])
    error: list[str] = Field(["prompt 3"])

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
        if set(prompts) & set(self.error):
            raise ValueError("too strange a prompt\nsecond line")
        images = super().generate(prompts, seeds)
        for image, prompt in zip(images, prompts, strict=True):
            if prompt in self.nan:
                image[0, 0, 0] = np.nan
        return images


def test_failure_is_retried(tmp_path: Path) -> None:
    study = generate(Faulty(), requests(5, 2), tmp_path, max_failed=0.4)
    rows = [row for path in study.shards for row in read_shard(path)]
    failed = {row.prompt: row.reason for row in rows if row.status == "failed"}
    assert failed["prompt 3"] == "ValueError: too strange a prompt"
    assert "not finite" in str(failed["prompt 1"]) and len(failed) == 2
    assert all((row.image is None) == (row.status == "failed") for row in rows) and len(rows) == 10
    assert study.now.failed.total() == 4 and study.now.new == 6
    fixed = generate(Fake(), requests(5, 2), tmp_path)
    fresh = generate(Fake(), requests(5, 2), tmp_path / "fresh")
    assert fixed.now.new == 4
    assert [path.read_bytes() for path in fixed.shards] == [path.read_bytes() for path in fresh.shards]


def test_too_many_failures(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"models.tiny: 1 of 10 images failed, more than generation.max_failed=0.05"
    ):
        generate(Faulty(), requests(5, 2), tmp_path, max_failed=0.05, save_seconds=0)
    fake = Fake()
    generate(fake, requests(5, 2), tmp_path)
    assert len(fake.asked) == 8, "the two images before the failure were kept"


def test_out_of_memory(tmp_path: Path) -> None:
    class Small(Fake):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            if len(prompts) > 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
            return super().generate(prompts, seeds)

    small = Small(batch_size=8)
    study = generate(small, requests(3, 3), tmp_path / "a")
    assert max(len(batch) for batch in small.batches) == 2 and study.now.failed.total() == 0
    fresh = generate(Fake(), requests(3, 3), tmp_path / "b")
    assert [path.read_bytes() for path in study.shards] == [path.read_bytes() for path in fresh.shards]


def test_compiled_batches_have_one_size(tmp_path: Path) -> None:
    class Compiled(Fake):
        @property
        def one_size(self) -> bool:
            return True

        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            if len(prompts) > 4:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
            return super().generate(prompts, seeds)

    compiled = Compiled(batch_size=8)
    study = generate(compiled, requests(5, 3), tmp_path / "a")
    assert {len(batch) for batch in compiled.batches} == {4} and study.now.failed.total() == 0
    fresh = generate(Fake(), requests(5, 3), tmp_path / "b")
    assert [path.read_bytes() for path in study.shards] == [path.read_bytes() for path in fresh.shards]


def test_threads_outlive_shards(tmp_path: Path) -> None:
    import threading

    class Noting(Fake):
        streams: int = 2

        def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:
            threads.add(threading.current_thread())
            return super().generate(prompts, seeds)

    for executor in (InProcess(), Threads(workers=2)):
        threads: set[threading.Thread] = set()
        study = generate(Noting(), requests(12, 2), tmp_path / type(executor).__name__, executor=executor)
        assert len(threads) <= 2 and threading.main_thread() not in threads
        assert study.now.new == 24 and len(study.shards) == 4


def test_cores_change_no_bit(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    shards, before, study = requests(5, 3), torch.get_num_threads(), {}
    try:
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            model = DiffusersModel(model=str(tiny("sd")), steps=2, guidance=5.0, batch_size=4)
            area = ImageCache(tmp_path / str(cores))
            study[cores] = [path.read_bytes() for path in generate_images(model, "tiny", shards, area).shards]
            assert torch.get_num_threads() == cores, "the setting is as it was"
    finally:
        torch.set_num_threads(before)
    assert study[1] == study[2] == study[3]


DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.base import Generated
from promptroute.generators.run import generate_images
from promptroute.io.images import ImageCache, ImageRequest
import diffusers, torch, transformers, PIL.Image, peft
from diffusers import StableDiffusionPipeline  # its modules too, so that a child starts at once

model, kills = sys.argv[3], 10
rows = [ImageRequest(f"P{p}", f"a dog {p}", s) for p in range(24) for s in range(3)]
shards = [rows[i : i + 24] for i in range(0, len(rows), 24)]

def run(folder):
    torch.set_num_threads(2)
    generator = DiffusersModel(model=model, steps=2, guidance=5.0, batch_size=4)
    cache = ImageCache(folder)
    with cache.in_use() as finished:
        study = generate_images(generator, "tiny", shards, cache, save_seconds=0)
        finished += study.shards
    (folder / "done").write_text(json.dumps([study.now.new, *(path.name for path in study.shards)]))

folder, whole = Path(sys.argv[1]), Path(sys.argv[2])
files = lambda: list(folder.glob("*.parquet"))
chance, held = random.Random(0), []
while len(held) < kills:
    child = os.fork()
    if not child:
        run(folder)
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
run(folder)
run(whole)
print(json.dumps(held))
"""


@pytest.mark.slow
def test_kill_resumes(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, *map(str, folders), str(tiny("sd"))],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    held = json.loads(done.stdout)

    def finished(folder: Path) -> tuple[int, list[bytes]]:
        new, *names = json.loads((folder / "done").read_text())
        return new, [(folder / name).read_bytes() for name in names]

    (new, killed), (whole, expected) = map(finished, folders)
    assert len(held) == 10 and max(held) > 0
    assert any(a != b for a, b in itertools.pairwise(held)), "the kills fell at different stages of the work"
    assert whole == 72 and new < 72, "what was finished before the last kill was not generated again"
    assert killed == expected
    left = [path for path in (tmp_path / "killed").iterdir() if path.suffix == ".parquet"]
    assert len(left) == 3, "pieces are gone once their shard is finished"


class Flat(Fake):
    """Gives an image of one colour for prompt 0, and says that prompt 1 is cut by three tokens."""

    def image(self, prompt: str, seed: int) -> np.ndarray:
        image = super().image(prompt, seed)
        return np.full_like(image, 0.2) if prompt == "prompt 0" else image

    def truncated(self, prompts: list[str]) -> list[int | None]:
        return [3 if prompt == "prompt 1" else 0 for prompt in prompts]


def test_one_colour_is_a_failure(tmp_path: Path) -> None:
    study = generate(Flat(), requests(3, 1), tmp_path, max_failed=0.4)
    (rows,) = map(read_shard, study.shards)
    assert [row.reason for row in rows] == ["the model gave an image of one colour", None, None]
    assert [row.truncated for row in rows] == [None, 3, 0]


@pytest.mark.parametrize(
    ("low", "high", "fails"), [(0, 0, True), (1, 1, True), (0.5, 0.5004, True), (0.5, 0.51, False)]
)
def test_one_colour_in_8_bits(low: float, high: float, fails: bool) -> None:
    image = np.full((4, 4, 3), low, np.float32)
    image[1, 2, 1] = high
    found = checked(image)
    assert isinstance(found, Failure) == fails
    assert isinstance(checked(to_png(image)), Failure) == fails
    assert isinstance(checked((255 * image).round().astype(np.uint8)), Failure) == fails


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.arange(48, dtype=np.float32).reshape(4, 4, 3), "outside of 0 to 1"),
        (np.linspace(-1, 1, 48, dtype=np.float32).reshape(4, 4, 3), "outside of 0 to 1"),
        (np.arange(16, dtype=np.float32).reshape(4, 4) / 16, "not .height, width, 3."),
        (np.zeros((0, 4, 3), np.float32), "not .height, width, 3."),
    ],
)
def test_no_image(image: np.ndarray, reason: str) -> None:
    """Else its values wrap around in 8 bits."""
    found = checked(image)
    assert isinstance(found, Failure) and re.search(reason, found.reason)


def test_rounding_beyond_the_range() -> None:
    image = np.linspace(-1e-6, 1 + 1e-6, 48, dtype=np.float32).reshape(4, 4, 3)
    assert checked(image) is image


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    image = np.random.default_rng(0).random((4, 4, 3), np.float32)
    image[1, 2, 1] = value
    assert checked(image) == Failure("the model gave values that are not finite")
