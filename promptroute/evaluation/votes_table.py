"""People's votes as a published table: what a router is trained on, where quality is what people prefer."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import model_validator

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.core.votes import SKIP, Mode
from promptroute.evaluation.people import Answers, as_scores
from promptroute.io.files import sha256
from promptroute.io.sources import FileRead
from promptroute.io.tidy import TidyTable
from promptroute.io.votes import Votes

RANGES = {"preference": (0.0, 100.0), "rating": (1.0, 5.0)}


class VotesTable(TidyTable):
    """A file of answers that `promptroute annotate` wrote, as a table of scores.

    Votes on pairs become `preference`: the share of wins, in percent, that a model's images of a prompt can expect against
    the other models', by Bradley–Terry strengths of the prompt that are shrunk to the models' own over all prompts. Ratings
    become their mean, `rating`. A prompt that nobody answered on is left out.

    Settings:
        votes: the file.
    """

    votes: str
    prompts: str = ""
    scores: str = ""
    missing: Literal["refuse", "drop_model", "drop_prompt"] = "drop_prompt"

    @model_validator(mode="before")
    @classmethod
    def _same_file(cls, section: Any) -> Any:
        """Prompts and scores both come from the votes."""
        there = section.get("votes", "") if isinstance(section, dict) else ""
        return {**section, "prompts": there, "scores": there} if isinstance(section, dict) else section

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the file of votes."""
        return section.get("votes")

    def at(self, folder: Path | str) -> Self:
        """Give the same table, its file in another local folder."""
        return type(self)(**{**dict(self), "votes": f"{folder}/{Path(self.votes).name}"})

    def models(self) -> dict[str, Plain]:
        """Give the models by key, with the labels and profiles that the file knows."""
        known, found = self._answers[3], super().models()
        order = [*known, *(facts["stem"] for facts in found.values())]
        return {
            key: {**facts, **known.get(facts["stem"], {})}
            for key, facts in sorted(found.items(), key=lambda item: order.index(item[1]["stem"]))
        }

    def scorers(self) -> dict[str, Plain]:
        """Give the section of the one score, by key."""
        found = super().scorers()
        return {
            key: {**section, "low": RANGES[key][0], "high": RANGES[key][1]} for key, section in found.items()
        }

    @cached_property
    def _answers(self) -> tuple[Answers, Mode, dict[str, str], dict[str, Plain]]:
        """Read answers, mode, the prompts' texts, and what is known of the models.

        Raises:
            UserError: the file is no file of votes, or older than its tables of prompts.
        """
        with Votes(Path(self.votes)) as file:
            answers, mode, prompts, models = file.answers(), file.mode, file.prompts, file.models
        lost = [subject.prompt_id for _, subject in answers if subject.prompt_id not in prompts]
        if lost:
            raise UserError(
                f"{self.votes}: holds no text of prompt {lost[0]}, as files of earlier versions; open it once with "
                f"`promptroute annotate` in the folder of its study, which adds the texts"
            )
        return answers, mode, prompts, models

    def _raw(self, which: Literal["prompts", "scores"], columns: Sequence[str]) -> pd.DataFrame:
        answers, mode, prompts, models = self._answers
        given = {subject.prompt_id for answer, subject in answers if answer.value != SKIP}
        if which == "prompts":
            asked = [name for name in prompts if name in given]
            texts = [prompts[name] for name in asked]
            raw = pd.DataFrame({"prompt_id": asked, "prompt": texts, "set": "votes"})
        else:
            seen = {model for _, subject in answers for model in subject.models}
            names = [name for name in models if name in seen] or sorted(seen)
            try:
                raw = as_scores(answers, mode, list(prompts), names)
            except UserError as error:
                raise UserError(f"{self.votes}: {error}") from error
        self._files = {**self._files, which: FileRead(Path(self.votes).name, sha256(self.votes), len(raw))}
        return raw.set_axis(range(1, len(raw) + 1))
