"""Text out of an embedding, by a sentence encoder that counts words: every cosine can be worked out by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.recovery.texts import Bank, Recovered, Sentences, compose, ranked, without
from promptroute.recovery.vectors import unit

WORDS = ("red", "blue", "star", "ring", "small")


class Words(Component):
    """Counts words; a first column, which is no part of the sentence embedding, is the text's length."""

    @property
    def sentence_width(self) -> int:
        return len(WORDS)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text), *(text.count(word) for word in WORDS)] for text in texts], np.float32)


@pytest.fixture
def sentences() -> Sentences:
    return Sentences(Words())


@pytest.fixture
def bank(sentences: Sentences) -> Bank:
    texts = ["red star", "blue star", "red ring", "small blue ring"]
    return Bank(texts, sentences(texts))


class TestRetrieve:
    def test_nearest_first(self, bank: Bank, sentences: Sentences) -> None:
        (found,) = bank.retrieve(sentences(["red ring"]), 2)
        assert found[0].text == "red ring" and found[0].how == "retrieve"
        assert found[0].cosine == pytest.approx(1, abs=1e-6) and found[1].cosine < 0.9

    def test_less_the_mean(self) -> None:
        """An unsure prediction, most of which is the mean, still finds its own."""
        vectors = unit(np.array([[4.0, 1, 0], [4, 0, 1], [4, 0.4, 0.4]]))
        bank = Bank(["one", "other", "a little of both"], vectors)
        unsure = 0.7 * vectors.mean(axis=0) + 0.3 * vectors[0]
        assert (unit(unsure[None]) @ vectors.T).argmax() == 2
        assert bank.retrieve(unsure[None], 1)[0][0].text == "one"

    def test_single_prompt(self) -> None:
        assert Bank(["all"], np.array([[0.6, 0.8]])).retrieve(np.array([[1.0, 0]]), 5)[0][0].text == "all"

    def test_refuses(self, bank: Bank) -> None:
        with pytest.raises(UserError, match="the bank holds no prompts"):
            Bank([], np.empty((0, 5)))
        with pytest.raises(UserError, match=r"the bank has 2 prompts and embeddings \(1, 5\)"):
            Bank(["a", "b"], np.ones((1, 5)))
        with pytest.raises(UserError, match="the bank's embeddings: row 1 holds a value that is not finite"):
            Bank(["a", "b"], np.array([[1.0, 2], [np.nan, 1]]))
        with pytest.raises(UserError, match="by embeddings 3 wide; expected 1 or more, and 5 as the bank's"):
            bank.retrieve(np.ones((1, 3)), 1)
        with pytest.raises(UserError, match="predicted embeddings: row 0 holds a value that is not finite"):
            bank.retrieve(np.full((1, 5), np.nan), 1)

    def test_holds_what_it_is_judged_on(self, bank: Bank) -> None:
        bank.check_apart(["red"])
        with pytest.raises(UserError, match="holds 1 of the prompts that it is judged on, as ' Red STAR'"):
            bank.check_apart(["red", " Red STAR"])

    def test_less(self, bank: Bank) -> None:
        fewer = bank.less([" RED star", "another"])
        assert list(fewer.texts) == ["blue star", "red ring", "small blue ring"]
        np.testing.assert_array_equal(fewer.vectors, bank.vectors[1:])
        with pytest.raises(UserError, match="the bank holds no prompts"):
            bank.less(list(bank.texts))


def test_without() -> None:
    texts = ["a", "B ", "b", "c", "d", "A", "e"]
    assert without(texts, ["C"]) == ["a", "B ", "d", "e"]
    assert without(texts, [], most=3) == ["a", "c", "e"]
    assert without(["x"], ["X "]) == []


class TestCompose:
    def test_adds_while_it_comes_nearer(self, sentences: Sentences) -> None:
        lists = {"colours": ["blue", "red"], "things": ["ring", "star"], "sizes": ["small"]}
        (one,) = compose(sentences(["red star"]), lists, sentences)
        assert set(one.phrases) == {"red", "star"} and one.text == ", ".join(one.phrases)
        assert one.cosine == pytest.approx(1, abs=1e-6) and one.how == "compose"

    def test_one_of_a_list(self, sentences: Sentences) -> None:
        target = sentences(["red blue star"])
        (both,) = compose(target, {"colours": ["red"], "more": ["blue"], "things": ["star"]}, sentences)
        (one,) = compose(target, {"colours": ["red", "blue"], "things": ["star"]}, sentences)
        assert len(both.phrases) == 3 and len(one.phrases) == 2 and one.cosine < both.cosine

    def test_caption_begins(self, sentences: Sentences) -> None:
        made = compose(sentences(["small red star", "blue ring"]), {"all": ["red", "ring"]}, sentences, captions=["small star", "blue"])  # fmt: skip
        assert [one.text for one in made] == ["small star, red", "blue, ring"]
        (kept,) = compose(sentences(["red star"]), {"all": ["blue"]}, sentences, captions=["red star"])
        assert kept.text == "red star" and kept.phrases == ()

    def test_most(self, sentences: Sentences) -> None:
        (one,) = compose(sentences(["red blue star"]), {word: [word] for word in WORDS}, sentences, most=2)
        assert len(one.phrases) == 2

    def test_no_phrases(self, sentences: Sentences) -> None:
        with pytest.raises(UserError, match="there are no phrases to set together"):
            compose(np.ones((1, 5)), {}, sentences)


def test_ranked() -> None:
    some = [Recovered("a", 0.5, "retrieve"), Recovered("b", 0.2, "retrieve")]
    other = [Recovered("A ", 0.9, "compose"), Recovered("c", 0.3, "compose")]
    assert [one.text for one in ranked(some, other, k=2)] == ["A ", "c"]


def test_encodes_no_texts() -> None:
    class Nothing(Component):
        """Encodes nothing."""

    with pytest.raises(UserError, match="Nothing encodes no texts; name a text encoder"):
        Sentences(Nothing())


def test_encodes_each_text_once() -> None:
    asked: list[str] = []

    class Noting(Words):
        """Notes what it is asked."""

        def encode(self, texts: Sequence[str]) -> Any:
            asked.extend(texts)
            return super().encode(texts)

    sentences = Sentences(Noting(), batch_size=2)
    rows = sentences(["red", "star", "red", "blue"])
    np.testing.assert_array_equal(rows[0], rows[2])
    sentences(["blue", "ring"])
    assert sorted(asked) == ["blue", "red", "ring", "star"]
