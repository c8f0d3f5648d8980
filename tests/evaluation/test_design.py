"""Which images people see, and in which order."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promptroute.evaluation.design import even_images, even_pairs, is_swapped, most_telling, with_repeats
from promptroute.evaluation.strength import Outcomes

MODELS = ("a", "b", "c", "d")
IMAGES = {f"p{i}": {model: [0, 1, 2] for model in MODELS} for i in range(12)}


class TestPairs:
    def test_every_pair_of_every_prompt_once(self) -> None:
        tasks = even_pairs(IMAGES, MODELS, None, seed=0)
        assert len(tasks) == len(set(tasks)) == 12 * 6 and {task.seeds for task in tasks} == {(0, 1, 2)}

    @given(st.integers(1, 72), st.integers(0, 5))
    def test_even_wherever_one_stops(self, stop: int, seed: int) -> None:
        tasks = even_pairs(IMAGES, MODELS, None, seed)[:stop]
        for counts in (
            Counter(task.prompt_id for task in tasks),
            Counter(task.models for task in tasks),
        ):
            missing = stop < (12 if len(counts) > 6 else 6)
            assert max(counts.values()) - (0 if missing else min(counts.values())) <= 1 + (len(counts) <= 6)

    def test_seeds(self) -> None:
        assert {task.seeds for task in even_pairs(IMAGES, MODELS, 1, 0)} == {(0,)}

    def test_a_failed_image_is_left_out(self) -> None:
        images = {"p": {"a": [0, 1], "b": [1], "c": []}}
        (task,) = even_pairs(images, ("a", "b", "c"), None, 0)
        assert (task.models, task.seeds) == (("a", "b"), (1,))


def test_single_images() -> None:
    tasks = even_images(IMAGES, MODELS, None, seed=0)
    assert len(set(tasks)) == 12 * 4 * 3 and len({task.prompt_id for task in tasks[:12]}) == 12
    assert len(even_images(IMAGES, MODELS, 1, 0)) == 48


class TestSides:
    def test_as_good_as_a_coin(self) -> None:
        swapped = [is_swapped(f"{task:016x}", rater, 0) for task in range(500) for rater in ("x", "y")]
        assert 430 < sum(swapped) < 570

    def test_fixed_and_turned_on_repetition(self) -> None:
        assert is_swapped("t", "x", 0) == is_swapped("t", "x", 0) != is_swapped("t-again", "x", 0)


@given(st.integers(0, 100), st.sampled_from([0.0, 0.05, 0.2, 0.5]))
def test_repetitions(many: int, share: float) -> None:
    tasks = [f"t{i}" for i in range(many)]
    order = with_repeats(tasks, share)
    assert [task for task in order if not task.endswith("-again")] == tasks
    for place, task in enumerate(order):
        if task.endswith("-again"):
            assert place - order.index(task.removesuffix("-again")) >= 10
    assert order.count("t0-again") <= 1 and len(order) - many <= share * many


def test_near_and_seldom_seen_pairs_tell_most() -> None:
    subjects = even_pairs({"p": {model: [0] for model in "abc"}}, "abc", None, 0)
    wins, ties = np.zeros((3, 3)), np.zeros((3, 3))
    wins[0, 1] = 30  # a beats b always; c stands between, seen twice
    wins[0, 2] = wins[2, 1] = 1
    order = most_telling(subjects, "abc", Outcomes(wins, ties))
    assert subjects[order[-1]].models == ("a", "b")
