"""The feedback network's tokenizer: pieces learned from our own captions, in which the mark of a missed word is one."""

from collections import Counter
from collections.abc import Iterable
from math import log
from string import printable
from typing import Any

from promptroute.feedback.marking import MARK
from promptroute.feedback.texts import prompt_words

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # ids 0, 1, 2, as T5's


def train_tokenizer(texts: Iterable[str]) -> Any:
    """Make a Unigram tokenizer, `tokenizers.Tokenizer`, whose pieces are the captions' words, letters, and the mark.

    It ends each text as T5's does. A piece's score is the logarithm of its share; of letters, low enough that a known
    word is never spelt.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    counts = Counter(word for text in texts for word in prompt_words(text))
    letters = dict.fromkeys([*printable[:94], "▁"], -30.0)
    known = {f"▁{word}": log(count / counts.total()) for word, count in sorted(counts.items())}
    special = [PAD, END, UNKNOWN]
    pieces = [(piece, score) for piece, score in {**dict.fromkeys(special, 0.0), **letters, **known}.items()]
    tokenizer = Tokenizer(models.Unigram(pieces, special.index(UNKNOWN), False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(MARK, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, special.index(END))]
    )
    return tokenizer


def word_ends(encoding: Any) -> list[int]:
    """Return the position of each word's last piece in an encoded text, which is words joined by one blank."""
    starts = [index for index, piece in enumerate(encoding.tokens) if piece.startswith("▁")]
    return [start - 1 for start in [*starts[1:], len(encoding.tokens) - 1]]
