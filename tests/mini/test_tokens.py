"""The tokenizer."""

from mini.tokens import CONTEXT, encode, train_tokenizer
from tests.mini.helpers import TEXTS


def test_any_text_is_encoded() -> None:
    tokenizer = train_tokenizer(TEXTS)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a red circle").input_ids)[1:-1] == [
        "a</w>",
        "red</w>",
        "circle</w>",
    ]
    ids = encode(tokenizer, ["", "漢字 ☂ <b>", "word " * 200])
    assert ids.shape == (3, CONTEXT)
    assert (ids.max(dim=1).values == tokenizer.eos_token_id).all(), "the end mark has the highest number"
