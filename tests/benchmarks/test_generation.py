"""The benchmarks of images: what they compare is what they say, and their figures add up."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import consistency, generation, growth, machine, shards
from promptroute.core.errors import UserError
from promptroute.core.image import Image as Row
from promptroute.generators.run import to_png
from promptroute.io.images import read_shard, write_shard
from promptroute.scorers.consistency import semantic_consistency

PLACE = {"machine": "a processor, 1 thread", "cores": 2, "load": 0.5, "nice": 0}


def test_loop_scores() -> None:
    import torch

    # Cosines by hand: 0.6, 0 and -0.8, of which the last counts as 0.
    first = [[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]]
    assert consistency.pair_by_pair(torch.tensor([first])) == pytest.approx([20.0])
    vectors = consistency.embeddings(prompts=400, images=3)
    flat, groups = vectors.reshape(-1, vectors.shape[2]), np.repeat(np.arange(400), 3)
    np.testing.assert_allclose(
        consistency.pair_by_pair(torch.from_numpy(vectors)),
        semantic_consistency(flat, groups, 400),
        atol=1e-4,
    )
    cosines = [cosine for own in vectors for cosine in np.corrcoef(own)[np.triu_indices(3, 1)]]
    assert min(cosines) < 0 and max(cosines) > 0.8, "cosines are both below 0 and near 1"


def test_wrong_score_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        consistency, "semantic_consistency", lambda *given: semantic_consistency(*given) + 0.001
    )
    with pytest.raises(AssertionError, match=r"30 × 3: the two ways differ by 0\.001"):
        consistency.measure(30, 3, 30, rounds=1)


def test_scaled_loop() -> None:
    rows = pd.DataFrame(consistency.measure(40, 3, 20, rounds=2))
    assert "| 40 × 3 (loop on 20, scaled up) | 120 |" in consistency.table(rows)
    rows = rows.assign(looped_prompts=40, loop_s=[2.0, 4.0], ours_s=[0.1, 0.1])
    assert "| 40 × 3 | 120 | 3 | 0.1 | 30 × (20 to 40, 2 rounds) |" in consistency.table(rows)


def test_pixel_differences() -> None:
    left = np.zeros((2, 3, 3), np.uint8)
    right = left.copy()
    right[0, 1] = [0, 200, 3]
    right[1, 2, 0] = 1
    assert generation.pixel_differences(left, right) == (2, 200)
    assert generation.pixel_differences(right, left) == (2, 200), "unsigned numbers do not overflow"


def test_compare(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((3, 4, 4, 3)).astype(np.float32)
    for number, image in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(to_png(image))
    images[1, 0, 0] = 1 - images[1, 0, 0].round()
    rows = [Row("P1", "a", "m", i, "ok", None, 4, 4, to_png(image)) for i, image in enumerate(images)]
    write_shard(tmp_path / "s.parquet", rows)
    found = generation.compare(tmp_path, tmp_path / "s.parquet")
    assert (found["pixels"], found["differ"], found["alike"]) == (48, 1, 2) and found["largest"] > 100
    write_shard(tmp_path / "s.parquet", [Row("P1", "a", "m", 0, "failed", "is broken", None, None, None)])
    with pytest.raises(UserError, match="the image of 'a' with seed 0 is broken"):
        generation.compare(tmp_path, tmp_path / "s.parquet")


def test_rounds() -> None:
    rounds = generation.rounds_of(5, 2, [0, 7])
    assert [len(requests) for requests in rounds] == [10, 10, 10]
    assert [image.seed for image in rounds[0]] == [0, 7] * 5
    texts = [{image.prompt for image in requests} for requests in rounds]
    assert all(len(own) == 5 for own in texts) and len(set.union(*texts)) == 15
    with pytest.raises(UserError, match=r"--prompts 1000 --rounds 2: .* 3000 prompts"):
        generation.rounds_of(1000, 2, [0])


def test_generation_table() -> None:
    row = {
        "steps": 4,
        "batch_size": 8,
        "images": 6,
        "texts": 2,
        "pixels": 1000,
        "differ": 5,
        "largest": 2,
        "alike": 4,
    }
    rows = [
        {
            "model": model,
            "round": turn,
            "plain_s": plain,
            "ours_s": 2.0,
            "plain_cpu_s": 2.0,
            "ours_cpu_s": 1.0,
        }
        | row
        | PLACE
        for model, seconds in (("slow", (12.0, 12.0)), ("fast", (6.0, 8.0)))
        for turn, plain in enumerate(seconds)
    ]
    shown = generation.table(pd.DataFrame(rows)).splitlines()
    assert shown[0].startswith(
        "2 rounds of 6 images (2 prompts with 3 seeds each). a processor, 1 thread; load"
    )
    assert shown[-2:] == [
        "| fast | 4 | 8 | 0.857 | 3 | 3.50 × (3.00 to 4.00) | 2.00 × | 0.5 % | 2 | 8 of 12 |",
        "| slow | 4 | 8 | 0.5 | 3 | 6.00 × (6.00 to 6.00) | 2.00 × | 0.5 % | 2 | 8 of 12 |",
    ]


def test_new_images() -> None:
    said = "x\ngenerate: 660 images of mini-unet on cpu, 60 generated now at 7.50/s, 0 failed\n"
    assert growth.new_images(said) == (60, 8.0)
    assert growth.new_images("generate: 660 images of a on cpu, 0 generated now, 0 failed") == (0, 0.0)
    assert growth.new_images("Stage 'generate@a' didn't change, skipping") == (0, 0.0)


def test_growth_table() -> None:
    rows = [
        ("everything", 30, 100.0, 80.0, 20.0, "sample generate@m embed_prompts embed@m score@clip-m"),
        ("start-up", 0, 7.0, 0.0, np.nan, "generate@m"),
        ("a scorer more", 0, 2.0, 0.0, 5.0, np.nan),
    ]
    names = ["what", "images", "generate_s", "generation_s", "score_s", "ran"]
    shown = growth.table(pd.DataFrame(rows, columns=names).assign(model="m", **PLACE)).splitlines()
    assert shown[-3:] == [
        "| everything | 30 | 100.0 | 100.0 % | 80.0 | 100.0 % | 20.0 | 100.0 % | "
        "sample, generate, embed_prompts, embed, score@clip |",
        "| start-up | 0 | 7.0 | 7.0 % | 0.0 | 0.0 % | – | – | generate |",
        "| a scorer more | 0 | 2.0 | 2.0 % | 0.0 | 0.0 % | 5.0 | 25.0 % | none |",
    ]


def test_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--model sd15: no such small model; choose from mini-unet"):
        growth.Copy(tmp_path, "sd15")


def test_layouts_hold_same_images(tmp_path: Path) -> None:
    rows = shards.images(shards.SHARD_PROMPTS * shards.SEEDS + 3)
    assert len({row.image for row in rows}) == len(rows)
    image = Image.open(io.BytesIO(rows[-1].image or b""))
    image.load()  # a wrong checksum would raise
    assert image.size == (64, 64) and image.info["Comment"] == str(len(rows) - 1)  # type: ignore[attr-defined]
    for layout, write in shards.LAYOUTS.items():
        (tmp_path / layout).mkdir()
        write(rows, tmp_path / layout)
    assert len(list((tmp_path / "shards").iterdir())) == 2
    for row in (row for path in (tmp_path / "shards").iterdir() for row in read_shard(path)):
        assert (tmp_path / "PNG files" / f"{row.prompt_id}-{row.seed}.png").read_bytes() == row.image


def test_dvc_times() -> None:
    rows = pd.DataFrame(shards.measure(9, rounds=1))
    assert rows["files"].tolist() == [9, 1] and (rows["add_cpu_s"] > 0).all()
    shown = shards.table(rows.assign(add_s=[6.0, 2.0], status_s=[2.0, 2.0], start_s=1.0))
    assert "| 8.0 |" in shown and shown.splitlines()[-1].startswith(
        "| ratio |  |  |  | 3.0 × | 1.0 × | 2.0 × |"
    )


def test_failed_command(tmp_path: Path) -> None:
    seconds, said = machine.command(["timeit", "-n1", "-r1", "sum(range(100))"], tmp_path, {})
    assert "loop" in said and (seconds > 0).all()
    with pytest.raises(RuntimeError, match=r"json\.tool absent\.json: exit [12]"):
        machine.command(["json.tool", "absent.json"], tmp_path, {})


def test_machine() -> None:
    place = machine.here(threads=3)
    assert "3 threads" in place["machine"] and place["load"] >= 0
    rows = pd.DataFrame([PLACE, PLACE | {"load": 7.25, "nice": 19}])
    expected = "a processor, 1 thread; load of other work 0.5 to 7.2 on 2 cores, at nice 19."
    assert machine.measured_on(rows) == expected
