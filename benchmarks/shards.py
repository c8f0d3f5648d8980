"""Images under DVC: parquet shards, as the generate stage writes them, against a file an image.

    python -m benchmarks.shards                           20,000 small PNG images, three rounds
    python -m benchmarks.shards --quick                   1,000 images, one round; writes no results
    python -m benchmarks.shards --table                   only print the table of benchmarks/results/shards.csv

Both layouts alternate, each time in a new repository with its own cache: `dvc add` of the folder, then `dvc status`.
Writing the images is not timed. *Start-up* is `dvc status` in the empty repository, which both layouts include.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import command, dvc_environment, here, measured_on
from benchmarks.reporting import RESULTS, markdown, options, run
from promptroute.core.image import Image
from promptroute.generators.run import to_png
from promptroute.io.images import write_shard
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "shards.csv"
SEEDS = 3
SHARD_PROMPTS = 200  # conf/generation/default.yaml
SIDE = 64  # pixels, of the small models' images
DISTINCT = 100


def numbered(png: bytes, number: int) -> bytes:
    """Add a text chunk before a PNG's last chunk (12 bytes), so that no two files are equal."""
    chunk = b"tEXtComment\0" + str(number).encode()
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:-12] + framed + png[-12:]


def images(n: int) -> list[Image]:
    """Make n rows of different images: gradients with a little noise, about as large as generated ones of 64 × 64."""
    from PIL import Image as Pillow

    random = np.random.default_rng(0)
    encoded = []
    for _ in range(min(n, DISTINCT)):
        coarse = Pillow.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((SIDE, SIDE))
        grain = random.normal(0, 1 / 255, (SIDE, SIDE, 3))
        encoded.append(to_png(np.clip(np.asarray(coarse) / 255 + grain, 0, 1).astype(np.float32)))
    return [
        Image(
            f"P{i // SEEDS:07d}",
            f"prompt {i // SEEDS}",
            "model",
            i % SEEDS,
            "ok",
            None,
            SIDE,
            SIDE,
            numbered(encoded[i % len(encoded)], i),
        )
        for i in range(n)
    ]


def as_shards(rows: Sequence[Image], folder: Path) -> None:
    """Write as the generate stage: a parquet file for every 200 prompts."""
    size = SHARD_PROMPTS * SEEDS
    for number, start in enumerate(range(0, len(rows), size)):
        write_shard(folder / f"part-{number:05d}.parquet", rows[start : start + size])


def as_files(rows: Sequence[Image], folder: Path) -> None:
    """Write a PNG file an image."""
    for row in rows:
        (folder / f"{row.prompt_id}-{row.seed}.png").write_bytes(row.image or b"")


LAYOUTS: dict[str, Callable[[Sequence[Image], Path], None]] = {
    "PNG files": as_files,
    "shards": as_shards,
}


def time_layout(way: str, rows: Sequence[Image]) -> dict[str, Any]:
    """Time DVC's commands in a new repository."""
    with TemporaryDirectory() as made:
        environment, project = dvc_environment(Path(made)), Path(made) / "project"
        folder = project / "images"
        folder.mkdir(parents=True)
        command(["dvc", "init", "--no-scm", "--quiet"], project, environment)
        start, _ = command(["dvc", "status"], project, environment)
        LAYOUTS[way](rows, folder)
        add, _ = command(["dvc", "add", "--quiet", "images"], project, environment)
        status, said = command(["dvc", "status"], project, environment)
        if "up to date" not in said:
            raise AssertionError(f"{way}: dvc status right after dvc add says {said!r}")
        files = [path.stat().st_size for path in folder.iterdir()]
    return {
        "way": way,
        "images": len(rows),
        "files": len(files),
        "megabytes": sum(files) / 1e6,
        "start_s": start[0],
        "add_s": add[0],
        "status_s": status[0],
        "start_cpu_s": start[1],
        "add_cpu_s": add[1],
        "status_cpu_s": status[1],
    }


def measure(n: int, rounds: int) -> list[dict[str, Any]]:
    """Return rows, one for each round and layout."""
    place = here(threads=1)
    rows = images(n)
    for way in LAYOUTS:  # warm-up
        time_layout(way, rows[:10])
    return [{"round": turn, **time_layout(way, rows), **place} for turn in range(rounds) for way in LAYOUTS]


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: medians over rounds; then how many times as long a file an image takes."""
    head = (
        "way | files | MB | start-up, s | `dvc add`, s | `dvc status`, s | both, s | both, CPU s | "
        "both without start-up, CPU s"
    )
    rows = rows.assign(
        both_s=rows["add_s"] + rows["status_s"],
        both_cpu_s=rows["add_cpu_s"] + rows["status_cpu_s"],
        net_cpu_s=rows["add_cpu_s"] + rows["status_cpu_s"] - 2 * rows["start_cpu_s"],
    )
    figures = ["start_s", "add_s", "status_s", "both_s", "both_cpu_s", "net_cpu_s"]
    lines = []
    for way, own in rows.groupby("way", sort=False):
        lines.append(
            [
                str(way),
                f"{own['files'].iloc[0]:,}",
                f"{own['megabytes'].iloc[0]:.0f}",
                *(f"{own[name].median():.1f}" for name in figures),
            ]
        )
    by_round = rows.pivot(index="round", columns="way")
    many, few = LAYOUTS
    ratios = [(by_round[name][many] / by_round[name][few]).median() for name in figures[1:]]
    lines.append(["ratio", "", "", "", *(f"{ratio:.1f} ×" for ratio in ratios)])
    about = f"{rows['images'].iloc[0]:,} images, {rows['round'].nunique()} rounds. {measured_on(rows)}"
    return f"{about}\n\n{markdown(head, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("shards", __doc__, quick="1,000 images, one round")
    parser.add_argument("--images", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    return run(
        parser,
        arguments,
        CSV,
        lambda chosen: measure(1_000, 1) if chosen.quick else measure(chosen.images, chosen.rounds),
        table,
    )


if __name__ == "__main__":
    run_stage(main)
