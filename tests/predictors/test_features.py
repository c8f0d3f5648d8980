"""tf-idf, text statistics, and their blocks."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.features import Features, FittedFeatures
from promptroute.predictors.statistics import STATISTICS, statistics
from promptroute.predictors.tfidf import TfIdf

TEXTS = [
    "A red car, and a red sheep.",
    "red car",
    "Ein grüner Hund läuft; ein Hund!",
    "trending on artstation, 4k, by greg rutkowski",
    "by by by",
    "x",
    "",
    "猫 と 犬 in a car",
]


@pytest.mark.parametrize(
    ("unit", "analyzer", "sizes"), [("words", "word", (1, 2)), ("characters", "char_wb", (2, 5))]
)
@pytest.mark.parametrize("min_count", [1, 2])
def test_tfidf_equals_scikit_learns(unit: str, analyzer: str, sizes: tuple[int, int], min_count: int) -> None:
    theirs = TfidfVectorizer(analyzer=analyzer, ngram_range=sizes, min_df=min_count, sublinear_tf=True).fit(
        TEXTS
    )
    ours = TfIdf.fit(TEXTS, unit, sizes, min_count)  # type: ignore[arg-type]
    assert list(ours.terms) == list(theirs.get_feature_names_out())
    unseen = [*TEXTS, "a red dog and another red red car", "entirely unknown"]
    np.testing.assert_allclose(
        ours.transform(unseen).toarray(), theirs.transform(unseen).toarray(), atol=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab É,\t1-", max_size=12), min_size=1, max_size=6))
def test_tfidf_equals_scikit_learns_on_any_text(texts: list[str]) -> None:
    ours = TfIdf.fit(texts, "characters", (2, 3), 1)
    if not ours.terms:
        return
    theirs = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), sublinear_tf=True).fit(texts)
    assert list(ours.terms) == list(theirs.get_feature_names_out())
    np.testing.assert_allclose(ours.transform(texts).toarray(), theirs.transform(texts).toarray(), atol=1e-12)


def test_tfidf_by_hand() -> None:
    fitted = TfIdf.fit(["red car", "red red boat"], "words", (1, 1), 1)
    assert list(fitted.terms) == ["boat", "car", "red"]
    rare, common = np.log(3 / 2) + 1, np.log(3 / 3) + 1
    np.testing.assert_allclose(fitted.idf, [rare, rare, common])
    row = np.array([rare, 0, 1 + np.log(2)])  # "red" twice
    np.testing.assert_allclose(fitted.transform(["red boat red"]).toarray()[0], row / np.linalg.norm(row))


def test_statistics_by_hand() -> None:
    row = dict(zip(STATISTICS, statistics(['A "Red" car, by Bob (4k): é.'])[0], strict=True))
    log = np.log1p
    # Six words (A, "Red", car, by, Bob, (4k):, é.) are seven between white space; 28 characters in all.
    assert row == pytest.approx(
        {
            "words": log(7),
            "characters": log(28),
            "commas": log(1),
            "commas_per_word": 1 / 7,
            "sentence_ends": log(1),
            "digits": log(1),
            "capitals": 3 / 28,
            "word_length": (1 + 3 + 3 + 2 + 3 + 2 + 1) / 7,
            "distinct_words": 1,
            "function_words": 2 / 7,  # a, by
            "part_length": log(7 / 2),
            "by": log(1),
            "starts_capital": 1,
            "ends_full_stop": 1,
            "quotes": 1,
            "brackets": 1,
            "other_marks": log(1),
            "non_ascii": 1 / 28,
            "one_word": 0,
        }
    )


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_statistics_are_finite_whatever_the_text(texts: list[str]) -> None:
    rows = statistics(texts)
    assert rows.shape == (len(texts), len(STATISTICS))
    assert np.isfinite(rows).all()
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(statistics([text])[0], row)


def test_an_empty_text_has_zero_statistics() -> None:
    assert not statistics([""]).any()


def test_blocks_have_unit_mean_square_length_and_weights_scale_them(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    plain = Features().fit(prompts).transform(prompts)
    assert list(plain.dense) == ["embeddings.one", "embeddings.two", "statistics"] and list(plain.sparse) == [
        "words"
    ]
    for name in ("embeddings.one", "embeddings.two"):
        assert (plain.dense[name] ** 2).sum(1).mean() == pytest.approx(1)
        np.testing.assert_allclose(plain.dense[name].mean(0), 0, atol=1e-9)
    weighted = (
        Features(weights={"embeddings": 3.0, "words": 0.5, "statistics": 2.0}).fit(prompts).transform(prompts)
    )
    np.testing.assert_allclose(weighted.dense["embeddings.two"], 3 * plain.dense["embeddings.two"])
    np.testing.assert_allclose(weighted.dense["statistics"], 2 * plain.dense["statistics"])
    np.testing.assert_allclose(weighted.sparse["words"].toarray(), 0.5 * plain.sparse["words"].toarray())


def test_column_scale_gives_unit_variance_and_steady_columns_give_zero(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    rows = Features(words=False, scale="column").fit(prompts).transform(prompts)
    np.testing.assert_allclose(rows.dense["embeddings.one"].var(0), 1)
    digits = rows.dense["statistics"][:, STATISTICS.index("digits")]
    assert not digits.any()  # no prompt of the problem has a digit


def test_each_block_can_be_switched_off_or_chosen(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    bare = PromptBatch(prompts.texts)

    def blocks(batch: PromptBatch, **options: object) -> list[str]:
        design = Features(**options).fit(batch).transform(batch)  # type: ignore[arg-type]
        return [*design.dense, *design.sparse]

    assert blocks(prompts, embeddings=["two"], words=False, statistics=False) == ["embeddings.two"]
    assert blocks(prompts, embeddings=[], words=False, characters=True, statistics=False) == ["characters"]
    assert blocks(prompts, words="fallback", statistics=False) == ["embeddings.one", "embeddings.two"]
    assert blocks(bare, words="fallback", statistics=False) == ["words"]
    assert Features(words="fallback", components=5).fit(bare).transform(bare).matrix().shape == (
        80,
        5 + len(STATISTICS),
    )


def test_reduction_keeps_the_greatest_directions(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    texts = TfIdf.fit(prompts.texts, "words", (1, 2), 2).transform(prompts.texts).toarray()
    reduced = Features(embeddings=[], statistics=False, components=5).fit(prompts)
    basis = reduced.blocks["words"].basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(5), atol=1e-8)
    kept, best = ((texts @ basis) ** 2).sum(), (np.linalg.svd(texts)[1][:5] ** 2).sum()
    assert 0.98 * best < kept <= best * (1 + 1e-9)  # randomised, so a little short of the best

    vectors = prompts.embeddings["one"].astype(float)
    spec = Features(words=False, statistics=False, embeddings=["one"], embedding_components=2)
    rows = spec.fit(prompts).transform(prompts).matrix()
    spectrum = np.linalg.svd(vectors - vectors.mean(0))[1] ** 2
    np.testing.assert_allclose((rows**2).sum(0) / (rows**2).sum(), spectrum[:2] / spectrum[:2].sum())


def test_nothing_of_other_prompts_enters(problem) -> None:  # type: ignore[no-untyped-def]
    train, _ = problem()
    test = PromptBatch(
        ["zebra zebra zebra red", "zebra quartz"], {k: v[:2] + 100 for k, v in train.embeddings.items()}
    )
    fitted = Features(characters=True).fit(train)
    before, _ = fitted.state()
    fitted.transform(test)
    after, _ = fitted.state()
    assert before == after
    for unit, terms in after["terms"].items():
        seen = set(train.texts)
        assert not any("zeb" in term or "qu" in term for term in terms), unit
        assert all(any(term.strip() in text for text in seen) for term in terms)


def test_state_gives_the_same_features_back(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    for spec in (
        Features(characters=True),
        Features(components=4, embedding_components=2, weights={"words": 2.0}),
    ):
        fitted = spec.fit(prompts)
        again = FittedFeatures.from_state(spec, *fitted.state())
        first, second = fitted.transform(prompts), again.transform(prompts)
        for name in first.dense:
            np.testing.assert_array_equal(first.dense[name], second.dense[name])
        for name in first.sparse:
            np.testing.assert_array_equal(first.sparse[name].toarray(), second.sparse[name].toarray())


def test_one_prompt_is_quick(problem) -> None:  # type: ignore[no-untyped-def]
    prompts = PromptBatch(problem(500)[0].texts)
    fitted = Features().fit(prompts)
    one = PromptBatch(["a highly detailed portrait of a red cat, oil on canvas, by a famous painter, neon"])
    times = []
    for _ in range(50):
        started = time.process_time()
        fitted.transform(one)
        times.append(time.process_time() - started)
    assert min(times) < 1e-3


def test_bad_settings_and_batches(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    bare = PromptBatch(prompts.texts)
    for options, message in [
        ({"words": "maybe"}, "features.words is 'maybe'"),
        ({"embeddings": "minilm"}, "expected all, or a list"),
        ({"scale": "row"}, "expected block or column"),
        ({"components": 0}, "features.components is 0"),
        ({"weights": {"colour": 1.0}}, "colour"),
    ]:
        with pytest.raises(UserError, match=message):
            Features(**options)
    with pytest.raises(UserError, match=r"no embeddings 'three', this batch has: one, two"):
        Features(embeddings=["three"]).fit(prompts)
    with pytest.raises(UserError, match=r"no embeddings 'one', this batch has: none \(text_encoder=none\)"):
        Features().fit(prompts).transform(bare)
    with pytest.raises(UserError, match="no feature is left"):
        Features(words=False, statistics=False).fit(bare)
    with pytest.raises(UserError, match="'one' are 3 wide, but the predictor was fitted on 6"):
        narrow = {name: rows[:, :3] for name, rows in prompts.embeddings.items()}
        Features().fit(prompts).transform(PromptBatch(prompts.texts, narrow))
    with pytest.raises(UserError, match=r"can't take the sparse features words; set features.components"):
        Features().fit(prompts).transform(prompts).matrix()


def test_words_of_which_none_is_common_are_no_feature() -> None:
    """A vocabulary that min_count leaves empty would make a predictor of nothing, without a word."""
    prompts = PromptBatch(["a dog runs", "cats sleep", "the sun"])
    with pytest.raises(
        UserError, match=r"no term of theirs stands in 3 prompts; .* lower features\.min_count"
    ):
        Features(statistics=False, min_count=3).fit(prompts)
    assert Features(statistics=False, min_count=1).fit(prompts).texts["words"].terms
    Features(statistics=True, min_count=3).fit(prompts).transform(prompts)  # statistics are left
