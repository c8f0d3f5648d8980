"""POST /next as a gateway sees it: a real server, asked over a real connection."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptroute.router.router import Router
from tests.service.conftest import SMALL, Service, Start

NAMES = ("expensive", "middle", "cheap")


@pytest.fixture(scope="module")
def searching(start: Start, search_folder: Path) -> Iterator[Service]:
    """A service that searches, with small limits."""
    with start(search_folder, *SMALL) as running:
        yield running


@pytest.fixture(scope="module")
def own(search_folder: Path) -> Router:
    """The same router in this process."""
    return Router.load(search_folder)


def test_step(searching: Service, own: Router) -> None:
    (step,) = searching.next("a robot at night").json["steps"]
    assert step == asdict(own.next("a robot at night")) and step["model"] == "middle"
    (step,) = searching.next("a robot at night", seen=[{"middle": 6.2}]).json["steps"]
    assert (step["model"], step["keep"]) == (None, "middle") and step["reason"].endswith(": keep it")


def test_gateway_loop(searching: Service, own: Router) -> None:
    """What the documentation shows: ask, generate, score, ask again; the first image fails."""
    prompt, images, seen = "a logo by the sea", {"expensive": 4.9, "middle": 5.0, "cheap": None}, {}
    while (step := searching.next(prompt, seen=[seen]).json["steps"][0])["model"]:
        assert step["model"] not in seen
        seen[step["model"]] = images[step["model"]]
    assert next(iter(seen)) == "cheap" and step["keep"] == max(
        (name for name in seen if seen[name] is not None), key=lambda name: seen[name] or 0
    )


def test_models(searching: Service) -> None:
    steps = searching.next("a robot", "a portrait", models=["cheap"]).json["steps"]
    assert [step["model"] for step in steps] == ["cheap", "cheap"]
    steps = searching.next("a robot", seen=[{"cheap": {"nima": 4.0}}], models=["cheap"]).json["steps"]
    assert steps[0]["model"] is None and steps[0]["price"] is None


scores = st.floats(-20, 20) | st.integers(-5, 9) | st.none()
asked = st.tuples(
    st.sampled_from(["a robot", "a portrait at night", "🦊"]), st.dictionaries(st.sampled_from(NAMES), scores)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(asked, min_size=1, max_size=8))
def test_batch_is_one_by_one(searching: Service, own: Router, many: list[tuple[str, dict[str, Any]]]) -> None:
    answer = searching.next(*(prompt for prompt, _ in many), seen=[seen for _, seen in many])
    assert answer.status == 200, answer.body
    for (prompt, seen), step in zip(many, answer.json["steps"], strict=True):
        expected = own.next(prompt, seen)
        assert (step["model"], step["keep"]) == (expected.model, expected.keep)
        for name in ("reservation", "expected_gain", "price"):
            assert step[name] == pytest.approx(getattr(expected, name), abs=1e-9)


GOOD = {"prompts": ["a robot"]}
BAD: list[tuple[str, Any, str]] = [
    ("an unknown model", {**GOOD, "seen": [{"dall-e": 5.0}]}, "seen: model 'dall-e' is unknown; expected some of expensive, middle, cheap (prompt 1 of 1)"),
    ("NaN", {**GOOD, "seen": [{"cheap": float("nan")}]}, "seen: the score of cheap is nan; expected a finite number"),
    ("infinity", {**GOOD, "seen": [{"cheap": float("inf")}]}, "the score of cheap is inf"),
    ("a bool", {**GOOD, "seen": [{"cheap": True}]}, "the score of cheap is True"),
    ("text", {**GOOD, "seen": [{"cheap": "5"}]}, "the score of cheap is '5'"),
    ("nested", {**GOOD, "seen": [{"cheap": {"nima": [[[[]]]]}}]}, "nima of cheap is a list"),
    ("two images", {**GOOD, "seen": [{"cheap": [5.0, 6.0]}]}, "2 images of cheap; the router asks for 1"),
    ("another score", {**GOOD, "seen": [{"cheap": {"clip": 5.0}}]}, "cheap has the scores ['clip']; expected nima"),
    ("the second", {"prompts": ["a", "b"], "seen": [{}, {"x": 1}]}, "model 'x' is unknown; expected some of expensive, middle, cheap (prompt 2 of 2)"),
    ("too few", {"prompts": ["a", "b"], "seen": [{}]}, "seen has 1 entries for 2 prompts; expected one for each"),
    ("no list", {**GOOD, "seen": {"cheap": 5.0}}, "seen: should be a valid list"),
    ("no object", {**GOOD, "seen": [5.0]}, "seen[0]: should be a valid dictionary"),
    ("an operating point", {**GOOD, "tradeoff": 5.0}, "field 'tradeoff' is unknown; expected some of prompts, seen, models"),
    ("no such model", {**GOOD, "models": ["dall-e"]}, "model 'dall-e' is unknown"),
    ("no model", {**GOOD, "models": []}, "models is empty; give at least one"),
    ("an empty prompt", {"prompts": [" "], "seen": [{}]}, "prompt 1 of 1 (' ') is empty"),
    ("many prompts", {"prompts": ["x"] * 9}, "9 prompts; at most 8 a request"),
    ("a long prompt", {"prompts": ["x" * 301]}, "has 301 characters; at most 300"),
    ("no prompts", {"seen": [{}]}, "prompts is missing; give a list of texts"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_refused(searching: Service, body: Any, message: str) -> None:
    answer = searching.ask("/next", json.dumps(body).encode())
    assert answer.status == 422 and message in answer.json["error"] and "\n" not in answer.json["error"]


def test_policy_that_cannot_look(service: Service) -> None:
    answer = service.next("a robot")
    assert answer.status == 422
    assert answer.json["error"].startswith(
        "the policy cost-aware, to keep quality decides before it sees an image"
    )


def test_other_ways(searching: Service) -> None:
    answer = searching.ask("/next")
    assert answer.status == 405 and answer.headers["Allow"] == "POST"
    assert searching.ask("/next", b"{}", kind="text/plain").status == 415
    assert searching.ask("/next", json.dumps(GOOD).encode(), Origin="http://evil.example").status == 403
    assert searching.ask("/next", b"[" * 9000).status == 400


def test_metrics(start: Start, search_folder: Path) -> None:
    with start(search_folder) as service:
        service.next("a robot", "a logo")
        service.next("a robot", seen=[{"middle": 7.0}])
        text = service.ask("/metrics").body.decode().splitlines()
    assert 'promptroute_images_total{model="middle"} 1.0' in text
    assert 'promptroute_images_total{model="cheap"} 1.0' in text
    assert 'promptroute_kept_total{model="middle"} 1.0' in text
    assert 'promptroute_kept_total{model="expensive"} 0.0' in text
    assert 'promptroute_requests_total{code="200",path="/next"} 2.0' in text


def test_described(searching: Service) -> None:
    about = searching.ask("/openapi.json").json
    assert set(about["paths"]) >= {"/route", "/next"}
    health = searching.ask("/healthz").json["policy"]
    assert health["look"] == 1e-5 and health["operating_point"]["value"] == 100
