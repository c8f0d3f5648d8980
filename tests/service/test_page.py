"""The page, in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.browser import Browser, find
from tests.service.conftest import Service

Open = Callable[..., Browser]


@pytest.fixture
def look(tmp_path: Path, service: Service) -> Iterator[Open]:
    """(width=…, dark=…) → a browser with the page open and ready."""
    program = find()
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine")
    opened = []

    def opening(width: int = 1000, dark: bool = False) -> Browser:
        browser = Browser(program, tmp_path / f"profile{len(opened)}", width=width, dark=dark)
        opened.append(browser)
        browser.open(service.address)
        browser.wait("document.querySelectorAll('#models input').length === 3")
        return browser

    yield opening
    for browser in opened:
        browser.close()


def ask(browser: Browser, prompts: str) -> None:
    browser.run(f"document.getElementById('prompts').value = {prompts!r}")
    browser.run("document.getElementById('go').click()")


def answered(browser: Browser, n: int) -> list[str]:
    browser.wait(f"document.querySelectorAll('article').length === {n}")
    found: list[str] = browser.run("[...document.querySelectorAll('article')].map(one => one.innerText)")
    return found


def test_prompts_stay_text(look: Open, service: Service) -> None:
    browser = look()
    attack = "<img src=x onerror=document.title=1> a portrait"
    ask(browser, f"a robot at night\n\n{attack}")
    first, second = answered(browser, 2)
    assert first.startswith("a robot at night") and "Middle · $0.400 per 1000 images" in first
    assert second.startswith(attack) and "Expensive & Fine" in second
    assert browser.run("document.querySelectorAll('#answers img').length") == 0
    assert browser.run("document.title") == "promptroute"
    assert "2 prompts in" in browser.run("document.getElementById('state').textContent")
    assert browser.requests() == [service.address + path for path in ("/", "/healthz", "/route")]
    assert browser.faults() == []


def test_models_and_operating_point(look: Open) -> None:
    browser = look()
    browser.run("document.querySelector('input[value=expensive]').click()")
    ask(browser, "a portrait by the sea")
    (alone,) = answered(browser, 1)
    assert "Expensive & Fine ·" not in alone
    browser.run("document.querySelector('input[value=expensive]').click()")
    browser.run(
        "const point = document.getElementById('point'); point.value = 'slack';"
        "point.dispatchEvent(new Event('change')); document.getElementById('value').value = '5'"
    )
    browser.run("document.getElementById('answers').replaceChildren()")
    ask(browser, "a portrait by the sea")
    (cheap,) = answered(browser, 1)
    assert "Cheap · $0.100 per 1000 images" in cheap


def test_faults(look: Open) -> None:
    browser = look()
    ask(browser, "x" * 301)
    said = browser.wait("document.querySelector('#state.fault')?.textContent")
    assert said == "prompt 1 of 1 has 301 characters; at most 300"
    browser.run("document.querySelectorAll('#models input').forEach(box => box.click())")
    ask(browser, "a robot")
    said = browser.wait("document.querySelector('#state.fault')?.textContent.includes('models is empty')")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1000])
def test_width_and_colours(look: Open, width: int, dark: bool) -> None:
    browser = look(width, dark)
    ask(browser, "a robot " + "unbreakable" * 20)
    answered(browser, 1)
    assert browser.run("document.documentElement.scrollWidth") <= width
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    ink = browser.run("getComputedStyle(document.body).color")
    lightness = [sum(map(int, colour[4:-1].split(","))) / 3 for colour in (ground, ink)]
    assert (lightness[0] < 60 and lightness[1] > 200) if dark else (lightness[0] > 230 and lightness[1] < 60)


def test_needs_nothing_else(service: Service) -> None:
    answer = service.ask("/")
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
    page = answer.body.decode()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "") and "innerHTML" not in page
    assert service.ask("/", method="HEAD").status == 200
