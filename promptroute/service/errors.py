"""What a caller did wrong, in one sentence, and how it is answered."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from promptroute.core.errors import UserError

PATHS = ("/", "/route", "/next", "/healthz", "/metrics")
_FIELDS = {"/next": "prompts, seen, models"}


class ApiError(Exception):
    """A request that is answered with a 4xx (or 503) and one sentence.

    Attributes:
        status: of the answer.
        message: names what is wrong and what was expected.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})

    def answer(self) -> "Json":
        """Give the answer to the request."""
        return Json({"error": self.message}, self.status, self.headers)


class Json(JSONResponse):
    """A JSON answer in ASCII, so that no text that a caller sent can break the encoding."""

    def __init__(
        self, content: object, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, status_code, {**(headers or {}), "X-Content-Type-Options": "nosniff"})

    def render(self, content: object) -> bytes:
        """Encode the answer; NaN and infinity are refused."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Answer with 422 what the router refuses of a request."""
    try:
        yield
    except UserError as error:
        raise ApiError(422, str(error)) from None


def add_handlers(app: FastAPI) -> None:
    """Answer every fault of a request with {"error": one sentence}."""

    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> Json:
        return error.answer()

    @app.exception_handler(RequestValidationError)
    async def refuse_body(request: Request, error: RequestValidationError) -> Json:
        return explain(error, _FIELDS.get(request.url.path, "prompts, tradeoff, slack, models")).answer()

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Json:
        return _explain_path(request, error).answer()

    @app.exception_handler(ClientDisconnect)
    async def forget(_: Request, __: ClientDisconnect) -> Json:
        return Json({"error": "the client went away"}, 499)  # nobody reads it, but it is counted

    @app.exception_handler(Exception)
    async def fail(_: Request, __: Exception) -> Json:
        # The server logs the traceback; a caller needs to know only that the fault is ours.
        return Json({"error": "the service failed on this request; its log says why"}, 500)


def explain(error: RequestValidationError, known: str) -> ApiError:
    """Put the first fault of a body into one sentence; `known`: the fields that it may have."""
    fault = error.errors()[0]
    where = ""
    for part in fault["loc"][1:]:  # without "body"
        where += f"[{part}]" if isinstance(part, int) else f"{'.' * bool(where)}{part}"
    message = fault["msg"].removeprefix("Input ")
    match fault["type"]:
        case "json_invalid":
            return ApiError(400, f"the body is not JSON: {fault['ctx']['error']}")
        case "missing" if not where:
            return ApiError(400, "the body is not JSON: it is empty")
        case "model_type" | "model_attributes_type" | "dict_type" if not where:
            return ApiError(422, 'the body must be an object, as {"prompts": ["a red car"]}')
        case "missing":
            return ApiError(422, f"{where} is missing; give a list of texts")
        case "extra_forbidden":
            return ApiError(422, f"field {ascii(where)[:60]} is unknown; expected some of {known}")
        case "too_short":
            return ApiError(422, f"{where} is empty; give at least one")
    return ApiError(422, f"{where}: {message}")


def _explain_path(request: Request, error: HTTPException) -> ApiError:
    headers = dict(error.headers or {})
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            message = f"there is no such path; there are {', '.join(PATHS)}"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            message = (
                f"this path does not take {request.method}; use {headers.get('Allow', 'another method')}"
            )
        case HTTPStatus.BAD_REQUEST:  # FastAPI's word for bytes that its JSON reader gave up on
            message = "the body is not JSON: it is not UTF-8, or nested too deeply"
        case _:
            message = str(error.detail)
    return ApiError(error.status_code, message, headers)
