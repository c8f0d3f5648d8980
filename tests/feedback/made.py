"""A tiny network, a tokenizer of its own, and examples whose labels can be learnt."""

from typing import Any

import numpy as np

from promptroute.feedback.examples import ArrayExamples
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 220)}
SETTINGS = {
    "image_side": 16, "patch_side": 4, "vit_width": 24, "vit_layers": 1, "vit_heads": 2, "vit_mlp": 32, "width": 32,
    "mlp": 48, "layers": 1, "decoder_layers": 1, "heads": 2, "head_width": 8, "vocabulary": 16, "heatmap_widths": [12, 8],
    "doubling_widths": [8, 8], "score_widths": [8, 4], "score_layers": [16], "dropout": 0.0,
}  # fmt: skip


def settings(**changed: Any) -> NetworkSettings:
    return NetworkSettings(**(SETTINGS | changed))


def make_tokenizer() -> Any:
    """A Unigram tokenizer as T5's, in which `_0` is a piece; the tasks' words are unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = [
        "<pad>",
        "</s>",
        "<unk>",
        "▁a",
        "▁red",
        "▁green",
        "▁blue",
        "▁square",
        "▁on",
        "▁dark",
        "▁light",
        "_0",
        "▁",
        "s",
    ]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def make_tokens() -> WordTokens:
    return WordTokens(make_tokenizer(), max_tokens=40)


def make_examples(n: int, network: NetworkSettings, seed: int = 0) -> ArrayExamples:
    """Squares of one colour on dark or light; a third have another colour than their prompt says."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    images, prompts, marks, scores, maps = [], [], [], [], []
    for _ in range(n):
        shown, said = rng.choice(names, 2) if rng.random() < 0.5 else [rng.choice(names)] * 2
        ground = rng.choice(["dark", "light"])
        image = np.full((16, 16, 3), 30 if ground == "dark" else 225, np.uint8)
        x, y = rng.integers(1, 9, 2)
        image[y : y + 6, x : x + 6] = COLOURS[shown]
        where = np.zeros((2, 16, 16), np.uint8)
        if shown != said:
            where[1, y : y + 6, x : x + 6] = 255
        images.append(image)
        prompts.append(["a", said, "square", "on", ground])
        marks.append(np.array([False, shown != said, False, False, False]))
        scores.append([0.5, float(shown == said), x / 10, np.nan if rng.random() < 0.2 else y / 10])
        maps.append(where)
    return ArrayExamples(
        np.stack(images), prompts, marks, np.array(scores), np.stack(maps), make_tokens(), network
    )
