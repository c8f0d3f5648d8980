"""What recovered texts say, part by part."""

from collections import Counter

import pytest

from mini.captions import PROMPT_SETS, Group, Statement, sample_captions
from mini.recovery import FILE, PARTS, agreement, phrase_lists, said, said_by_phrases
from promptroute.io.phrases import read_phrases
from tests.conftest import ROOT


def test_file_is_current() -> None:
    assert read_phrases(ROOT / FILE) == {name: list(phrases) for name, phrases in phrase_lists().items()}


def test_said_by_a_statement() -> None:
    groups = (Group(2, "star", "red"), Group(1, "star", None, "small", place="top"))
    found = said(Statement(groups, None, "white", "plain"))
    assert found == Counter(
        {("shape", "star"): 2, ("colour", "red"): 1, ("size", "small"): 1, ("place", "top"): 1, ("count", "2"): 1,
         ("background", "white"): 1, ("pattern", "plain"): 1}
    )  # fmt: skip


def test_said_by_phrases() -> None:
    found = said_by_phrases(
        ["red star", "two stars", "striped", "white background", "shaded background", "4k"]
    )
    assert +found == Counter(
        {("shape", "star"): 1, ("colour", "red"): 1, ("count", "2"): 1, ("texture", "striped"): 1,
         ("background", "white"): 1, ("pattern", "gradient"): 1}
    )  # fmt: skip
    assert said_by_phrases(["red star", "blue ring"])["shape", "ring"] == 1
    assert said_by_phrases([]) == Counter()


def test_agreement_by_hand() -> None:
    red, blue = Counter({("colour", "red"): 1, ("shape", "star"): 1}), Counter({("colour", "blue"): 2})
    found = agreement([(red, red), (blue, red)])
    assert found["colour"] == {"precision": pytest.approx(1 / 3), "recall": 0.5, "f1": 0.4}
    assert found["shape"] == {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert found["all"]["precision"] == 0.5 and found["all"]["recall"] == 0.5
    assert found["size"] == {"precision": 0, "recall": 0, "f1": 0} and set(found) == {*PARTS, "all"}


@pytest.mark.parametrize("prompt_set", PROMPT_SETS)
def test_a_statement_agrees_with_itself(prompt_set: str) -> None:
    own = [said(caption.statement) for caption in sample_captions(prompt_set, 30, 1)]
    assert agreement([(one, one) for one in own])["all"]["f1"] == 1
    assert {part for one in own for part, _ in one} <= set(PARTS)
