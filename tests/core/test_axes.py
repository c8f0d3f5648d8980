"""Principal axes against the singular vectors."""

import numpy as np

from promptroute.core.axes import leading_axes


def test_equals_svd() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 6))
    expected = np.linalg.svd(rows, full_matrices=False)[2][:3].T
    axes = leading_axes(rows.T @ rows, 3)
    np.testing.assert_allclose(np.abs(axes.T @ expected), np.eye(3), atol=1e-9)
    assert (axes[np.abs(axes).argmax(0), np.arange(3)] > 0).all(), "signs don't depend on the library"


def test_fewer_than_asked() -> None:
    assert leading_axes(np.eye(2), 5).shape == (2, 2)
