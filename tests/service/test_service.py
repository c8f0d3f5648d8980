"""The service as a client sees it: a real server, asked over a real connection."""

import concurrent.futures
import dataclasses
import json
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptroute.router.router import Router
from promptroute.routing.base import Policy
from promptroute.routing.guarantees import Guarantee
from promptroute.routing.policies import Guaranteed
from promptroute.routing.wrappers import WithOodFallback
from tests.service.conftest import MODELS, Service, Start


def still_answers(service: Service) -> bool:
    return service.ask("/healthz").status == 200 and service.route("a robot").status == 200


# What it answers


def test_decision(service: Service, router_folder: Path) -> None:
    answer = service.route("a robot at night")
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    (decision,) = answer.json["decisions"]
    assert list(decision) == ["model", "cost", "quality", "costs", "reason"]
    assert decision["costs"] == {model.name: model.cost for model in MODELS}
    (expected,) = Router.load(router_folder).route(["a robot at night"])
    assert expected.model == "middle", "the little table should have taught this"
    assert (decision["model"], decision["cost"]) == (expected.model, expected.cost)
    assert decision["reason"] == expected.reason
    assert decision["quality"] == pytest.approx(dict(expected.quality), abs=1e-9)


def test_order(service: Service) -> None:
    prompts = ["a robot", "a portrait", "a logo", "a robot", "🦊 — ünïcode", "<b>&amp;</b>"]
    decisions = service.route(*prompts).json["decisions"]
    assert [one["model"] for one in decisions][:4] == ["middle", "expensive", "cheap", "middle"]
    alone = [service.route(prompt).json["decisions"][0] for prompt in prompts]
    assert [one["model"] for one in decisions] == [one["model"] for one in alone]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        # The little table: the best model of a topic is about 1 better than the others.
        ({"tradeoff": 0}, "expensive"),
        ({"tradeoff": 1e7}, "cheap"),
        ({"slack": 0.0}, "expensive"),
        ({"slack": 5}, "cheap"),
        ({"models": ["cheap", "middle"], "slack": 5}, "cheap"),
        ({"models": ["middle"]}, "middle"),
        ({"models": ["middle"], "tradeoff": None}, "middle"),
    ],
)
def test_own_operating_point(service: Service, more: dict[str, Any], expected: str) -> None:
    answer = service.route("a portrait", **more)
    assert answer.status == 200, answer.body
    assert answer.json["decisions"][0]["model"] == expected


def test_health(service: Service) -> None:
    about = service.ask("/healthz").json
    assert about["status"] == "ok" and about["scores"] == ["nima"]
    assert [model["name"] for model in about["models"]] == ["expensive", "middle", "cheap"]
    assert about["limits"]["prompts"] == 8
    assert about["policy"]["operating_point"]["value"] == 100 and "guarantee" not in about["policy"]
    head = service.ask("/healthz", method="HEAD")
    assert head.status == 200 and head.body == b""


def sample(service: Service) -> dict[str, float]:
    """The metrics as name{labels} → value; every line must be one, or a comment."""
    answer = service.ask("/metrics")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in answer.body.decode().splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r'(promptroute_\w+(?:\{\w+="[^"]*"(?:,\w+="[^"]*")*\})?) ([0-9.e+-]+)', line)
            assert match, line
            found[match[1]] = float(match[2])
    return found


def test_metrics(start: Start, router_folder: Path) -> None:
    with start(router_folder) as service:
        service.route("a robot", "a portrait", "another robot")
        service.route("a logo")
        service.route("")
        service.ask("/nowhere")
        service.ask("/also/nowhere")
        found = sample(service)
    assert found['promptroute_requests_total{code="200",path="/route"}'] == 2
    assert found['promptroute_requests_total{code="422",path="/route"}'] == 1
    assert found['promptroute_requests_total{code="404",path="other"}'] == 2
    assert found['promptroute_errors_total{code="404"}'] == 2
    assert found['promptroute_errors_total{code="422"}'] == 1
    assert found["promptroute_prompts_total"] == 4 and found["promptroute_waiting_prompts"] == 0
    choices = {name: found[f'promptroute_choices_total{{model="{name}"}}'] for name in ("expensive", "middle", "cheap")}  # fmt: skip
    assert choices == {"expensive": 1, "middle": 2, "cheap": 1}
    assert found["promptroute_route_seconds_count"] == 2
    assert 0 < found["promptroute_route_seconds_sum"] < 10
    edges = [value for name, value in found.items() if "_bucket" in name]
    assert edges == sorted(edges) and edges[-1] == 2


