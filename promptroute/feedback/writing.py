"""Constrained writing: the decoder copies the prompt, and at each word chooses the word or the word + `_0`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from promptroute.feedback.marking import MARK
from promptroute.feedback.settings import END, START
from promptroute.feedback.texts import WordTokens, pad

if TYPE_CHECKING:
    from promptroute.feedback.network import FeedbackNetwork


@torch.no_grad()
def word_probabilities(
    network: "FeedbackNetwork",
    given: Mapping[str, Tensor],
    prompts: Sequence[Sequence[str]],
    tokens: WordTokens,
) -> list[np.ndarray]:
    """Return how likely it is that an image misses each word of its prompt.

    A word's two continuations, the word and the word + `_0`, each with the next word's first token (so that one being
    the beginning of the other gives it no advantage), are forced upon the decoder; their probabilities' ratio is the
    word's. What follows then stands behind the likelier one. So no position is ever lost, no text is too long, and
    characters that the tokenizer doesn't know do no harm.

    Args:
        network: in evaluation mode.
        given: what its forward pass gave, for n images.
        prompts: [n] words of the prompts, that were its input.
        tokens: the tokenizer.

    Returns:
        [n] float32 [words], 0..1.
    """
    text, attended = network.memory(given)
    written = [[START] for _ in prompts]
    found: list[list[float]] = [[] for _ in prompts]
    for position in range(max((len(words) for words in prompts), default=0)):
        rows = [row for row, words in enumerate(prompts) if position < len(words)]
        choices: list[list[int]] = []
        branches: list[list[int]] = []
        for row in rows:
            words = prompts[row]
            after = tokens.word(words[position + 1])[:1] if position + 1 < len(words) else [END]
            word = words[position]
            choices += [tokens.word(word), tokens.word(word + MARK)]
            branches += [[*choice, *after] for choice in choices[-2:]]
        pairs = [row for row in rows for _ in range(2)]
        which = torch.tensor(pairs, device=text.device)
        likelihoods = _log_likelihoods(
            network, text[which], attended[which], [written[row] for row in pairs], branches
        ).reshape(-1, 2)
        probabilities = torch.sigmoid(likelihoods[:, 1] - likelihoods[:, 0]).tolist()
        for place, (row, probability) in enumerate(zip(rows, probabilities, strict=True)):
            found[row].append(probability)
            written[row] += choices[2 * place + (probability >= 0.5)]
    return [np.array(one, np.float32) for one in found]


def _log_likelihoods(
    network: "FeedbackNetwork",
    text: Tensor,
    attended: Tensor,
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
) -> Tensor:
    """Return log P(after | before, memory) of each row, float64 [rows]."""
    ids, _ = pad([[*first, *second][:-1] for first, second in zip(before, after, strict=True)])
    states = network.decode(text, attended, torch.as_tensor(ids, device=text.device))
    rows = [row for row, one in enumerate(after) for _ in one]
    places = [
        len(first) - 1 + step for first, one in zip(before, after, strict=True) for step in range(len(one))
    ]
    logits = network.token_logits(states[rows, places]).double()
    wanted = torch.tensor([token for one in after for token in one], device=text.device)
    each = logits.log_softmax(dim=1).gather(1, wanted[:, None])[:, 0]
    total = torch.zeros(len(after), dtype=torch.float64, device=text.device)
    return total.index_add(0, torch.tensor(rows, device=text.device), each)


def best_threshold(probabilities: np.ndarray, marked: np.ndarray) -> float:
    """Choose the probability from which words are marked, by the highest F1 over all words.

    Args:
        probabilities: [words], of all prompts of a validation set.
        marked: bool [words].

    Returns:
        A threshold in 0..1, half way between two probabilities; 0.5 where no word is marked.
    """
    if not marked.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    sorted_by = probabilities[order].astype(float)
    hits = np.cumsum(marked[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + marked.sum())
    f1[:-1][sorted_by[:-1] == sorted_by[1:]] = -1  # a threshold can't part equal ones
    best = int(f1.argmax())
    below = sorted_by[best + 1] if best + 1 < len(order) else 0.0
    return float((sorted_by[best] + below) / 2)
