"""tf-idf against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

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
def test_equals_sklearn(unit: str, analyzer: str, sizes: tuple[int, int], min_count: int) -> None:
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
def test_equals_sklearn_on_any_text(texts: list[str]) -> None:
    ours = TfIdf.fit(texts, "characters", (2, 3), 1)
    if not ours.terms:
        return
    theirs = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), sublinear_tf=True).fit(texts)
    assert list(ours.terms) == list(theirs.get_feature_names_out())
    np.testing.assert_allclose(ours.transform(texts).toarray(), theirs.transform(texts).toarray(), atol=1e-12)


def test_by_hand() -> None:
    fitted = TfIdf.fit(["red car", "red red boat"], "words", (1, 1), 1)
    assert list(fitted.terms) == ["boat", "car", "red"]
    rare, common = np.log(3 / 2) + 1, np.log(3 / 3) + 1
    np.testing.assert_allclose(fitted.idf, [rare, rare, common])
    row = np.array([rare, 0, 1 + np.log(2)])  # "red" twice
    np.testing.assert_allclose(fitted.transform(["red boat red"]).toarray()[0], row / np.linalg.norm(row))