# What it refuses

GOOD = json.dumps({"prompts": ["a robot"]}).encode()
BAD: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 400, "the body is not JSON"),
    ("no JSON", b"prompts=a robot", 400, "the body is not JSON"),
    ("half a JSON", GOOD[:-3], 400, "the body is not JSON"),
    ("not UTF-8", b'{"prompts": ["\xff\xfe"]}', 400, "the body is not JSON"),
    ("half a surrogate pair", b'{"prompts": ["\\ud800"]}', 422, "is not valid Unicode text"),
    ("nested too deep", b"[" * 5000 + b"]" * 5000, 400, "the body is not JSON"),
    ("a list", b'["a robot"]', 422, "the body must be an object"),
    ("null", b"null", 422, "the body must be an object"),
    ("no prompts", b"{}", 422, "prompts is missing; give a list of texts"),
    ("no prompt", b'{"prompts": []}', 422, "prompts is empty; give at least one"),
    ("one text", b'{"prompts": "a robot"}', 422, "prompts: should be a valid list"),
    ("prompts null", b'{"prompts": null}', 422, "prompts: should be a valid list"),
    ("a number", b'{"prompts": ["a robot", 3]}', 422, "prompts[1]: should be a valid string"),
    ("a list inside", b'{"prompts": [["a robot"]]}', 422, "prompts[0]: should be a valid string"),
    ("an empty text", b'{"prompts": ["a robot", ""]}', 422, "prompt 2 of 2 ('') is empty"),
    ("white space", '{"prompts": [" \u3000\\n"]}'.encode(), 422, "prompt 1 of 1"),
    ("a NUL", b'{"prompts": ["a\\u0000b"]}', 422, "is not valid Unicode text"),
    ("a long prompt", json.dumps({"prompts": ["x" * 301]}).encode(), 422, "has 301 characters; at most 300"),
    ("many prompts", json.dumps({"prompts": ["x"] * 9}).encode(), 422, "9 prompts; at most 8 a request"),
    ("long together", json.dumps({"prompts": ["x" * 300] * 7}).encode(), 422, "have 2100 characters together; at most 2000 a request"),
    ("a large body", json.dumps({"prompts": ["x" * 20_000]}).encode(), 413, "larger than 20000 bytes"),
    ("a very large body", b" " * 2_000_000, 413, "larger than 20000 bytes"),
    ("an unknown field", b'{"prompts": ["x"], "model": "expensive"}', 422, "field 'model' is unknown; expected some of"),
    ("an unknown model", b'{"prompts": ["x"], "models": ["dall-e"]}', 422, "model 'dall-e' is unknown; expected some"),
    ("no model", b'{"prompts": ["x"], "models": []}', 422, "models is empty"),
    ("both points", b'{"prompts": ["x"], "tradeoff": 1, "slack": 1}', 422, "give one of them, not both"),
    ("a point below 0", b'{"prompts": ["x"], "tradeoff": -1}', 422, "tradeoff: should be greater than or equal to 0"),
    ("a point of text", b'{"prompts": ["x"], "slack": "1"}', 422, "slack: should be a valid number"),
    ("a point true", b'{"prompts": ["x"], "slack": true}', 422, "slack: should be a valid number"),
    ("a point NaN", b'{"prompts": ["x"], "slack": NaN}', 422, "slack: should be a finite number"),
    ("a point infinite", b'{"prompts": ["x"], "slack": 1e999}', 422, "slack: should be a finite number"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_body(service: Service, body: bytes, status: int, message: str) -> None:
    answer = service.ask("/route", body)
    assert answer.status == status, answer.body
    assert list(answer.json) == ["error"] and message in answer.json["error"]
    assert "\n" not in answer.json["error"] and len(answer.json["error"]) < 300
    assert still_answers(service)


@pytest.mark.parametrize(
    ("path", "method", "kind", "headers", "status", "message"),
    [
        ("/nowhere", "GET", None, {}, 404, "there is no such path; there are /, /route, /next, /healthz, /metrics"),
        ("/route/", "POST", "application/json", {}, 404, "there is no such path"),
        ("/../../etc/passwd", "GET", None, {}, 404, "there is no such path"),
        ("/docs", "GET", None, {}, 404, "there is no such path"),
        ("/route", "GET", None, {}, 405, "this path does not take GET; use POST"),
        ("/route", "DELETE", None, {}, 405, "this path does not take DELETE; use POST"),
        ("/healthz", "POST", "application/json", {}, 405, "this path does not take POST; use GET, HEAD"),
        ("/route", "POST", None, {}, 415, "expected 'application/json'"),
        ("/route", "POST", "text/plain", {}, 415, "the Content-Type is 'text/plain'; expected"),
        ("/route", "POST", "application/json", {"Content_Encoding": "gzip"}, 415, "the Content-Encoding is 'gzip'"),
    ],
)  # fmt: skip
def test_bad_request(
    service: Service, path: str, method: str, kind: str, headers: Any, status: int, message: str
) -> None:
    body = GOOD if method == "POST" else None
    answer = service.ask(path, body, method, kind or "", **headers)
    assert answer.status == status, answer.body
    assert message in answer.json["error"].replace("HEAD, GET", "GET, HEAD")
    assert still_answers(service)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",  # somebody speaks TLS
        b"GET\r\n\r\n",
        b"POST /route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: nine\r\n\r\n",
        b"POST /route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)
def test_not_http(service: Service, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(100).split()[1] == b"400"
    assert still_answers(service)


def test_client_gone(service: Service) -> None:
    head = b"POST /route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for sent in (
        head + b"Content-Length: 500\r\n\r\n" + GOOD,
        head + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    ):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            connection.sendall(sent)
    assert still_answers(service)
    assert not any('code="5' in name for name in sample(service))


texts = st.text(max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
nearly = st.fixed_dictionaries(
    {"prompts": st.lists(texts | anything, max_size=10) | anything},
    optional={
        "tradeoff": st.floats() | st.integers() | anything,
        "slack": st.floats(min_value=0) | anything,
        "models": st.lists(st.sampled_from(["expensive", "middle", "cheap", "x"]), max_size=4) | anything,
    },
)
allowed = st.fixed_dictionaries(
    {"prompts": st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=8)},
    optional={
        "tradeoff": st.floats(min_value=0, allow_infinity=False),
        "models": st.lists(st.sampled_from(["expensive", "middle", "cheap"]), min_size=1),
    },
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(anything, nearly, allowed).map(json.dumps).map(str.encode) | st.binary(max_size=200))
def test_any_body(service: Service, body: bytes) -> None:
    answer = service.ask("/route", body)
    assert answer.status in (200, 400, 422), answer.body
    if answer.status == 200:
        question = json.loads(body)
        assert len(answer.json["decisions"]) == len(question["prompts"])
        assert {one["model"] for one in answer.json["decisions"]} <= set(
            question.get("models") or ("expensive", "middle", "cheap")
        )
    else:
        assert list(answer.json) == ["error"]


# Under load, and at the end


def test_many_clients(service: Service) -> None:
    topics = {"robot": "middle", "portrait": "expensive", "logo": "cheap"}

    def one(i: int) -> bool:
        topic = list(topics)[i % 3]
        answer = service.route(*[f"a {topic} number {i}"] * (1 + i % 5))
        return answer.status == 200 and {d["model"] for d in answer.json["decisions"]} == {topics[topic]}

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(200)))


