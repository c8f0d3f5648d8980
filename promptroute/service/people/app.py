"""The page of people's votes, served: every answer is on the disk before the page shows the next task."""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.core.votes import check_rater
from promptroute.evaluation.design import is_swapped, most_telling, with_repeats
from promptroute.evaluation.strength import Outcomes
from promptroute.io.votes import Votes
from promptroute.service.errors import ApiError, Json, add_handlers
from promptroute.service.gates import LOCAL, Bodies, Hosts
from promptroute.service.limits import Limits
from promptroute.service.people.study import Gallery
from promptroute.service.routes.page import policy_of

_LATELY = 20
"""Votes after which the order of the tasks that tell most is looked at again."""


class Who(BaseModel):
    """Whose turn it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rater: str = Field(max_length=200)


class Given(Who):
    """An answer to a task."""

    task: str = Field(max_length=100)
    value: JsonValue
    milliseconds: int


class Desk:
    """Give each rater their next task, and take their answers.

    Args:
        gallery: what is shown.
        votes: where answers go.
        repeats: share of tasks that are shown a second time, 0 to 1.
    """

    def __init__(self, gallery: Gallery, votes: Votes, repeats: float) -> None:
        self._gallery, self._votes, self._repeats = gallery, votes, repeats
        self._plan = list(gallery.asked.subjects)

    def turn(self, rater: str) -> Plain:
        """Give a rater's next task, null where they are through, and the images of the one after it."""
        gallery, asked = self._gallery, self._gallery.asked
        done = self._votes.tasks_of(rater)
        order = self._order(rater, done)
        ahead = [task for task in order if task not in done][:2]
        shown = [self._shown(task, rater) for task in ahead]
        return {
            "task": shown[0] if shown else None,
            "ahead": [name for side in shown[1]["sides"] for name in side] if len(shown) > 1 else [],
            "done": len(done),
            "total": len(order),
            "mode": asked.mode,
            "question": asked.question,
            "images": len(gallery.images),
        }

    def _shown(self, task: str, rater: str) -> Plain:
        shown = self._gallery.shown(task, self._gallery.asked.subject(task))
        if is_swapped(task, rater, self._gallery.asked.seed):
            shown["sides"].reverse()
        return shown

    def _order(self, rater: str, done: Collection[str]) -> list[str]:
        """Return every task in a rater's order: those that are done, the first round, then what tells most."""
        first = len(self._gallery.asked.prompts)
        fresh = [task for task in done if not task.endswith("-again")]
        rest = [task for task in self._plan if task not in done]
        begun = [task for task in self._plan[:first] if task not in done]
        later = [task for task in rest if task not in begun]
        if not begun and later and self._gallery.asked.mode == "pairs":
            later = self._most_telling(tuple(later), self._votes.count() // _LATELY)
        return with_repeats([*fresh, *begun, *later], self._repeats)

    @lru_cache(maxsize=64)  # noqa: B019  a desk lives as long as the process
    def _most_telling(self, tasks: tuple[str, ...], votes: int) -> list[str]:
        """Order tasks by what they would tell; `votes` only says when to look again."""
        models, asked = self._gallery.models, self._gallery.asked
        columns = {model: column for column, model in enumerate(models)}
        wins, ties = np.zeros((len(models), len(models))), np.zeros((len(models), len(models)))
        for answer, subject in self._votes.answers():
            a, b = (columns[model] for model in subject.models)
            wins[a, b] += answer.lead == 1
            wins[b, a] += answer.lead == -1
            ties[[a, b], [b, a]] += answer.value == "tie"
        order = most_telling([asked.subjects[task] for task in tasks], models, Outcomes(wins, ties))
        return [tasks[place] for place in order]

    def take(self, given: Given, rater: str) -> None:
        """Keep an answer.

        Raises:
            UserError: it answers no task of the study, or is none of what the mode allows.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        swapped = is_swapped(given.task, rater, self._gallery.asked.seed)
        fields = {**given.model_dump(), "rater": rater, "swapped": swapped, "time": now}
        self._votes.add(self._gallery.asked.answer(fields))

    def undo(self, rater: str) -> None:
        """Take a rater's last answer back."""
        self._votes.undo(rater)

    def raters(self) -> dict[str, int]:
        """Count the answers of each rater."""
        return dict(Counter(answer.rater for answer, _ in self._votes.answers()))


@lru_cache
def page() -> tuple[str, str]:
    """Read the page; give it, and the Content-Security-Policy that lets it run its own parts and images alone."""
    content = files("promptroute.service.people").joinpath("page.html").read_text(encoding="utf-8")
    policy = policy_of(content).replace("script-src ", "script-src 'self' ")
    return content, policy.replace("img-src data:", "img-src 'self' data:")


def create_app(
    gallery: Gallery, votes: Votes, *, repeats: float = 0.05, hosts: Collection[str] = LOCAL
) -> FastAPI:
    """Make the service of a page of votes.

    Args:
        gallery: what is shown.
        votes: where answers go.
        repeats: share of tasks that are shown a second time, 0 to 1.
        hosts: names and addresses that requests may be for; "*" is every host.
    """
    desk = Desk(gallery, votes, repeats)
    app = FastAPI(title="promptroute annotate", docs_url=None, redoc_url=None, openapi_url=None)

    def turn_of(rater: str) -> Json:
        return Json(desk.turn(rater))

    @app.get("/")
    def show() -> Response:
        content, policy = page()
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    @app.get("/study.js")
    def study() -> Response:
        return Response("window.STUDY = null;", media_type="text/javascript")

    @app.get("/images/{name}.png")
    def image(name: Annotated[str, Path(pattern=r"^[0-9a-f]{24}$")]) -> Response:
        png = gallery.png(name)
        if png is None:
            raise ApiError(404, "there is no such image")
        headers = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}
        return Response(png, media_type="image/png", headers=headers)

    @app.post("/api/next")
    def next_task(who: Who) -> Json:
        return turn_of(check_rater(who.rater))

    @app.post("/api/answers")
    def answer(given: Given) -> Json:
        rater = check_rater(given.rater)
        desk.take(given, rater)
        return turn_of(rater)

    @app.post("/api/undo")
    def undo(who: Who) -> Json:
        rater = check_rater(who.rater)
        desk.undo(rater)
        return turn_of(rater)

    add_handlers(app)

    @app.exception_handler(UserError)
    async def refuse(_: Request, error: UserError) -> Json:
        return ApiError(422, str(error)).answer()

    app.add_middleware(Bodies, limits=Limits())
    app.add_middleware(Hosts, hosts=hosts)
    return app
