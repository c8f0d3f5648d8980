"""Principal axes."""

import numpy as np


def leading_axes(product: np.ndarray, count: int) -> np.ndarray:
    """Return the eigenvectors of the largest eigenvalues, the largest first (Pearson 1901, where `product` is a covariance).

    Args:
        product: float64 [d, d], symmetric.
        count: how many axes; d at most are returned.

    Returns:
        float64 [d, ≤ count], orthonormal columns, each of which has a positive largest entry, so that the signs
        don't depend on the linear algebra library.
    """
    _, axes = np.linalg.eigh(product)
    axes = axes[:, ::-1][:, :count]
    return np.ascontiguousarray(axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]))