def test_overload(start: Start, router_folder: Path) -> None:
    body = json.dumps({"prompts": ["word " * 100] * 100}).encode()
    with start(router_folder, "--max-prompts", "100", "--max-waiting", "100") as service:

        def one(_: int) -> tuple[int, str | None]:
            answer = service.ask("/route", body)
            return answer.status, answer.headers["Retry-After"]

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            found = set(pool.map(one, range(36)))
        assert found == {(200, None), (503, "1")}
        assert still_answers(service)


def test_shutdown_answers(start: Start, router_folder: Path) -> None:
    body = json.dumps({"prompts": ["word " * 51] * 250}).encode()
    with start(router_folder) as service, concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.ask, "/route", body)
        time.sleep(0.05)
        service.process.send_signal(signal.SIGTERM)
        assert answer.result(60).status == 200
        assert service.process.wait(20) in (0, -signal.SIGTERM)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", service.port), timeout=2)


def test_sentence_encoder(start: Start, minilm_folder: Path) -> None:
    prompts = ["a robot at night", "a portrait in oil", "a logo made of glass", "an android in the dark"]
    with start(minilm_folder) as service:
        found = service.route(*prompts).json["decisions"]
    expected = Router.load(minilm_folder).route(prompts)
    assert [one["model"] for one in found] == [one.model for one in expected]
    assert [one["model"] for one in found][:3] == ["middle", "expensive", "cheap"]
    for one, other in zip(found, expected, strict=True):
        assert one["quality"] == pytest.approx(dict(other.quality), abs=1e-4)


