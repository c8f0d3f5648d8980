"""GET /: a page to try prompts on; it fetches nothing from elsewhere."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter()


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page() -> Response:
    """Give the page."""
    content, policy = read_page()
    return Response(
        content,
        media_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )


@cache
def read_page() -> tuple[str, str]:
    """Read the page; give it and the Content-Security-Policy that lets it run its own style and script alone."""
    content = files("promptroute.service").joinpath("page.html").read_text(encoding="utf-8")
    return content, policy_of(content)


def policy_of(content: str) -> str:
    """Give the Content-Security-Policy that lets a page run its own style and script alone, by their checksums."""
    allowed = {}
    for tag in ("style", "script"):
        (part,) = re.findall(f"<{tag}>(.*?)</{tag}>", content, re.DOTALL)
        digest = hashlib.sha256(part.encode()).digest()
        allowed[tag] = f"'sha256-{base64.b64encode(digest).decode()}'"
    return (
        f"default-src 'none'; style-src {allowed['style']}; script-src {allowed['script']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
