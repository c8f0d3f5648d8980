"""Check arguments, for the whole room: each returns its argument as a numpy array or raises one clear ValueError."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from promptroute.core.errors import UserError

Array = npt.ArrayLike
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Embeddings = Mapping[str, npt.NDArray[np.float32]]
"""Encoder → [n, d]."""


def quality_matrix(quality: Array, name: str = "quality") -> FloatArray:
    """Return `quality` as float64 [n, m], n >= 0, m >= 1, every value finite."""
    matrix = _floats(quality, name)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} has shape {matrix.shape}, expected [prompts, models], one model or more")
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"{name}[{row}, {column}] is {matrix[row, column]} ({len(bad)} such values): "
            "expected finite numbers; drop the prompts that lack a score before routing"
        )
    return matrix


def cost_vector(cost: Array, models: int) -> FloatArray:
    """Return `cost` as float64 [m], dollars per image, every value finite and above 0."""
    vector = _floats(cost, "cost")
    if vector.shape != (models,):
        raise ValueError(f"cost has shape {vector.shape}, expected [{models}]: one price per model")
    bad = np.flatnonzero(~(np.isfinite(vector) & (vector > 0)))
    if len(bad):
        raise ValueError(f"cost[{bad[0]}] is {vector[bad[0]]}, expected dollars per image above 0")
    return vector


def quality_and_cost(quality: Array, cost: Array) -> tuple[FloatArray, FloatArray]:
    """Return both as float64 arrays of shapes [n, m] and [m]."""
    matrix = quality_matrix(quality)
    return matrix, cost_vector(cost, matrix.shape[1])


def evaluation(predicted: Array, true: Array, cost: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return predicted and observed quality [n, m] of the same prompts (n >= 1) and the cost [m]."""
    guess, truth = quality_matrix(predicted, "predicted"), some_prompts(true)
    if guess.shape != truth.shape:
        raise ValueError(
            f"predicted has shape {guess.shape} and true {truth.shape}: expected the same prompts and models"
        )
    return guess, truth, cost_vector(cost, truth.shape[1])


def some_prompts(true: Array) -> FloatArray:
    """Return the observed quality as float64 [n, m], n >= 1."""
    matrix = quality_matrix(true, "true")
    if len(matrix) == 0:
        raise ValueError("observed quality holds no prompt, expected at least one to evaluate on")
    return matrix


def choice_vector(choice: Array, shape: tuple[int, ...]) -> IntArray:
    """Return `choice` as int64 [n] with values in 0 .. m - 1, for a quality matrix of `shape` [n, m]."""
    vector = np.asarray(choice)
    if vector.dtype.kind not in "iu" or vector.shape != shape[:1]:
        raise ValueError(
            f"choice has dtype {vector.dtype} and shape {vector.shape}, "
            f"expected one integer column per prompt, shape [{shape[0]}]"
        )
    bad = np.flatnonzero((vector < 0) | (vector >= shape[1]))
    if len(bad):
        raise ValueError(f"choice[{bad[0]}] is {vector[bad[0]]}, expected a column in 0 .. {shape[1] - 1}")
    return vector.astype(np.int64)


def column(model: Any, models: int, name: str = "model") -> int:
    """Return `model` as a column index in 0 .. m - 1."""
    if isinstance(model, bool) or not isinstance(model, int | np.integer) or not 0 <= model < models:
        raise ValueError(f"{name} is {model!r}, expected a column index in 0 .. {models - 1}")
    return int(model)


def nonnegative(value: Any, name: str) -> float:
    """Return `value` as a float that is 0 or more; infinity is allowed, NaN is not."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value >= 0:
        raise UserError(f"{name} is {value!r}, expected a number of 0 or more")
    return float(value)


def best_single(true: FloatArray, single: int | None = None) -> int:
    """Return `single` checked, or without one the column of the highest mean (ties: the lower index)."""
    return int(true.mean(axis=0).argmax()) if single is None else column(single, true.shape[1], "single")


def _floats(values: Array, name: str) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} can't be read as an array of numbers: {error}") from error
