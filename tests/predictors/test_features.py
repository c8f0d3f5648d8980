"""Blocks of features: scales, choice, reduction, state."""

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.features import Features, FittedFeatures
from promptroute.predictors.statistics import STATISTICS
from promptroute.predictors.tfidf import TfIdf


def test_block_scale(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    plain = Features().fit(prompts).transform(prompts)
    assert list(plain.dense) == ["embeddings.one", "embeddings.two", "statistics"] and list(plain.sparse) == [
        "words"
    ]
    for name in ("embeddings.one", "embeddings.two"):
        assert (plain.dense[name] ** 2).sum(1).mean() == pytest.approx(1)
        np.testing.assert_allclose(plain.dense[name].mean(0), 0, atol=1e-9)
    weighted = (
        Features(factors={"embeddings": 3.0, "words": 0.5, "statistics": 2.0}).fit(prompts).transform(prompts)
    )
    np.testing.assert_allclose(weighted.dense["embeddings.two"], 3 * plain.dense["embeddings.two"])
    np.testing.assert_allclose(weighted.dense["statistics"], 2 * plain.dense["statistics"])
    np.testing.assert_allclose(weighted.sparse["words"].toarray(), 0.5 * plain.sparse["words"].toarray())


def test_column_scale(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    rows = Features(words=False, scale="column").fit(prompts).transform(prompts)
    np.testing.assert_allclose(rows.dense["embeddings.one"].var(0), 1)
    digits = rows.dense["statistics"][:, STATISTICS.index("digits")]
    assert not digits.any()  # no prompt of the problem has a digit


def test_blocks_are_optional(problem) -> None:  # type: ignore[no-untyped-def]
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


def test_reduction(problem) -> None:  # type: ignore[no-untyped-def]
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


def test_no_leak(problem) -> None:  # type: ignore[no-untyped-def]
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


def test_state_round_trip(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    for spec in (
        Features(characters=True),
        Features(components=4, embedding_components=2, factors={"words": 2.0}),
    ):
        fitted = spec.fit(prompts)
        again = FittedFeatures.from_state(spec, *fitted.state())
        first, second = fitted.transform(prompts), again.transform(prompts)
        for name in first.dense:
            np.testing.assert_array_equal(first.dense[name], second.dense[name])
        for name in first.sparse:
            np.testing.assert_array_equal(first.sparse[name].toarray(), second.sparse[name].toarray())


def test_refusals(problem) -> None:  # type: ignore[no-untyped-def]
    prompts, _ = problem()
    bare = PromptBatch(prompts.texts)
    for options, message in [
        ({"words": "maybe"}, "words is 'maybe'; expected True, False or 'fallback'"),
        ({"embeddings": "minilm"}, "expected all, or a list"),
        ({"scale": "row"}, "expected 'block' or 'column'"),
        ({"components": 0}, "components is 0"),
        ({"factors": {"colour": 1.0}}, "colour"),
        ({"factors": {"words": -1.0}}, "factors.words is -1; expected above 0"),
        ({"factors": {"words": 2.0}, "words": False}, "factors.words is given, but words are switched off"),
        ({"components": 4, "words": False}, "components is given, but characters and words are switched off"),
        ({"embedding_components": 4, "embeddings": []}, "embeddings are switched off; leave it out"),
    ]:
        with pytest.raises(UserError, match=message):
            Features(**options)
    with pytest.raises(UserError, match=r"no embeddings 'three', this batch has: one, two"):
        Features(embeddings=["three"]).fit(prompts)
    with pytest.raises(UserError, match=r"no embeddings 'one', this batch has: none; encode the prompts"):
        Features().fit(prompts).transform(bare)
    with pytest.raises(UserError, match="no feature is left"):
        Features(words=False, statistics=False).fit(bare)
    with pytest.raises(UserError, match="'one' are 3 wide, but the predictor was fitted on 6"):
        narrow = {name: rows[:, :3] for name, rows in prompts.embeddings.items()}
        Features().fit(prompts).transform(PromptBatch(prompts.texts, narrow))
    with pytest.raises(UserError, match=r"can't take the sparse features words; set features.components"):
        Features().fit(prompts).transform(prompts).matrix()


def test_rare_words_alone() -> None:
    """A vocabulary that min_count leaves empty would make a predictor of nothing, without a word."""
    prompts = PromptBatch(["a dog runs", "cats sleep", "the sun"])
    with pytest.raises(
        UserError, match=r"no term of theirs occurs in 3 prompts; .* lower features\.min_count"
    ):
        Features(statistics=False, min_count=3).fit(prompts)
    assert Features(statistics=False, min_count=1).fit(prompts).texts["words"].terms
    Features(statistics=True, min_count=3).fit(prompts).transform(prompts)  # statistics are left
