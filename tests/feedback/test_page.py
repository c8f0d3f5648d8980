from typing import Any

import numpy as np
import pytest

from promptroute.feedback.evaluation import Judged, evaluate
from promptroute.feedback.page import error_of, examples_page
from tests.feedback.made import make_examples, make_tokens

RECORD: dict[str, Any] = {
    "true": {"overall": 0.5, "alignment": float("nan")}, "predicted": {"overall": 0.9, "alignment": 0.1},
    "maps": {"misalignment": {"mse": 0.04}}, "words": ["a", "b"], "labels": np.array([True, False]),
    "probabilities": np.array([0.2, 0.3]),
}  # fmt: skip


def test_error_by_hand() -> None:
    assert error_of(RECORD, 0.5) == pytest.approx((0.4 + 0.2 + 0.5) / 3)
    assert error_of(RECORD, 0.25) == pytest.approx((0.4 + 0.2 + 1.0) / 3)
    unlabelled = {key: value for key, value in RECORD.items() if key != "probabilities"}
    assert error_of(unlabelled, 0.5) == pytest.approx(0.3)


def test_worst_come_first(trained: Any) -> None:
    network = trained[0]
    examples = make_examples(10, network.settings, 9)
    judged = evaluate(network, examples, make_tokens())
    page = examples_page(judged, examples, network, "A <title>", each=3)
    assert "A &lt;title&gt;" in page and page.count("<section>") == 6
    shown = [float(part.split("<")[0]) for part in page.split("<p>Error ")[1:]]
    errors = sorted(error_of(record, judged.threshold) for record in judged.images)
    assert shown[:3] == pytest.approx(errors[::-1][:3], abs=6e-4)
    assert shown[3:] == pytest.approx(errors[:3], abs=6e-4)


def test_prompts_are_escaped(trained: Any) -> None:
    network = trained[0]
    examples = make_examples(1, network.settings, 9)
    judged = evaluate(network, examples, make_tokens())
    record = judged.images[0] | {"words": ["<script>", "b", "c", "d", "e"]}
    page = examples_page(Judged({}, [record], 0.5), examples, network, "x")
    assert "<script" not in page and "&lt;script&gt;" in page
