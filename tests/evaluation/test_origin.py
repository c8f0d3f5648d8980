from pathlib import Path
from typing import Any

from promptroute.evaluation.origin import DECIDING, difference, origin

PARAMS: dict[str, Any] = {
    **{name: {} for name in DECIDING},
    "prompts": {"sources": {"own": {"path": "/home/me/prompts.csv"}}},
    "models": {"a": {}}, "published": {"models": {"b": {}}}, "score": {"weights": {"nima": {"mean": 1.0}}},
}  # fmt: skip


def test_equal_on_every_machine() -> None:
    here = origin(PARAMS, Path("absent"))
    there = {**PARAMS, "prompts": {"sources": {"own": {"path": "/srv/prompts.csv"}}}}
    assert here == origin(there, Path("absent"))
    assert here["models"] == "b, a" and here["test_prompts"] is None
    assert difference(here, here) == ""


def test_another_file_is_another_study() -> None:
    other = {**PARAMS, "prompts": {"sources": {"own": {"path": "/home/me/others.csv"}}}}
    assert "settings" in difference(origin(PARAMS, Path("absent")), origin(other, Path("absent")))
