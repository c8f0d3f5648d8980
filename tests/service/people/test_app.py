"""The served page: blind, one task after another, nothing taken that is no answer."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from promptroute.core.errors import UserError
from promptroute.io.votes import Votes
from promptroute.service.people.app import create_app
from promptroute.service.people.static import write_folder
from promptroute.service.people.study import Gallery, open_gallery
from tests.service.people.conftest import MODELS, PROMPTS

Start = Callable[..., TestClient]


@pytest.fixture
def start(data: Path, tmp_path: Path) -> Start:
    def starting(repeats: float = 0.0, **options: Any) -> TestClient:
        gallery = open_gallery(data, MODELS, **options)
        votes = Votes(tmp_path / "votes.sqlite", gallery.asked)
        return TestClient(create_app(gallery, votes, repeats=repeats), base_url="http://localhost")

    return starting


def post(client: TestClient, path: str, rater: str = "ann", **more: object) -> Any:
    return client.post(f"/api/{path}", json={"rater": rater, **more})


def vote(
    client: TestClient, turn: dict[str, Any], value: object = "left", rater: str = "ann"
) -> dict[str, Any]:
    answer = post(client, "answers", rater, task=turn["task"]["task"], value=value, milliseconds=900)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class TestTasks:
    def test_until_the_end(self, start: Start, tmp_path: Path) -> None:
        client = start()
        turn = post(client, "next").json()
        seen = []
        while turn["task"]:
            seen.append(turn["task"]["task"])
            turn = vote(client, turn, ("left", "right", "tie", "skip")[len(seen) % 4])
        # Three pairs of three prompts, less the two with a failed image.
        assert len(set(seen)) == 7 == turn["done"] == turn["total"]
        with Votes(tmp_path / "votes.sqlite") as votes:
            assert [answer.task for answer, _ in votes.answers()] == seen

    def test_goes_on_where_one_left(self, start: Start) -> None:
        client = start()
        after = vote(client, post(client, "next").json())
        assert post(client, "next").json() == after and post(start(), "next").json() == after

    def test_raters_are_apart(self, start: Start) -> None:
        client = start()
        vote(client, post(client, "next").json())
        assert post(client, "next", "bob").json()["done"] == 0

    def test_undo(self, start: Start) -> None:
        client = start()
        first = post(client, "next").json()
        vote(client, first)
        assert post(client, "undo").json()["task"] == first["task"]

    def test_repetitions(self, start: Start, tmp_path: Path) -> None:
        client = start(repeats=0.5, mode="ratings")
        turn = post(client, "next").json()
        while turn["task"]:
            turn = vote(client, turn, 3)
        with Votes(tmp_path / "votes.sqlite") as votes:
            tasks = [answer.task for answer, _ in votes.answers()]
        assert len(tasks) == 16 + 3 and sum(task.endswith("-again") for task in tasks) == 3

    def test_models_are_hidden(self, start: Start) -> None:
        """Neither a task nor an image's name tells a model; the sides differ from rater to rater."""
        client = start()
        turns = [post(client, "next", f"r{number}").json() for number in range(20)]
        assert not any(model in str(turn) for turn in turns for model in MODELS)
        assert len({str(turn["task"]["sides"]) for turn in turns}) == 2

    def test_images(self, start: Start) -> None:
        client = start()
        task = post(client, "next").json()["task"]
        for name in itertools.chain(*task["sides"]):
            answer = client.get(f"/{name}")
            assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
        assert client.get("/images/" + "0" * 24 + ".png").status_code == 404
        assert client.get("/images/../votes.png").status_code in (404, 422)

    def test_single_image_each(self, start: Start) -> None:
        task = post(start(seeds=1), "next").json()["task"]
        assert [len(side) for side in task["sides"]] == [1, 1]


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"task": "0" * 16, "value": "left", "milliseconds": 1}, "none of this study"),
            ({"value": "up", "milliseconds": 1}, "expected one of left"),
            ({"value": 3, "milliseconds": 1}, "expected one of left"),
            ({"value": "left", "milliseconds": -5}, "whole number"),
            ({"value": "left", "milliseconds": 1, "rater": ""}, "1 to 60 characters"),
            ({"value": "left", "milliseconds": 1, "rater": "\x1b[31m"}, "control character"),
            ({"value": "left"}, "milliseconds is missing"),
            ({"value": "left", "milliseconds": 1, "swapped": True}, "swapped"),
        ],
    )
    def test_answer(self, start: Start, body: dict[str, object], message: str) -> None:
        client = start()
        task = post(client, "next").json()["task"]["task"]
        answer = post(client, "answers", **{"task": task, **body})
        assert answer.status_code == 422 and message in answer.json()["error"]
        assert post(client, "next").json()["done"] == 0

    def test_other_hosts_and_sites(self, start: Start) -> None:
        client = start()
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
        headers = {"Origin": "http://evil.example"}
        assert client.post("/api/next", json={"rater": "ann"}, headers=headers).status_code == 403

    def test_scripts_of_others(self, start: Start) -> None:
        policy = start().get("/").headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy


class TestStudy:
    def test_only_some_prompts(self, data: Path) -> None:
        assert len(open_gallery(data, MODELS, prompts=2).asked.prompts) == 2

    def test_digest_tells_studies_apart(self, data: Path) -> None:
        one, other = (
            open_gallery(data, models).asked.study for models in (MODELS, dict(list(MODELS.items())[:2]))
        )
        assert one == open_gallery(data, MODELS).asked.study != other

    @pytest.mark.parametrize(
        ("models", "options", "message"),
        [
            ({"sdxl": {}}, {}, "expected two or more"),
            ({}, {"mode": "ratings"}, "expected two or more"),
            (MODELS, {"question": "consistency", "seeds": 1}, "one image can't be consistent"),
            (MODELS, {"question": " "}, "the question ' ': expected a line"),
            (MODELS, {"question": "which?\x1b[2J"}, "expected a line"),
            (MODELS, {"question": "x" * 501}, "of 1 to 500 signs"),
            ({"sdxl": {}, "other": {}}, {}, "no shard of images"),
        ],
    )
    def test_refused(self, data: Path, models: dict[str, Any], options: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            open_gallery(data, models, **options)

    def test_what_prices_follow_from(self, data: Path, tmp_path: Path) -> None:
        """A file of votes knows its prompts and models, so a router can be trained on it alone."""
        gallery = open_gallery(data, MODELS, prompts=2)
        with Votes(tmp_path / "votes.sqlite", gallery.asked):
            pass
        with Votes(tmp_path / "votes.sqlite") as kept:
            assert kept.prompts == gallery.asked.prompts and len(kept.prompts) == 2
            assert kept.models["sdxl"] == {"label": "SDXL <1>", "profile": {"seconds": 2.0, "memory_gb": 9.0}}
            assert list(kept.models) == list(MODELS)

    def test_old_key_stays(self, data: Path, tmp_path: Path) -> None:
        """Answers to a folder that was sent out need its own key."""
        write_folder(open_gallery(data, MODELS), tmp_path / "page", 0)
        shutil.rmtree(tmp_path / "page")
        with pytest.raises(UserError, match=r"page\.key\.json: is there already"):
            write_folder(open_gallery(data, MODELS, seed=1), tmp_path / "page", 0)

    def test_failed_images_are_not_shown(self, data: Path, caplog: pytest.LogCaptureFixture) -> None:
        gallery: Gallery = open_gallery(data, MODELS)
        assert ("taesd", "p3", 0) not in gallery.names and "2 images failed" in caplog.text
        assert set(gallery.asked.prompts) == set(PROMPTS)
