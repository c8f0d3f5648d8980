"""Sampling: a smaller study is the beginning of a larger one, whatever the order of the sources."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.io.sources import FileRead
from promptroute.prompts.sampling import sample
from promptroute.prompts.statistics import statistics


@dataclass
class Listed:
    """A source in memory."""

    rows: list[tuple[str, str]]
    """(set, text)."""
    ids: Sequence[str] | None = None

    @property
    def has_own_ids(self) -> bool:
        return self.ids is not None

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        frame = pd.DataFrame(self.rows, columns=["set", "prompt"])
        ids = self.ids or [f"X{i:07d}" for i in range(len(self.rows))]
        return frame.assign(prompt_id=ids, count=1)[["prompt_id", "prompt", "set", "count"]], [
            FileRead("listed", "0", len(frame))
        ]


# Few texts, so that some are duplicates.
ROWS = st.lists(
    st.tuples(st.sampled_from(["A", "B", "C"]), st.text("ab", max_size=3)), min_size=2, max_size=40
)
EVEN = (
    [("A", f"a{i}") for i in range(60)]
    + [("B", f"b{i}") for i in range(30)]
    + [("C", f"c{i}") for i in range(10)]
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(0, 5), st.data())
def test_prefix_of_a_larger_sample(rows: list[tuple[str, str]], seed: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(rows)))
    k = data.draw(st.integers(0, len(rows) - n))
    own = data.draw(st.booleans())
    source = Listed(rows, [f"id{i}" for i in range(len(rows))] if own else None)
    small, large = sample([source], n, seed), sample([source], n + k, seed)
    pd.testing.assert_frame_equal(small, large.head(n))
    pd.testing.assert_frame_equal(large, sample([source], seed=seed).head(n + k))
    assert large["prompt_id"].is_unique


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_source_order_is_irrelevant(rows: list[tuple[str, str]], seed: int, order: random.Random) -> None:
    shuffled = rows[:]
    order.shuffle(shuffled)
    cut = order.randint(1, len(rows) - 1)
    columns = ["prompt_id", "prompt", "set"]
    whole = sample([Listed(rows)], seed=seed)[columns]
    parts = sample([Listed(shuffled[cut:]), Listed(shuffled[:cut])], seed=seed)[columns]
    pd.testing.assert_frame_equal(whole, parts)


@settings(max_examples=20, deadline=None)
@given(ROWS, st.integers(0, 5))
def test_ids_sort_in_sampling_order(rows: list[tuple[str, str]], seed: int) -> None:
    ids = sample([Listed(rows)], seed=seed)["prompt_id"].to_list()
    assert ids == sorted(set(ids)) and {len(one) for one in ids} == {8}


@pytest.mark.parametrize("n", [10, 20, 50, 99])
def test_prefixes_keep_proportions(n: int) -> None:
    sets = sample([Listed(EVEN)], n, seed=3)["set"].value_counts()
    for name, share in {"A": 0.6, "B": 0.3, "C": 0.1}.items():
        assert abs(sets.get(name, 0) - share * n) <= 1.5


def test_interleaving_by_hand() -> None:
    # Of A's three prompts the first comes at 1/6 of the whole, the next at 1/2, as B's only one does.
    rows = [("A", "x"), ("B", "y"), ("A", "z"), ("A", "w")]
    assert sample([Listed(rows)], seed=0)["set"].to_list() == ["A", "A", "B", "A"]


def test_seeds_differ() -> None:
    first = {sample([Listed(EVEN)], 1, seed)["prompt"].iloc[0] for seed in range(150)}
    assert len(first) > 45  # of A's 60: 150 even choices meet 55.2 of them on average


def test_own_ids_stay() -> None:
    source = Listed([("B", "x"), ("A", "y"), ("A", "x")], ["z", "b", "a"])
    taken = sample([source], seed=None)
    assert taken["prompt_id"].to_list() == ["z", "b", "a"]
    assert set(sample([source], 2, seed=1)["prompt_id"]) < {"z", "b", "a"}


def test_mixed_sources_are_renumbered() -> None:
    taken = sample([Listed([("A", "x")], ["z"]), Listed([("B", "y")])], seed=None)
    assert taken["prompt_id"].to_list() == ["P0000001", "P0000002"]


@pytest.mark.parametrize(
    ("sources", "n", "seed", "message"),
    [
        ([Listed(EVEN)], 0, 0, "prompts.n=0: the sources hold 100 prompts; give 1 to 100, or null for all"),
        ([Listed(EVEN)], 101, 0, "prompts.n=101: the sources hold 100 prompts; give 1 to 100, or null for all"),
        ([Listed([("A", "x")], ["z"]), Listed([("B", "y")], ["z"])], None, 0, "prompts.sources together: prompt_id ('z') is a duplicate in the row of prompt_id 'z'; 1 such row(s)"),
    ],
)  # fmt: skip
def test_errors(sources: list[Listed], n: int | None, seed: int | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        sample(sources, n, seed)
    assert str(caught.value) == message


def test_statistics_by_hand() -> None:
    prompts = pd.DataFrame(
        {
            "prompt": ["one", "now three words", "none", "one"],
            "set": ["A", "A", "B", "B"],
            "count": [3, 1, 1, 1],
        }
    )
    assert statistics(prompts) == {
        # Words 1, 1, 1, 3: mean 1.5, variance (3 · 0.25 + 2.25) / 4 = 0.75.
        "A": {"prompts": 4, "duplicates": 2, "words": {"mean": 1.5, "std": 0.75**0.5, "min": 1, "max": 3}},
        "B": {"prompts": 2, "duplicates": 0, "words": {"mean": 1.0, "std": 0.0, "min": 1, "max": 1}},
    }


def test_sets_keep_their_order() -> None:
    prompts, _ = Listed([("B", "one"), ("A", "two words"), ("B", "three more words")]).read()
    found = statistics(prompts)
    assert list(found) == ["B", "A"]
    assert found["B"]["words"]["mean"] == 2.0
