"""Everything that people's answers say of a study: of its models, of the people, and of its scores."""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.plain import Plain
from promptroute.core.votes import SKIP, Answer, Marks, Mode, Subject
from promptroute.evaluation.agreement import (
    rater_agreement,
    resampled,
    scorer_agreement,
    self_agreement,
    side_bias,
)
from promptroute.evaluation.bootstrap import Interval
from promptroute.evaluation.strength import Outcomes, count, rank, votes_as_scores, votes_until_apart

Answers = Sequence[tuple[Answer, Subject]]


def measure(
    answers: Answers,
    mode: Mode,
    performance: pd.DataFrame,
    outputs: Mapping[str, Output],
    sets: Mapping[str, str],
    *,
    seed: int,
    resamples: int,
) -> Plain:
    """Measure what people said.

    Args:
        answers: what each said, the oldest first, and what their tasks show.
        mode: pairs, ratings or marks.
        performance: `Performance` rows of the study.
        outputs: full name → output of each of its scores.
        sets: prompt_id → prompt set.
        seed, resamples: of the bootstrap.

    Returns:
        `mode`, `answers`, `skipped`, `raters`, `seconds` (median of an answer), and what the mode gives.

    Raises:
        UserError: nothing but skipped tasks, or prompts or models that the study lacks.
    """
    given = [(answer, subject) for answer, subject in answers if answer.value != SKIP]
    if not given:
        raise UserError("nobody has answered anything yet; expected at least one answer")
    models = list(dict.fromkeys(performance["model"]))
    _check_known(given, sets, models)
    facts = {
        "mode": mode,
        "answers": len(given),
        "skipped": len(answers) - len(given),
        "raters": len({answer.rater for answer, _ in given}),
        "seconds": float(np.median([answer.milliseconds for answer, _ in given]) / 1000),
    }
    if mode == "marks":
        found = _marks(given)
    elif mode == "ratings":
        found = _ratings(given, seed, resamples)
    else:
        found = _pairs(given, models, performance, outputs, sets, seed, resamples)
    return _plain({**facts, **found})


def _check_known(given: Answers, prompts: Container[str], models: Collection[str]) -> None:
    """Refuse answers about prompts or models that the study lacks."""
    for _, subject in given:
        if subject.prompt_id not in prompts or not set(subject.models) <= set(models):
            raise UserError(
                f"an answer is about prompt {subject.prompt_id} and {' and '.join(subject.models)}, which the study "
                f"lacks; give the votes that people gave on this study"
            )


def _plain(found: Plain) -> Plain:
    """Give intervals as JSON holds them."""
    return {
        name: asdict(value)
        if isinstance(value, Interval)
        else _plain(value)
        if isinstance(value, dict)
        else value
        for name, value in found.items()
    }


def vote_rows(answers: Answers) -> pd.DataFrame:
    """Lay votes on pairs out as rows: rater, prompt_id, first, second, lead, side (1 left, -1 right, 0 tie), again."""
    side = {"left": 1, "right": -1}
    return pd.DataFrame(
        [
            (
                answer.rater,
                subject.prompt_id,
                *subject.models,
                answer.lead,
                side.get(str(answer.value), 0),
                answer.task.endswith("-again"),
            )
            for answer, subject in answers
        ],
        columns=["rater", "prompt_id", "first", "second", "lead", "side", "again"],
    )


def outcomes_of(rows: pd.DataFrame, prompts: Sequence[str], models: Sequence[str]) -> Outcomes:
    """Count `vote_rows` by prompt: outcomes [prompts, m, m]."""
    place = {name: number for number, name in enumerate(prompts)}
    column = {name: number for number, name in enumerate(models)}
    found = count(
        rows["prompt_id"].map(place).to_numpy(np.int64),
        rows["first"].map(column).to_numpy(np.int64),
        rows["second"].map(column).to_numpy(np.int64),
        rows["lead"].to_numpy(np.int64),
        len(models),
    )
    more = ((0, len(prompts) - len(found.wins)), (0, 0), (0, 0))  # prompts at the end without a vote
    return Outcomes(np.pad(found.wins, more), np.pad(found.ties, more))


def as_scores(answers: Answers, mode: Mode, prompts: Sequence[str], models: Sequence[str]) -> pd.DataFrame:
    """Turn answers into scores of prompts and models, of those prompts that somebody answered on.

    Args:
        answers: what people said, and what their tasks show.
        mode: pairs or ratings.
        prompts, models: of the study, in its order.

    Returns:
        Columns prompt_id, model, and `preference` (see `votes_as_scores`) or `rating` (mean, 1 to 5; of those images that
        somebody rated), higher is better.

    Raises:
        UserError: they are marks, of another study, or there are none.
    """
    given = [(a, s) for a, s in answers if a.value != SKIP and not a.task.endswith("-again")]
    if mode == "marks" or not given:
        raise UserError("no vote on pairs and no rating, so there is nothing to make scores of")
    if any(s.prompt_id not in set(prompts) or not set(s.models) <= set(models) for _, s in given):
        raise UserError(
            "an answer is about a prompt or model that the study lacks; give the votes on this study"
        )
    seen = {subject.prompt_id for _, subject in given}
    asked = [prompt for prompt in prompts if prompt in seen]
    if mode == "pairs":
        scores = votes_as_scores(outcomes_of(vote_rows(given), asked, models))
        return pd.DataFrame(
            {
                "prompt_id": np.repeat(asked, len(models)),
                "model": np.tile(models, len(asked)),
                "preference": scores.ravel(),
            }
        )
    rows = [(s.prompt_id, s.models[0], int(a.value)) for a, s in given if isinstance(a.value, int)]
    frame = pd.DataFrame(rows, columns=["prompt_id", "model", "rating"])
    return frame.groupby(["prompt_id", "model"], sort=False)["rating"].mean().reset_index()


