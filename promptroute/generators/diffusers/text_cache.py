"""A text encoder that runs once for each different text, not once for each image."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class TextCache:
    """Stand-in for the `forward` of a transformers text encoder.

    Splits a batch into its rows, runs those that are new, and puts the answer together again. Seeds of a
    prompt are neighbours and the empty prompt of guidance is in every batch, so few rows are kept. Threads
    may ask at once: each row runs once.

    Args:
        forward: the encoder's own.
        alone: run each row by itself, so that its bits don't depend on its neighbours.
        size: rows kept; the least recently used goes first.
    """

    def __init__(self, forward: Callable[..., Any], alone: bool, size: int = 64) -> None:
        self._forward, self._alone, self._size = forward, alone, size
        self._kept: OrderedDict[object, Any] = OrderedDict()
        self._asking = Lock()

    def __call__(self, input_ids: "Tensor", attention_mask: "Tensor | None" = None, **options: object) -> Any:
        """Answer as the encoder's forward: input_ids int [n, length] and attention_mask [n, length] or None."""
        if any(hasattr(value, "shape") for value in options.values()):  # something else of each row
            return self._forward(input_ids, attention_mask=attention_mask, **options)
        texts = [tuple(row) for row in input_ids.tolist()]  # from a GPU at once
        masks = [None] * len(texts) if attention_mask is None else map(tuple, attention_mask.tolist())
        how = tuple(sorted((name, repr(value)) for name, value in options.items()))
        keys = [(text, mask, how) for text, mask in zip(texts, masks, strict=True)]
        with self._asking:
            return self._answer(keys, input_ids, attention_mask, options)

    def _answer(
        self,
        keys: Sequence[object],
        input_ids: "Tensor",
        attention_mask: "Tensor | None",
        options: Mapping[str, object],
    ) -> Any:
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        outputs = {key: self._kept[key] for key in keys if key in self._kept}
        groups = [[item] for item in new.items()] if self._alone else [list(new.items())] if new else []
        for group in groups:
            rows = [row for _, row in group]
            mask = None if attention_mask is None else attention_mask[rows]
            output = self._forward(input_ids[rows], attention_mask=mask, **options)
            for place, (key, _) in enumerate(group):
                # A copy, for a row of a batch would keep the whole batch in memory.
                outputs[key] = _each([output], partial(_row, place))
        if new:
            _finish(input_ids)
        for key in keys:
            self._kept[key] = outputs[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return _each([outputs[key] for key in keys], _join)


def _finish(tensor: "Tensor") -> None:
    """Wait until this stream of a GPU has computed what was asked of it, for another stream may use it next."""
    if tensor.is_cuda:
        import torch

        torch.cuda.current_stream(tensor.device).synchronize()


def _row(place: int, tensors: "list[Tensor]") -> "Tensor":
    return tensors[0][place : place + 1].clone()


def _join(tensors: "list[Tensor]") -> "Tensor":
    import torch

    for tensor in tensors:
        if tensor.is_cuda:  # its memory isn't given away before this stream, too, is done with it
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return torch.cat(tensors)


def _each(outputs: list[Any], change: Callable[[list[Any]], "Tensor"]) -> Any:
    """Apply `change` to the list of tensors at each place of the outputs, which are all built alike."""
    first = outputs[0]
    if first is None:
        return None
    if isinstance(first, dict):  # a transformers ModelOutput, whose fields are its keys
        return type(first)(**{name: _each([output[name] for output in outputs], change) for name in first})
    if isinstance(first, tuple | list):
        return tuple(_each(list(parts), change) for parts in zip(*outputs, strict=True))
    return change(outputs)
