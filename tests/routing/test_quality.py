"""What quality means, by hand."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.routing.quality import Quality, fit_quality

NIMA = np.array([[5.0, 6.0], [4.0, 8.0]])
LPIPS = np.array([[0.1, 0.3], [0.5, 0.2]])  # lower is better
RAW = {"nima": NIMA, "lpips": LPIPS}
UP = {"nima": True, "lpips": False}


def test_single_score_keeps_unit() -> None:
    np.testing.assert_array_equal(fit_quality(RAW, {"nima": 1.0}, UP, "none").of(RAW), NIMA)
    np.testing.assert_array_equal(fit_quality(RAW, {"lpips": 2.0}, UP, "none").of(RAW), -2 * LPIPS)


def test_mix_scales_over_models() -> None:
    quality = fit_quality(RAW, {"nima": 1.0, "lpips": 3.0}, UP, "minmax")
    # NIMA runs from 4 to 8, -LPIPS from -0.5 to -0.1.
    expected = (NIMA - 4) / 4 + 3 * (0.5 - LPIPS) / 0.4
    np.testing.assert_allclose(quality.of(RAW), expected, rtol=1e-12)
    assert quality.scores == ("nima", "lpips")
    # Other prompts are scaled as the training prompts were, and so may leave 0 … 1.
    beyond = {"nima": np.array([[10.0, 2.0]]), "lpips": np.array([[0.9, 0.0]])}
    np.testing.assert_allclose(quality.of(beyond), [[1.5 - 3.0, -0.5 + 3.75]])


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_scaling_forgets_units(factor: float, weight: float) -> None:
    one = fit_quality(RAW, {"nima": weight, "lpips": 1.0}, UP, "minmax").of(RAW)
    other = {"nima": NIMA * factor, "lpips": LPIPS}
    np.testing.assert_allclose(
        fit_quality(other, {"nima": weight, "lpips": 1.0}, UP, "minmax").of(other), one, rtol=1e-9, atol=1e-9
    )


def test_what_was_saved_is_equal() -> None:
    quality = fit_quality(RAW, {"nima": 1 / 3, "lpips": 0.1}, UP, "minmax")
    assert Quality(**json.loads(json.dumps(quality.to_json()))) == quality


@pytest.mark.parametrize(
    ("weights", "scale", "message"),
    [
        ({}, "none", r"no scores; choose from \['lpips', 'nima'\]"),
        ({"hps": 1.0}, "none", r"unknown score 'hps'; choose from \['lpips', 'nima'\]"),
        ({"nima": -1.0}, "none", r"score.weights.nima: -1.0; expected a positive number"),
        ({"nima": 0}, "none", "expected a positive number"),
        ({"nima": True}, "none", "expected a positive number"),
        ({"nima": float("inf")}, "none", "expected a positive number"),
        ({"nima": float("nan")}, "none", "expected a positive number"),
        ({"nima": "1"}, "none", "expected a positive number"),
        ({"nima": 1.0}, "zscore", "score.scale: 'zscore'; expected 'none' or 'minmax'"),
    ],
)
def test_bad_settings_are_refused(weights: dict[str, Any], scale: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_quality(RAW, weights, UP, scale)


def test_constant_score() -> None:
    with pytest.raises(UserError, match=r"'nima' is 5\.0 for every training prompt and model"):
        fit_quality({"nima": np.full((3, 2), 5.0)}, {"nima": 1.0}, UP, "minmax")


def test_missing_score() -> None:
    quality = fit_quality(RAW, {"nima": 1.0, "lpips": 1.0}, UP, "none")
    with pytest.raises(UserError, match="there is no lpips, only nima; add it"):
        quality.of({"nima": NIMA})


class TestSingleImages:
    QUALITY = fit_quality(RAW, {"nima": 1.0}, UP, "none")

    def test_elementwise(self) -> None:
        images = {"nima": np.arange(12.0).reshape(2, 2, 3)}
        np.testing.assert_array_equal(self.QUALITY.of_images(images, RAW), images["nima"])

    def test_failed_image_counts_as_the_others_of_its_model(self) -> None:
        images = np.arange(12.0).reshape(2, 2, 3)
        images[0, 1, 2] = np.nan
        images[1, 0] = np.nan
        found = self.QUALITY.of_images({"nima": images}, RAW)
        assert found is not None and found[0, 1, 2] == 3.5
        np.testing.assert_array_equal(found[1, 0], NIMA[1, 0])

    def test_not_known(self) -> None:
        assert self.QUALITY.of_images({}, RAW) is None
        assert self.QUALITY.of_images({"nima": np.ones((2, 2, 1))}, RAW) is None
        both = fit_quality(RAW, {"nima": 1.0, "lpips": 1.0}, UP)
        assert both.of_images({"nima": np.ones((2, 2, 3))}, RAW) is None