def _pairs(
    given: Answers,
    models: Sequence[str],
    performance: pd.DataFrame,
    outputs: Mapping[str, Output],
    sets: Mapping[str, str],
    seed: int,
    resamples: int,
) -> Plain:
    every = vote_rows(given)
    rows = every[~every["again"]]
    units = rows["prompt_id"] + "\0" + rows["first"] + "\0" + rows["second"]
    by = pd.DataFrame({"unit": units, "rater": rows["rater"], "value": rows["lead"]})
    chosen = {"seed": seed, "resamples": resamples}
    voted = rows["prompt_id"].map(sets)
    found: Plain = {
        "ties": float((rows["lead"] == 0).mean()),
        "sides": side_bias(every.loc[every["side"] != 0, "side"].to_numpy()),
        "same_again": self_agreement(every),
        "raters_agree": asdict(rater_agreement(by, "ordinal", seed=seed, resamples=resamples)),
        "models": _ranking(rows, models, **chosen),
        "models_by_set": {
            name: _ranking(rows[voted == name], models, **chosen) for name in dict.fromkeys(voted)
        },
        "pairs": _apart(rows),
        "scores": {},
    }
    for score, part in performance.groupby("score", sort=False):
        sign = 1.0 if outputs[str(score)].higher_is_better else -1.0
        values = {
            (str(prompt), str(model)): sign * float(mean)
            for prompt, model, mean in zip(part["prompt_id"], part["model"], part["mean"], strict=True)
        }
        found["scores"][str(score)] = scorer_agreement(rows, values, **chosen)
    return found


def _ranking(rows: pd.DataFrame, models: Sequence[str], *, seed: int, resamples: int) -> Plain:
    """Rank the models that somebody voted on."""
    named = {*rows["first"], *rows["second"]}
    seen = [model for model in models if model in named]
    found = rank(outcomes_of(rows, sorted(set(rows["prompt_id"])), seen), seed=seed, resamples=resamples)
    return {
        model: {
            "rank": place,
            "rank_low": low,
            "rank_high": high,
            "share": found.share[column],
            "strength": found.strength[column],
        }
        for column, (model, (place, low, high)) in enumerate(zip(seen, found.rank, strict=True))
    }


def _apart(rows: pd.DataFrame) -> Plain:
    found = {}
    for (first, second), part in rows.groupby(["first", "second"], sort=True):
        wins, losses, ties = (int((part["lead"] == lead).sum()) for lead in (1, -1, 0))
        found[f"{first} / {second}"] = {
            "wins": wins,
            "losses": losses,
            "ties": ties,
            "votes_until_apart": votes_until_apart(wins, losses, ties),
        }
    return found


def _mean(values: np.ndarray, rows: np.ndarray) -> float:
    return float(values[rows].mean())


def _ratings(given: Answers, seed: int, resamples: int) -> Plain:
    rows = pd.DataFrame(
        [
            (
                answer.rater,
                s.prompt_id,
                s.models[0],
                f"{s.prompt_id}\0{s.models[0]}\0{s.seeds[0]}",
                answer.value,
            )
            for answer, s in given
            if not answer.task.endswith("-again")
        ],
        columns=["rater", "prompt_id", "model", "unit", "value"],
    ).astype({"value": float})
    found = {}
    for model, part in rows.groupby("model", sort=True):
        means = part.groupby("prompt_id")["value"].mean().to_numpy()
        mean = partial(_mean, means)
        found[str(model)] = {
            "ratings": len(part),
            "mean": resampled(mean, len(means), seed=seed, resamples=resamples),
        }
    return {
        "models": found,
        "raters_agree": asdict(rater_agreement(rows, "ordinal", seed=seed, resamples=resamples)),
    }


def _marks(given: Answers) -> Plain:
    found: dict[str, dict[str, float]] = {}
    for answer, subject in given:
        if isinstance(answer.value, Marks):
            row = found.setdefault(subject.models[0], {"images": 0, "points": 0, "words": 0, "clean": 0})
            points, words = len(answer.value.points), len(answer.value.words)
            row["images"] += 1
            row["points"] += points
            row["words"] += words
            row["clean"] += not points and not words
    return {"models": found}
