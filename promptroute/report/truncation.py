"""Say which prompts were read only in part."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from promptroute.core.errors import UserError
from promptroute.core.parsing import parse
from promptroute.io.files import read_json
from promptroute.report.format import number

_AGAIN = "make the table of scores again"


class Count(BaseModel):
    """How many prompts a model or encoder was given, cut off (`truncated`), and by how many `tokens` in all."""

    model_config = ConfigDict(frozen=True)
    prompts: int = Field(ge=0)
    truncated: int | None = Field(ge=0)
    tokens: int | None = Field(ge=0)


class Truncation(BaseModel):
    """What metrics/truncation.json holds: name → count, of models and encoders."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    models: dict[str, Count]
    image_encoder: dict[str, Count]
    text_encoder: dict[str, Count]


def read_truncation(path: Path) -> Truncation:
    """Read the counts.

    Raises:
        UserError: the file is absent, or of another layout; names what is wrong.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_AGAIN}")
    return parse(Truncation, read_json(path), path, _AGAIN)


def truncation_note(counts: Truncation, labels: Mapping[str, str]) -> str:
    """Say in a paragraph who read how many prompts only in part; empty where the study has neither model nor encoder.

    Args:
        counts: of its models and encoders.
        labels: model → how people write it.
    """
    named = {
        **{labels.get(name, name): count for name, count in counts.models.items()},
        **{f"the image encoder {name}": count for name, count in counts.image_encoder.items()},
        **{f"the text encoder {name}": count for name, count in counts.text_encoder.items()},
    }
    if not named:
        return ""
    cut = [
        f"{name} {count.truncated:,} of {count.prompts:,} ({number((count.tokens or 0) / count.truncated, 0)} tokens "
        f"lost on average)"
        for name, count in named.items()
        if count.truncated
    ]
    unknown = [name for name, count in named.items() if count.truncated is None]
    text = "No prompt was longer than what the models and encoders read."
    if cut:
        text = (
            f"Prompts longer than what is read were cut off: by {', by '.join(cut)}. What stands at their ends "
            f"can't show in those images, scores or predictions."
        )
    elif len(unknown) == len(named):
        text = ""
    return f"{text} Not known: {', '.join(unknown)}.".strip() if unknown else text
