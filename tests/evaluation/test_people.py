"""What a study's votes say, on simulated people whose opinions are known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.votes import Answer, Marks, Subject
from promptroute.evaluation.people import measure

TIME = "2026-01-01T00:00:00Z"
MODELS = ("a", "b", "c")
TRUTH = np.random.default_rng(0).normal([1.0, 0.0, -1.0], 1.0, (40, 3))
"""How good each model's images of a prompt are."""
PROMPTS = [f"p{number}" for number in range(len(TRUTH))]
OUTPUTS = {"good.score": Output("score", "good"), "bad.loss": Output("loss", "bad", higher_is_better=False)}


def performance() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"prompt_id": prompt, "model": model, "score": score, "mean": sign * TRUTH[row, column]}
            for score, sign in (("good.score", 1), ("bad.loss", -1))
            for row, prompt in enumerate(PROMPTS)
            for column, model in enumerate(MODELS)
        ]
    )


def people(noise: float, raters: int = 2) -> list[tuple[Answer, Subject]]:
    """Let people choose the better image, as they see it through noise, half of them with sides swapped."""
    random = np.random.default_rng(1)
    found = []
    for rater in range(raters):
        for row, prompt in enumerate(PROMPTS):
            for first, second in ((0, 1), (0, 2), (1, 2)):
                subject = Subject(prompt, (MODELS[first], MODELS[second]), (0,))
                swapped = bool(random.integers(2))
                lead = TRUTH[row, first] - TRUTH[row, second] + noise * random.normal()
                value = "left" if (lead > 0) != swapped else "right"
                found.append((Answer(subject.task("s"), f"r{rater}", value, swapped, 1000, TIME), subject))
    return found


def found(answers: list[tuple[Answer, Subject]], mode: Any = "pairs") -> dict[str, Any]:
    sets = {prompt: "even" if row % 2 == 0 else "odd" for row, prompt in enumerate(PROMPTS)}
    return measure(answers, mode, performance(), OUTPUTS, sets, seed=0, resamples=50)


class TestPairs:
    def test_perfect_raters(self) -> None:
        """People who see the truth agree with one another and with a score that is the truth, whatever its sign."""
        seen = found(people(0.0))
        assert seen["raters_agree"]["figures"]["alpha_nominal"]["estimate"] == 1
        assert [seen["scores"][name]["agreement"]["estimate"] for name in OUTPUTS] == [1.0, 1.0]
        assert [seen["models"][model]["rank"] for model in MODELS] == [1, 2, 3]
        assert set(seen["models_by_set"]) == {"even", "odd"}
        assert seen["sides"]["left"]["low"] < 0.5 < seen["sides"]["left"]["high"]

    def test_noise_lowers_agreement(self) -> None:
        quiet, loud = (found(people(noise)) for noise in (0.5, 3.0))
        for one in (
            lambda seen: seen["raters_agree"]["figures"]["alpha_nominal"],
            lambda seen: seen["scores"]["good.score"]["agreement"],
        ):
            assert one(loud)["high"] < one(quiet)["low"]

    def test_repetitions_count_apart(self) -> None:
        answers = people(0.0, raters=1)
        answer, subject = answers[0]
        again = Answer(
            f"{answer.task}-again",
            "r0",
            "right" if answer.value == "left" else "left",
            not answer.swapped,
            1,
            TIME,
        )
        before, after = found(answers), found([*answers, (again, subject)])
        assert after["same_again"] == {"r0": {"repeats": 1, "same": 1.0}} and before["same_again"] == {}
        assert after["pairs"] == before["pairs"] and after["models"] == before["models"]

    def test_skipped(self) -> None:
        answers = people(0.0)
        skipped = [(Answer(a.task, a.rater, "skip", False, 1, TIME), s) for a, s in answers[:5]]
        seen = found([*skipped, *answers[5:]])
        assert seen["skipped"] == 5 and seen["answers"] == len(answers) - 5


def test_ratings() -> None:
    answers = [
        (
            Answer(
                f"t{row}{column}", rater, int(np.clip(round(3 + TRUTH[row, column]), 1, 5)), False, 1, TIME
            ),
            Subject(prompt, (model,), (0,)),
        )
        for rater in ("x", "y")
        for row, prompt in enumerate(PROMPTS)
        for column, model in enumerate(MODELS)
    ]
    seen = found(answers, "ratings")
    means = [seen["models"][model]["mean"]["estimate"] for model in MODELS]
    assert means[0] > means[1] > means[2]
    assert seen["raters_agree"]["figures"]["alpha_ordinal"]["estimate"] == 1


def test_marks() -> None:
    answers = [
        (
            Answer("t1", "x", Marks(((0.1, 0.2), (0.3, 0.4)), (0,)), False, 1, TIME),
            Subject("p0", ("a",), (0,)),
        ),
        (Answer("t2", "x", Marks(), False, 1, TIME), Subject("p1", ("a",), (0,))),
    ]
    assert found(answers, "marks")["models"] == {"a": {"images": 2, "points": 2, "words": 1, "clean": 1}}


class TestRefused:
    def test_only_skipped(self) -> None:
        with pytest.raises(UserError, match="nobody has answered"):
            found([(Answer("t", "x", "skip", False, 1, TIME), Subject("p0", ("a", "b"), (0,)))])

    @pytest.mark.parametrize("subject", [Subject("p99", ("a", "b"), (0,)), Subject("p0", ("a", "z"), (0,))])
    def test_another_study(self, subject: Subject) -> None:
        with pytest.raises(UserError, match="which the study lacks"):
            found([(Answer("t", "x", "left", False, 1, TIME), subject)])
