"""Every figure of an evaluation, computed a second way."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from promptroute import feedback
from promptroute.core.errors import UserError
from promptroute.feedback.evaluation import Judged, evaluate
from promptroute.feedback.examples import ArrayExamples
from tests.feedback.made import make_examples, make_tokens, settings


@pytest.fixture(scope="module")
def judged(trained: Any) -> tuple[Any, ArrayExamples, Judged, dict[str, np.ndarray]]:
    network = trained[0]
    examples = make_examples(24, network.settings, 21)
    examples.marks[3] = None  # type: ignore[index]
    batch = examples.batch(np.arange(24))
    given = network.outputs(batch.pixel_values, batch.input_ids, batch.lengths)
    found = evaluate(network, examples, make_tokens(), batch_size=10, threshold=0.3, original=True)
    return network, examples, found, given


class TestFigures:
    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_scores(self, judged: Any, at: int) -> None:
        network, examples, found, given = judged
        name = network.settings.scores[at]
        true, predicted = examples.scores[:, at].astype(np.float32), given[f"score_{name}"]
        there = ~np.isnan(true)
        assert not there.all() or at != 3, "some images lack this score"
        assert found.figures[f"score/{name}/plcc"] == pytest.approx(
            pearsonr(true[there], predicted[there])[0], abs=1e-4
        )
        assert found.figures[f"score/{name}/srcc"] == pytest.approx(
            spearmanr(true[there], predicted[there])[0], abs=1e-2
        )
        assert found.figures[f"score/{name}/mse"] == pytest.approx(
            ((true - predicted)[there] ** 2).mean(), abs=1e-5
        )

    def test_constant_truth_has_no_correlation(self, judged: Any) -> None:
        assert np.isnan(judged[2].figures["score/plausibility/plcc"])

    def test_maps(self, judged: Any) -> None:
        _, examples, found, given = judged
        truth = examples.heatmaps[:, 1] / 255.0
        predicted = given["heatmap_misalignment"].astype(np.float64)
        there = truth.any(axis=(1, 2))
        assert 0 < there.sum() < len(there)
        metrics = feedback.heatmap_metrics(predicted, truth)
        for name in ("cc", "kld", "similarity", "nss"):
            assert found.figures[f"heatmap/misalignment/{name}"] == pytest.approx(
                metrics[name][there].mean(), abs=1e-4
            )
        area = feedback.auc_judd(predicted[there], truth[there]).mean()
        assert found.figures["heatmap/misalignment/auc_judd"] == pytest.approx(area, abs=1e-4)
        assert found.figures["heatmap/misalignment/mse"] == pytest.approx(metrics["mse"].mean(), abs=1e-6)
        assert found.figures["heatmap/misalignment/mse_empty"] == pytest.approx(
            metrics["mse"][~there].mean(), abs=1e-6
        )
        assert np.isnan(found.figures["heatmap/implausibility/cc"]), "its truth is empty everywhere"

    def test_original(self, judged: Any) -> None:
        """Means over batches of 10, 10 and 4 images of the batches' means."""
        _, examples, found, given = judged
        errors = ((given["heatmap_misalignment"] - examples.heatmaps[:, 1] / 255.0) ** 2).mean(axis=(1, 2))
        batches = np.mean([errors[:10].mean(), errors[10:20].mean(), errors[20:].mean()])
        assert found.figures["original/heatmap/misalignment/mse"] == pytest.approx(batches, abs=1e-6)
        assert found.figures["original/heatmap/misalignment/mse"] != found.figures["heatmap/misalignment/mse"]
        assert "original/seq/f1-score/1" in found.figures

    def test_words(self, judged: Any) -> None:
        found = judged[2]
        labelled = [one for one in found.images if "probabilities" in one]
        assert len(labelled) == 23 and found.images[3]["labels"] is None
        true = np.concatenate([one["labels"] for one in labelled])
        probabilities = np.concatenate([one["probabilities"] for one in labelled])
        expected = precision_recall_fscore_support(
            true, probabilities >= 0.3, average="binary", zero_division=0
        )[:3]
        names = ("precision", "recall", "f1")
        assert [found.figures[f"words/{name}"] for name in names] == pytest.approx(list(expected))
        assert found.figures["words/auc"] == pytest.approx(roc_auc_score(true, probabilities))
        each = [
            precision_recall_fscore_support(
                one["labels"], one["probabilities"] >= 0.3, labels=[0, 1], zero_division=0
            )[:3]
            for one in labelled
        ]
        means = np.mean(each, axis=0)  # [3, 2]
        assert [found.figures[f"words/image/missed/{name}"] for name in names] == pytest.approx(
            means[:, 1].tolist()
        )
        assert [found.figures[f"words/image/macro/{name}"] for name in names] == pytest.approx(
            means.mean(axis=1).tolist()
        )

    def test_threshold_is_chosen_where_none_is_given(self, judged: Any) -> None:
        network, examples, fixed, _ = judged
        free = evaluate(network, examples, make_tokens())
        assert free.figures["words/f1"] >= fixed.figures["words/f1"]
        assert free.threshold == free.figures["words/threshold"]


class TestBadExamples:
    def test_none(self, trained: Any) -> None:
        with pytest.raises(UserError, match="no example to judge by"):
            evaluate(trained[0], ArrayExamples(**_empty()))

    @pytest.mark.parametrize(
        ("name", "said"),
        [("scores", r"scores .* shape \(2, 3\); expected \(2, 4\)"), ("heatmaps", "heatmaps .* expected")],
    )
    def test_shapes(self, name: str, said: str) -> None:
        parts = vars(make_examples(2, settings()))
        with pytest.raises(UserError, match=said):
            ArrayExamples(**(parts | {name: parts[name][:, :-1]}))


def _empty() -> dict[str, Any]:
    parts = vars(make_examples(1, settings()))
    return parts | {name: parts[name][:0] for name in ("images", "prompts", "marks", "scores", "heatmaps")}
