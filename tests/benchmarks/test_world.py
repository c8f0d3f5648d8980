"""The benchmark of the small world, on a small world made of numbers whose truth is known."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import study, world
from mini.captions import sample_captions
from mini.scenes import render
from promptroute.core.batch import PromptBatch
from promptroute.core.image import Image as Row
from promptroute.encoders.embed import ImageShard
from promptroute.io.images import write_shard
from promptroute.routing.search import Replayed

WORDS = ("red", "two", "text")


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def made(n: int = 60, m: int = 4, k: int = 2) -> world.World:
    """Prompts of three kinds, each with a model that is best at it; a score that the checker agrees with, and luck."""
    random = np.random.default_rng(0)
    which = np.arange(n) % 3
    true = 0.6 + 0.2 * (which[:, None] == np.arange(m)) + random.normal(0, 0.05, (n, m))
    right = np.clip(true[:, :, None] + random.normal(0, 0.05, (n, m, k)), 0, 1)
    scores = {"nima.mean": 2 + 5 * right, "clip.score": 100 * right + random.normal(0, 2, right.shape)}
    texts = [f"{WORDS[kind]} number {i} of {i % 7}" for i, kind in enumerate(which)]
    return world.World(
        PromptBatch(texts, {}), which.astype(str), np.array([4.0, 2, 2, 1]) * 1e-6, scores, right,
        np.zeros((n, m, k, 2), np.float32), np.zeros((n, 2), np.float32),
    )  # fmt: skip


class TestChecks:
    def test_scenes_are_right(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        captions = sample_captions("labels", 2, 3, distinct=True)
        images = [png(render(captions[0].scene)), png(render(captions[1].scene))]
        rows = [
            Row(f"p{seed}", captions[0].text, "m", seed, "ok", None, 64, 64, image)
            for seed, image in enumerate(images)
        ]
        write_shard(tmp_path / "part.parquet", rows, "x")
        work = world.CheckImages({captions[0].text: captions[0].statement})
        shard = ImageShard.of(tmp_path / "part.parquet")
        work(shard)
        assert work.is_done(shard)
        right = work.make(shard).column("right").to_pylist()
        assert right[0] == 1 and right[1] < 1  # its own scene, and another caption's


def test_judged_by_hand() -> None:
    images = np.array([[[5.0, 1.0], [2.0, 4.0]]])  # a prompt, two models, two images
    right = images / 10
    replayed = [
        Replayed(np.array([[0, 1]]), np.array([0]), np.array([5.0]), np.array([3.0])),
        Replayed(np.array([[1, -1]]), np.array([1]), np.array([4.0]), np.array([1.0])),
    ]
    found = world.judged(replayed, images, right)
    assert found.cost.tolist() == [2.0]
    wanted = {"score": 4.5, "fresh": 1.5, "right": 0.45, "fresh_right": 0.15}
    assert {name: float(values[0]) for name, values in found.judged.items()} == pytest.approx(wanted)


def test_budget_between_tradeoffs() -> None:
    tradeoffs, spent = np.array([100.0, 10.0, 1.0]), np.array([1.0, 2.0, 4.0])
    assert world.at_budget(tradeoffs, spent, 3.0) == pytest.approx(np.sqrt(10))
    assert world.at_budget(tradeoffs, spent, 9.0) == pytest.approx(1.0)
    assert world.at_budget(tradeoffs, spent, 0.5) == pytest.approx(100.0)


def test_lead_at_equal_cost() -> None:
    """Two budgets, n = 2: read off halfway, the lead is the difference of what both reach there."""
    cost = np.array([1.0, 2.0])
    before = np.zeros((2, 2, 1 + len(world.JUDGES)))
    before[:, :, 0] = [1.0, 2.0]
    before[:, 1, 1:] = 1.0  # 0 at 1 dollar, 1 at 2
    better = before.copy()
    better[:, :, 1:] += 0.25
    found = {
        (name, share, figure): value.estimate
        for name, share, figure, value in world.compared({world.BEFORE: before, world.SEARCH: better}, cost)
    }
    assert found[world.BEFORE, 0.75, "score"] == pytest.approx(0.5)
    assert found[world.SEARCH, 0.75, "score"] == pytest.approx(0.75)
    assert found[world.SEARCH, 0.75, "score lead"] == pytest.approx(0.25)


def test_search_leads_where_the_checker_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(world, "CSV", tmp_path / "world.csv")
    monkeypatch.setattr(study, "text_of", lambda predictor: "none")
    monkeypatch.setattr(world, "world", lambda prompts, text: made(prompts))
    for name, value in (("POINTS", 4), ("FOLDS", 2), ("TRUSTS", (1.0,)), ("RESAMPLES", 100)):
        monkeypatch.setattr(world, name, value)
    world.settings.cache_clear()
    printed = world.main(["--prompts", "120", "--scores", "clip", "--predictor", "mean"])
    rows = pd.read_csv(world.CSV).set_index(["policy", "share", "figure"])["estimate"]
    assert rows[world.SEARCH, 1.0, "right lead"] > 0.02 and rows[world.SEARCH, 1.0, "score lead"] > 2
    assert rows[world.SEARCH, 1.0, "fresh_right"] < rows[world.SEARCH, 1.0, "right"]
    again = world.main(["--table"])  # of six digits, so that a last one shown may differ
    assert len(again.splitlines()) == len(printed.splitlines())
