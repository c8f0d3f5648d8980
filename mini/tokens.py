"""The small models' tokenizer: byte pairs learned from our own captions, as a `CLIPTokenizer`."""

from collections.abc import Iterable
from typing import Any

CONTEXT = 64  # tokens, including those of start and end
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], size: int = 2048) -> Any:
    """Train a CLIP tokenizer of at most `size` tokens; every byte is a token, so any text can be encoded.

    The end token has the highest id, by which CLIP finds where a text ends; it also pads.
    """
    import json

    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bare = CLIPTokenizer()  # splits as CLIP does; its vocabulary is empty
    learner = bare.backend_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2 - len(alphabet),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    words = [*sorted(model["vocab"], key=model["vocab"].__getitem__)]
    words += [letter + "</w>" for letter in alphabet if letter + "</w>" not in model["vocab"]]
    vocab = {word: index for index, word in enumerate(dict.fromkeys([*words, START, END]))}
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)


def encode(tokenizer: Any, texts: list[str]) -> Any:
    """Return token ids, int64 tensor [n, CONTEXT], padded and truncated as the pipelines do it."""
    return tokenizer(
        texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids
