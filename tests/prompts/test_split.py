"""No text on two sides, every prompt on one, each set in its share."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.prompts.split import ByRow, ByText

SHARES = [0.8, 0.1, 0.1]


def prompts(texts: list[str], sets: list[str]) -> pd.DataFrame:
    ids = [f"P{i:04d}" for i in range(len(texts))]
    return pd.DataFrame({"prompt_id": ids, "prompt": texts, "set": sets, "count": 1})


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("AB")), min_size=40, max_size=120),
    st.integers(0, 5),
)
def test_texts_stay_together(rows: list[tuple[int, str]], seed: int) -> None:
    frame = prompts([f"text {n}" for n, _ in rows], [s for _, s in rows])
    if frame["prompt"].nunique() < 3:
        return
    split = ByText(shares=SHARES, seed=seed).split(frame)
    assert list(split["prompt_id"]) == list(frame["prompt_id"])
    assert split["split"].notna().all()
    assert (split.assign(text=frame["prompt"]).groupby("text")["split"].nunique() == 1).all()
    turned = ByText(shares=SHARES, seed=seed).split(frame.iloc[::-1])
    merged = split.merge(turned, on="prompt_id", suffixes=("", "_turned"))
    assert (merged["split"] == merged["split_turned"]).all()


def test_shares_hold_in_each_set() -> None:
    texts = [f"text {i}" for i in range(1000)]
    frame = prompts(texts, ["A"] * 900 + ["B"] * 93 + ["C"] * 7)
    split = ByText(shares=SHARES, seed=3).split(frame)["split"]
    assert Counter(split) == {"train": 800, "validation": 100, "test": 100}
    assert Counter(split[:900]) == {"train": 720, "validation": 90, "test": 90}
    assert Counter(split[900:993])["test"] in (9, 10)


def test_case_and_space_are_ignored() -> None:
    frame = prompts(["A Dog", "a dog "] + [f"text {i}" for i in range(98)], ["A"] * 100)
    for seed in range(20):
        first, second = ByText(shares=SHARES, seed=seed).split(frame)["split"][:2]
        assert first == second


def test_seeds_differ() -> None:
    frame = prompts([f"text {i}" for i in range(200)], ["A"] * 200)
    assert not (
        ByText(shares=SHARES, seed=0).split(frame)["split"]
        == ByText(shares=SHARES, seed=1).split(frame)["split"]
    ).all()
    assert (
        ByText(shares=SHARES, seed=0).split(frame)["split"]
        == ByText(shares=SHARES, seed=0).split(frame)["split"]
    ).all()


def test_by_row_is_the_papers() -> None:
    from sklearn.model_selection import train_test_split

    frame = prompts([f"text {i}" for i in range(200)], ["A"] * 150 + ["B"] * 50)
    train, rest = train_test_split(frame, test_size=0.2, shuffle=True, stratify=frame["set"], random_state=42)
    validation, test = train_test_split(
        rest, test_size=0.5, shuffle=True, stratify=rest["set"], random_state=42
    )
    sides = ByRow().split(frame).set_index("prompt_id")["split"]
    assert (sides[train["prompt_id"]] == "train").all()
    assert (sides[validation["prompt_id"]] == "validation").all()
    assert (sides[test["prompt_id"]] == "test").all()
    assert len(sides) == 200


@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.9, 0.2, 0.1], [1.0, 0.0, 0.0], [-0.2, 0.6, 0.6]])
def test_bad_shares(shares: list[float]) -> None:
    with pytest.raises(UserError, match=r"shares is .* expected three shares above 0 that add up to 1"):
        ByText(shares=shares)


def test_too_few_prompts() -> None:
    with pytest.raises(UserError, match=r"2 unique prompt\(s\) can't be split"):
        ByText(shares=SHARES).split(prompts(["a", "b", "b"], ["A"] * 3))
    with pytest.raises(UserError, match="split small studies by text"):
        ByRow().split(prompts(list(map(str, np.arange(20))), ["A"] * 19 + ["B"]))


def test_shares_must_be_numbers() -> None:
    with pytest.raises(UserError, match=r"shares.0 is nan"):
        ByText(shares=[float("nan"), 0.5, 0.5])


def test_by_row_needs_order() -> None:
    frame = prompts([f"text {i}" for i in range(200)], ["A"] * 200)
    frame.attrs["order"] = "random"
    with pytest.raises(UserError, match=r"sampled in random order; set prompts\.seed to null"):
        ByRow().split(frame)
