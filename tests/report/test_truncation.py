"""What the report says of prompts that were read only in part."""

import json
from pathlib import Path
from typing import Any

import pytest

from promptroute.core.errors import UserError
from promptroute.report.truncation import Truncation, read_truncation, truncation_note


def count(truncated: int | None = 0, tokens: int | None = 0) -> dict[str, int | None]:
    return {"prompts": 240, "truncated": truncated, "tokens": tokens}


def note(**parts: dict[str, Any]) -> str:
    whole = {"models": {}, "image_encoder": {}, "text_encoder": {}, **parts}
    return truncation_note(Truncation.model_validate(whole), {"sd": "SD-Turbo"})


class TestNote:
    def test_none_cut(self) -> None:
        said = note(models={"sd": count()}, text_encoder={"minilm": count()})
        assert said == "No prompt was longer than what the models and encoders read."

    def test_cut(self) -> None:
        said = note(models={"sd": count(12, 30), "x": count()}, image_encoder={"clip": count(1, 7)})
        assert said.startswith(
            "Prompts longer than what is read were cut off: by SD-Turbo 12 of 240 (2 tokens lost on average), "
            "by the image encoder clip 1 of 240 (7 tokens lost on average). What stands"
        )

    def test_not_known(self) -> None:
        unknown = count(None, None)
        assert note(models={"sd": unknown}) == "Not known: SD-Turbo."
        said = note(models={"sd": unknown}, text_encoder={"minilm": count(1, 1)})
        assert "by the text encoder minilm 1 of 240" in said and said.endswith("Not known: SD-Turbo.")

    def test_nothing_reads(self) -> None:
        assert note() == ""


class TestFile:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "no such file; make the table of scores again"),
            ("{}", "models: Field required; make"),
            ('{"models": {}, "image_encoder": {}, "text_encoder": {"a": {"prompts": -1}}}', "text_encoder.a.prompts: "),
        ],
    )  # fmt: skip
    def test_refused(self, tmp_path: Path, text: str | None, message: str) -> None:
        path = tmp_path / "truncation.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            read_truncation(path)
        assert str(path) in str(caught.value)

    def test_read(self, tmp_path: Path) -> None:
        path = tmp_path / "truncation.json"
        path.write_text(json.dumps({"models": {"sd": count()}, "image_encoder": {}, "text_encoder": {}}))
        assert read_truncation(path).models["sd"].prompts == 240
