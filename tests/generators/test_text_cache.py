"""A text encoder's answers are kept by what it was asked, and put together as it gives them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from promptroute.generators.diffusers.text_cache import TextCache


class Encoder:
    """Answers with numbers that tell the row, its mask and the options apart; notes each batch's size."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def forward(
        self, input_ids: Any, attention_mask: Any = None, scale: float = 1.0, bias: Any = None
    ) -> Any:
        self.sizes.append(len(input_ids))
        states = input_ids[..., None].float() * scale
        if attention_mask is not None:
            states = states * attention_mask[..., None]
        if bias is not None:
            states = states + bias
        return BaseModelOutputWithPooling(
            last_hidden_state=states, pooler_output=states.sum(1), hidden_states=(states, 2 * states)
        )


ROWS = torch.tensor([[1, 2], [3, 4], [1, 2], [5, 6]])


def same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected) and found.keys() == expected.keys()
    torch.testing.assert_close(tuple(found.to_tuple()), tuple(expected.to_tuple()))


def test_answers_are_the_encoders_own() -> None:
    for alone, sizes in ((True, [1, 1, 1]), (False, [3])):
        encoder = Encoder()
        cache = TextCache(encoder.forward, alone)
        same(cache(ROWS), Encoder().forward(ROWS))
        same(cache(ROWS.flip(0)), Encoder().forward(ROWS.flip(0)))
        assert encoder.sizes == sizes


def test_masks_and_options_count() -> None:
    encoder = Encoder()
    cache = TextCache(encoder.forward, alone=False)
    mask = torch.tensor([[1, 0]] * 4)
    cache(ROWS)
    same(cache(ROWS, attention_mask=mask), Encoder().forward(ROWS, mask))
    same(cache(ROWS, scale=3.0), Encoder().forward(ROWS, scale=3.0))
    same(cache(ROWS, bias=torch.ones(2, 1)), Encoder().forward(ROWS, bias=torch.ones(2, 1)))
    same(cache(ROWS, bias=torch.zeros(2, 1)), Encoder().forward(ROWS))
    assert encoder.sizes == [3, 3, 3, 4, 4]


def test_least_recently_used_goes_first() -> None:
    encoder = Encoder()
    cache = TextCache(encoder.forward, alone=True, size=2)
    for row in (0, 1, 0, 3, 0, 1):
        same(cache(ROWS[row : row + 1]), Encoder().forward(ROWS[row : row + 1]))
    assert len(encoder.sizes) == 4, "[1, 2] stayed, [3, 4] went and was asked again"


def test_threads_share_an_answer() -> None:
    encoder, meet = Encoder(), threading.Barrier(4, timeout=20)
    cache = TextCache(encoder.forward, alone=False)

    def ask(_: int) -> Any:
        meet.wait()
        return cache(ROWS)

    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(ask, range(4)):
            same(answer, Encoder().forward(ROWS))
    assert encoder.sizes == [3]