def save_with(folder: Path, saved: Path, policy: Policy, **changes: Any) -> Path:
    """Save the router of folder `saved` with another policy below `folder`."""
    own = dataclasses.replace(Router.load(saved), policy=policy, **changes)
    own.save(folder / "router", predictor=saved / "predictor")
    return folder / "router"


@pytest.mark.parametrize("holds", [True, False])
def test_guarantee(start: Start, router_folder: Path, tmp_path: Path, holds: bool) -> None:
    said = "given, by hand" if holds else "not given by any cheaper model (by hand)"
    guarantee = Guarantee(
        epsilon=0.1, alpha=0.2, single=0, threshold=0.5 if holds else None, given=holds,
        risk=0.0, bound=0.1, cheaper_share=0.5, prompts=9, statement=said,
    )  # fmt: skip
    facts = Router.load(router_folder).policy.calibration
    policy = Guaranteed(epsilon=0.1, alpha=0.2, guarantee=guarantee, calibration=facts)
    with start(save_with(tmp_path, router_folder, policy)) as one:
        about = one.ask("/healthz").json["policy"]
        assert (about["name"], about["guarantee"]) == (
            policy.name,
            {"given": holds, "epsilon": 0.1, "alpha": 0.2, "against": "expensive", "statement": said},
        )
        (decision,) = one.route("a robot at night").json["decisions"]
        # Robots are what middle generates better than expensive, by about 1.
        assert decision["model"] == ("middle" if holds else "expensive")
        assert decision["reason"].startswith("the cheapest that is calibrated" if holds else said)


def test_fallback(start: Start, minilm_folder: Path, tmp_path: Path) -> None:
    saved = Router.load(minilm_folder)
    known = saved.batch(["a robot at night"]).embeddings["minilm"]
    facts = saved.policy.calibration
    assert facts is not None
    cheap = facts.model_copy(update={"single": 2})
    policy = WithOodFallback(
        policy=saved.policy.model_copy(update={"calibration": cheap}), neighbours=1, threshold=0.5, encoder="minilm",
        calibration=cheap,
    ).with_arrays({"rows": known})  # fmt: skip
    with start(save_with(tmp_path, minilm_folder, policy)) as one:
        assert one.ask("/healthz").json["policy"]["fallback"] == {"share": 0.05, "encoder": "minilm"}
        decisions = one.route("a robot at night", "quarterly tax returns of a bank").json["decisions"]
        assert "out-of-distribution" not in decisions[0]["reason"]
        assert decisions[1]["model"] == "cheap" and "out-of-distribution" in decisions[1]["reason"]
        (decision,) = one.route("quarterly tax returns of a bank", tradeoff=0).json["decisions"]
        assert "out-of-distribution" not in decision["reason"]
