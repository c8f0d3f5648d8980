"""Rows of embeddings: checks, lengths, cosines, neighbours. Plain numpy."""

from collections.abc import Mapping, Sequence

import numpy as np

from promptroute.core.errors import UserError

Views = Mapping[str, np.ndarray]
"""View → float32 [n, d of that view]: the embeddings of n images, row for row, by each encoder."""
_RUN = 128
"""Rows of a bank of which `nearest` first takes the best alone."""


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1: [n, d] → float32 [n, d]; a row of zeros stays one."""
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the cosine of each row of `a` with that of `b`: [n, d], [n, d] → float64 [n], -1 to 1; 1 is best.

    The cosine with a row of zeros is 0.

    Raises:
        UserError: the shapes differ, or a value is not finite.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise UserError(f"embeddings are {a.shape} and {b.shape}; expected two arrays of one shape [n, d]")
    for rows in (a, b):
        finite_rows(rows, "embeddings")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.clip(np.einsum("nd,nd->n", a, b) / np.where(lengths > 0, lengths, 1.0), -1, 1)


def finite_rows(rows: np.ndarray, what: str) -> np.ndarray:
    """Return the rows.

    Raises:
        UserError: they are no [n, d], or a value is NaN or infinite; names the first such row.
    """
    if rows.ndim != 2 or not rows.shape[1]:
        raise UserError(f"{what} are {rows.shape}; expected [n, d], a row for each image")
    # A sum is finite where every value is, and takes no memory.
    if not np.isfinite(rows.sum(dtype=np.float64)) and not (good := np.isfinite(rows).all(axis=1)).all():
        raise UserError(
            f"{what}: row {int(np.argmin(good))} holds a value that is not finite; embed that image again"
        )
    return rows


def check_views(views: Views, expected: Mapping[str, int] | None = None) -> int:
    """Return n, the number of images.

    Args:
        views: of n images.
        expected: view → its width, in the order that a learner was fitted with; None: any.

    Raises:
        UserError: there is no view or no image, one is missing or of another width or number of rows, or holds NaN.
    """
    if not views:
        raise UserError("there are no views of the images; give the embeddings of at least one encoder")
    if expected is not None and set(views) != set(expected):
        lost, extra = sorted(set(expected) - set(views)), sorted(set(views) - set(expected))
        wrong = f"lack {', '.join(lost)}" if lost else f"have {', '.join(extra)} besides"
        raise UserError(
            f"the views {wrong}; expected {', '.join(expected)}, as the learner was fitted with; embed the images with "
            f"the same encoders"
        )
    sizes = {}
    for name, rows in views.items():
        sizes[name] = len(finite_rows(np.asarray(rows), f"view {name}"))
        if expected is not None and rows.shape[1] != expected[name]:
            raise UserError(
                f"view {name} is {rows.shape[1]} wide, but the learner was fitted on {expected[name]}; use the encoder "
                f"that it was fitted with"
            )
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(f"the views are of different images ({found} rows); join them by prompt and seed")
    n = next(iter(sizes.values()))
    if not n:
        raise UserError("there are no images; give at least one")
    return n


def nearest(queries: np.ndarray, bank: np.ndarray, k: int, block: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows of a bank that are nearest to each query, by plain products of matrices.

    Args:
        queries, bank: [n, d] and [m, d], of length 1.
        k: how many; m at most.
        block: queries at once.

    Returns:
        Positions int64 [n, k] in the bank, the nearest first (of equal ones the lower), and their cosines float32 [n, k].
    """
    queries, bank = np.asarray(queries, np.float32), np.asarray(bank, np.float32)
    k = min(k, len(bank))
    runs = -(-len(bank) // _RUN)
    padded = np.zeros((runs * _RUN, bank.shape[1]), np.float32)
    padded[: len(bank)] = bank
    near = np.empty((min(block, len(queries)), len(padded)), np.float32)
    found = np.empty((len(queries), k), np.int64)
    cosines = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        here = np.matmul(part, padded.T, out=near[: len(part)])
        here[:, len(bank) :] = -np.inf
        # The k nearest lie in the k runs whose own nearest are nearest: few numbers are sorted.
        split = here.reshape(len(part), runs, _RUN)
        which = np.sort(_top(split.max(axis=2), k), axis=1)
        at = (which[:, :, None] * _RUN + np.arange(_RUN)).reshape(len(part), -1)
        values = np.take_along_axis(here, at, axis=1)
        best = _top(values, k)
        at, values = np.take_along_axis(at, best, axis=1), np.take_along_axis(values, best, axis=1)
        order = np.lexsort((at, -values), axis=1)
        found[start : start + block] = np.take_along_axis(at, order, axis=1)
        cosines[start : start + block] = np.take_along_axis(values, order, axis=1)
    return found, cosines


def _top(values: np.ndarray, k: int) -> np.ndarray:
    """Give the positions of each row's k largest values, in no order; all where there are no more."""
    if k >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k :]


def ranks(predicted: np.ndarray, bank: np.ndarray, own: np.ndarray, block: int = 2048) -> np.ndarray:
    """Count which place the true text takes among a bank's, by the cosine to a predicted embedding.

    Args:
        predicted: [n, d], of length 1.
        bank: [m, d] of the texts, of length 1.
        own: int [n], each row's true text in the bank.

    Returns:
        int64 [n], 1 is best; of equally near texts the true one stands last, so that a constant gains nothing.
    """
    place = np.empty(len(predicted), np.int64)
    for start in range(0, len(predicted), block):
        near = predicted[start : start + block] @ bank.T
        true = near[np.arange(len(near)), own[start : start + block]]
        place[start : start + block] = (near >= true[:, None]).sum(axis=1)
    return place


def near_groups(rows: np.ndarray, at_least: float, block: int = 2048) -> np.ndarray:
    """Group texts of which any two are near: int64 [n], the group of each, numbered in order of appearance.

    A group is a connected component: whoever is near a member is one.

    Args:
        rows: [n, d], of length 1.
        at_least: cosine from which two are near.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs: list[np.ndarray] = []
    for start in range(0, len(rows), block):
        left, right = np.nonzero(rows[start : start + block] @ rows.T >= at_least)
        pairs.append(np.stack([left + start, right]))
    left, right = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(len(left), bool), (left, right)), shape=(len(rows), len(rows)))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def folds(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Share groups out among folds at random: int64 [n], the fold of each row; a group is within one fold.

    Raises:
        UserError: there are fewer groups than folds.
    """
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < count:
        raise UserError(
            f"{len(names)} group(s) of different prompts can't be shared out among {count} folds; give images of more "
            f"prompts, or fewer folds"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return (np.argsort(order) % count)[inverse]


def stacked(views: Views, names: Sequence[str]) -> np.ndarray:
    """Set views side by side, each row of each at length 1: float32 [n, sum of widths].

    So no view outweighs another by the scale of its encoder.
    """
    return np.concatenate([unit(views[name]) for name in names], axis=1)
