import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from promptroute import feedback
from promptroute.core.errors import UserError
from tests.feedback.conftest import GOLDEN, golden

MAPS = arrays(np.float64, (2, 5, 6), elements=st.integers(0, 4).map(lambda level: level / 4))


@pytest.fixture(scope="module")
def cases() -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    stored = np.load(golden(GOLDEN / "rahf_metric_cases.npz"))
    expected = json.loads((GOLDEN / "rahf_metric_expected.json").read_text())
    return stored["pred"].astype(np.float64), stored["gt"].astype(np.float64), expected


class TestReference:
    @pytest.mark.parametrize("name", ["mse", "kld", "cc", "nss", "similarity"])
    def test_metrics(self, cases: Any, name: str) -> None:
        predicted, truth, expected = cases
        found = feedback.heatmap_metrics(predicted, truth)[name]
        np.testing.assert_allclose(found, np.array(expected["float64"][name], float), rtol=0, atol=1e-9)

    def test_original_curve(self, cases: Any) -> None:
        predicted, truth, expected = cases
        values = [np.nan if isinstance(v, str) or v is None else v for v in expected["AUC_Judd_no_jitter"]]
        np.testing.assert_allclose(
            feedback.auc_judd(predicted, truth, original=True), np.array(values, float), rtol=0, atol=1e-6
        )


class TestAucJudd:
    @given(MAPS, MAPS)
    def test_equals_scikit_learn(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        for found, p, g in zip(feedback.auc_judd(predicted, truth), predicted, truth, strict=True):
            fixations = (g > 0).ravel()
            if fixations.all() or not fixations.any():
                assert np.isnan(found)
            else:
                assert found == pytest.approx(roc_auc_score(fixations, p.ravel()), abs=1e-12)

    def test_by_hand(self) -> None:
        truth = np.array([[[1.0, 0.5, 0.0, 0.0]]])
        assert feedback.auc_judd(np.array([[[0.9, 0.4, 0.4, 0.1]]]), truth)[0] == 3.5 / 4
        assert feedback.auc_judd(truth, truth)[0] == 1
        assert feedback.auc_judd(1 - truth, truth)[0] == 0
        assert feedback.auc_judd(np.full((1, 1, 4), 0.3), truth)[0] == 0.5

    def test_original_is_below_one_for_the_truth_itself(self) -> None:
        truth = np.zeros((1, 6, 6))
        truth[0, 1:3, 1:3] = [[0.2, 0.4], [0.6, 0.8]]
        assert 0.9 < feedback.auc_judd(truth, truth, original=True)[0] < 1

    @given(MAPS, MAPS)
    def test_keeps_under_rising_maps(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        np.testing.assert_array_equal(
            feedback.auc_judd(predicted, truth), feedback.auc_judd(predicted**3 + 1, truth)
        )


class TestBadMaps:
    def test_shapes(self) -> None:
        with pytest.raises(UserError, match=r"shape \(1, 4, 4\) and true ones \(1, 4, 5\)"):
            feedback.heatmap_metrics(np.zeros((1, 4, 4)), np.zeros((1, 4, 5)))

    def test_not_finite(self) -> None:
        with pytest.raises(UserError, match="not finite"):
            feedback.auc_judd(np.full((1, 4, 4), np.nan), np.ones((1, 4, 4)))
