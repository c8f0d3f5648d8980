"""A result on disk as `evaluate` writes it, for any number of models and prompt sets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from promptroute.core.image import Image
from promptroute.core.rows import Performance, Prompt
from promptroute.evaluation.evaluation import Judged, evaluate, to_calibrate
from promptroute.evaluation.plots import write_tables
from promptroute.evaluation.search import outcome
from promptroute.io.files import write_json
from promptroute.io.images import write_shard
from promptroute.io.scores import write_scores
from promptroute.io.tables import write_table
from promptroute.routing.base import Policy, Training
from promptroute.routing.policies import CostAware
from promptroute.routing.search_policy import Search
from tests.report.made import Report, report_of


def judged_of(
    true: np.ndarray,
    predicted: np.ndarray,
    prices: tuple[float, float],
    search: Search | None,
    images: np.ndarray | None,
) -> Judged:
    """Judge a router of m models: `search` where that is given, calibrated on the first half of the prompts."""
    half, cost = slice(0, len(true) // 2), 1e-5 * np.linspace(*prices, true.shape[1])
    training = Training(look=1e-6, images=None if images is None else images[half])

    def calibrated(policy: Policy) -> Policy:
        return policy.calibrate(predicted[half], true[half], cost, training)

    found = {name: calibrated(policy) for name, policy in to_calibrate(search or CostAware()).items()}
    own = calibrated(search) if search else found["cost_aware_quality"]
    names = [f"m{k}" for k in range(len(cost))]
    judged = Judged(
        predicted, true, {"nima.mean": true}, cost, names, own.choose(predicted, cost), own, found, images=images,
        seconds=1e5 * cost,
    )  # fmt: skip
    return (
        replace(judged, decided=outcome(own, judged.known).replays[0].kept)
        if isinstance(own, Search)
        else judged
    )


def write_result(
    folder: Path,
    *,
    labels: list[str] | None = None,
    models: int = 4,
    sets: tuple[str, ...] = ("A", "B"),
    n: int = 120,
    noise: float = 0.3,
    texts: list[str] | None = None,
    predictions: Callable[[np.ndarray], np.ndarray] | None = None,
    search: Search | None = None,
    seeds: int = 0,
    prices: tuple[float, float] = (1, 10),
) -> Path:
    """Write metrics/ and data/prompts.parquet below `folder`; returns the folder of the metrics.

    True quality is around 5, rising with the model's price; `noise` (in quality) spoils the prediction. The router
    is `search`, where that is given; single images' scores are known where there are `seeds`.
    """
    rng = np.random.default_rng(7)
    labels = labels or [f"Model {k}" for k in range(models)]
    true = 5 + rng.normal(0, 0.5, (n, len(labels))) + np.linspace(0, 0.5, len(labels))
    predicted = predictions(true) if predictions else true + rng.normal(0, noise, true.shape)
    images = true[:, :, None] + rng.normal(0, 0.4, (*true.shape, seeds)) if seeds else None
    judged = judged_of(true, predicted, prices, search, images)
    side = np.array([sets[i % len(sets)] for i in range(n)])
    ids = np.array([f"{name}{i}" for i, name in enumerate(side)])

    def measured(rows: np.ndarray) -> dict[str, Any]:
        return evaluate(judged.take(rows), resamples=60, seed=0)

    result = {
        "labels": dict(zip(judged.models, labels, strict=True)),
        "score": "nima.mean",
        **measured(np.arange(n)),
        "sets": {name: measured(np.flatnonzero(side == name)) for name in sets},
    }
    write_json(folder / "metrics" / "evaluate.json", result)
    data = folder / "data"
    write_tables(data / "evaluation", judged, labels, ids)
    prompts = pd.DataFrame({"prompt_id": ids, "prompt": texts or [f"prompt number {i}" for i in range(n)]})
    write_table(data / "prompts.parquet", prompts.assign(set=side, count=1), Prompt)
    rows = pd.DataFrame({"prompt_id": np.repeat(ids, len(labels)), "model": [*judged.models] * n})
    rows = rows.assign(score="nima.mean", mean=true.reshape(-1), std=0.1, n=3, seconds=np.nan)
    write_table(data / "performance.parquet", rows, Performance, ("prompt_id", "model", "score"))
    return folder / "metrics"


FAILED = 1
"""The seed whose image failed, in `write_images`."""


def write_images(folder: Path, models: tuple[str, ...] = ("m0", "m1", "m2", "m3"), side: int = 16) -> None:
    """Write three images of every prompt and model below `folder`, the second one failed, and NIMA scores of them."""
    import io

    from PIL import Image as Pillow

    prompts = pd.read_parquet(folder / "data" / "prompts.parquet")
    for number, model in enumerate(models):
        rows = []
        for place, (prompt_id, prompt) in enumerate(
            zip(prompts["prompt_id"], prompts["prompt"], strict=True)
        ):
            for seed in range(3):
                out = io.BytesIO()
                Pillow.new("RGB", (side, side), (60 * number, 80 * seed, place)).save(out, "PNG")
                fine = seed != FAILED
                rows.append(
                    Image(
                        prompt_id, prompt, model, seed, "ok" if fine else "failed", None if fine else "<b>too hot</b>",
                        side if fine else None, side if fine else None, out.getvalue() if fine else None,
                    )
                )  # fmt: skip
        images = folder / "data" / "images" / model
        images.mkdir(parents=True)
        half = 3 * (len(prompts) // 2)
        write_shard(images / "part-00000.parquet", rows[:half])
        write_shard(images / "part-00001.parquet", rows[half:])
        fine_rows = [row for row in rows if row.status == "ok"]
        scores = pd.DataFrame(
            {
                "prompt_id": [row.prompt_id for row in fine_rows],
                "seed": pd.array([row.seed for row in fine_rows], "Int64"),
                "output": "mean",
                "value": [5 + number + row.seed / 10 for row in fine_rows],
                "images": 1,
                "seconds": pd.array([None] * len(fine_rows), "Float64"),
            }
        )
        about = {"scorer": "nima", "model": model}
        write_scores(folder / "data" / "scores" / "nima" / model / "scores.parquet", scores, about)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A result of four models and two prompt sets; its folder of metrics."""
    return write_result(tmp_path)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return the report of such a result, without images."""
    return report_of(write_result(tmp_path_factory.mktemp("report")))


@pytest.fixture(scope="session")
def illustrated(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return the report of such a result, with images."""
    metrics = write_result(tmp_path_factory.mktemp("illustrated"))
    write_images(metrics.parent)
    return report_of(metrics)


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return the report of a search over four models with three images of each."""
    metrics = write_result(tmp_path_factory.mktemp("searched"), n=60, search=Search(target="cost"), seeds=3)
    write_images(metrics.parent)
    return report_of(metrics)
