"""The page in a real browser: by keyboard, after a reload, from a disk."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from promptroute.cli.annotate import take_in
from promptroute.io.votes import Votes, read_key
from promptroute.service.people.app import create_app
from promptroute.service.people.static import key_path, write_folder
from promptroute.service.people.study import open_gallery
from tests.service.browser import Browser, find
from tests.service.people.conftest import MODELS

Open = Callable[..., Browser]
DONE = "document.getElementById('count').textContent"


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Open]:
    program = find()
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine")
    opened: list[Browser] = []

    def opening(address: str, name: str = "ann", width: int = 1000) -> Browser:
        browser = Browser(program, tmp_path / f"profile{len(opened)}", width=width)
        opened.append(browser)
        browser.open(address)
        browser.wait("document.readyState === 'complete' && document.getElementById('hello') !== null")
        browser.run(f"document.getElementById('name').value = {json.dumps(name)}")
        browser.run("document.querySelector('#hello button').click()")
        browser.wait("document.querySelectorAll('.frame img').length > 0")
        return browser

    yield opening
    for browser in opened:
        browser.close()


@pytest.fixture
def address(data: Path, tmp_path: Path) -> Iterator[str]:
    gallery = open_gallery(data, MODELS)
    votes = Votes(tmp_path / "votes.sqlite", gallery.asked)
    config = uvicorn.Config(create_app(gallery, votes, repeats=0), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


def press(browser: Browser, key: str, expected: int) -> None:
    browser.run(
        f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: {json.dumps(key)}, bubbles: true}}))"
    )
    browser.wait(f"{DONE}.startsWith('{expected} of ')")


def test_by_keyboard(browse: Open, address: str, tmp_path: Path) -> None:
    browser = browse(address, "Ann <b>")
    for number, key in enumerate(("ArrowLeft", "ArrowRight", "=", "s"), 1):
        press(browser, key, number)
    press(browser, "u", 3)
    browser.open(address)  # reloaded: the same rater goes on
    browser.wait(f"document.getElementById('count') && {DONE}.startsWith('3 of ')")
    assert browser.run("document.getElementById('who').textContent") == "Ann <b>"
    assert browser.run("document.title") == "Which images are better?" and browser.faults() == []
    with Votes(tmp_path / "votes.sqlite") as votes:
        assert [answer.value for answer, _ in votes.answers()] == ["left", "right", "tie"]


def test_two_raters_at_once(browse: Open, address: str) -> None:
    ann, bob = browse(address, "ann"), browse(address, "bob", width=390)
    press(ann, "ArrowLeft", 1)
    press(bob, "=", 1)
    press(ann, "=", 2)
    assert bob.run("document.documentElement.scrollWidth <= innerWidth")


def test_from_a_disk(browse: Open, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    write_folder(open_gallery(data, MODELS), folder, 0)
    assert not any(model in (folder / "study.js").read_text() for model in MODELS)
    browser = browse((folder / "index.html").as_uri())
    press(browser, "ArrowLeft", 1)
    press(browser, "=", 2)
    browser.open((folder / "index.html").as_uri())
    browser.wait(f"document.getElementById('count') && {DONE}.startsWith('2 of ')")
    text = browser.run(
        "JSON.stringify({...window.STUDY, tasks: undefined, rater, answers: local.load().answers})"
    )
    (tmp_path / "back.json").write_text(text)
    key = read_key(key_path(folder))
    assert take_in(tmp_path / "in.sqlite", [tmp_path / "back.json"], key, False).startswith(
        "2 answers are new"
    )


def test_marks(browse: Open, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    write_folder(open_gallery(data, MODELS, mode="marks"), folder, 0)
    browser = browse((folder / "index.html").as_uri())
    browser.run(
        "(() => { const at = document.querySelector('.frame img').getBoundingClientRect(); "
        "document.querySelector('.frame img').dispatchEvent(new MouseEvent('click', "
        "{bubbles: true, clientX: at.left + at.width / 4, clientY: at.top + at.height / 2})) })()"
    )
    browser.run("document.querySelectorAll('#prompt button')[1].click()")
    press(browser, "Enter", 1)
    given = json.loads(browser.run("JSON.stringify(local.load().answers[0].value)"))
    assert given["words"] == [1] and given["points"][0] == pytest.approx([0.25, 0.5], abs=0.01)
