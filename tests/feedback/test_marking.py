import json

import pytest
from sklearn.metrics import classification_report

from promptroute import feedback
from tests.feedback.conftest import GOLDEN, golden


def test_reference_by_position() -> None:
    pairs = json.loads(golden(GOLDEN / "rahf_text_cases.json").read_text())["pairs"]
    found = feedback.word_metrics([(pair["pred_text"], pair["gt_text"]) for pair in pairs], original=True)
    for pair, one in zip(pairs, found, strict=True):
        assert one == pytest.approx(pair["expected_sklearn_1.3.2"], abs=1e-12), pair["pred_text"]


def test_reference_where_words_agree() -> None:
    pairs = json.loads(golden(GOLDEN / "rahf_text_cases.json").read_text())["pairs"]
    strip = [
        [word.removesuffix("_0") for word in pair[name].split()]
        for pair in pairs
        for name in ("pred_text", "gt_text")
    ]
    same = [pair for pair, a, b in zip(pairs, strip[::2], strip[1::2], strict=True) if a == b]
    assert len(same) >= 5
    for pair in same:
        found = feedback.word_metrics([(pair["pred_text"], pair["gt_text"])])[0]
        assert found == pytest.approx(pair["expected_sklearn_1.9.1"], abs=1e-12)


def test_word_too_many_costs_itself_alone() -> None:
    pair = ("a very blue_0 house near the lake", "a blue_0 house near the lake_0")
    aligned, by_position = (feedback.word_metrics([pair], original=o)[0] for o in (False, True))
    assert (aligned["seq/precision/1"], aligned["seq/recall/1"]) == (1, 0.5)
    assert by_position["seq/recall/1"] == 0


def test_missing_word_is_wrong_for_both_classes() -> None:
    found = feedback.word_metrics([("a house", "a blue_0 house")])[0]
    assert found["seq/recall/1"] == 0 and found["seq/recall/0"] == 1
    assert "seq/accuracy" not in found and found["seq/recall/micro_avg"] == pytest.approx(2 / 3)


def test_equals_scikit_learn() -> None:
    predicted, true = "a_0 b c_0 d e_0", "a_0 b_0 c d e_0"
    marks = [[int(word.endswith("_0")) for word in text.split()] for text in (true, predicted)]
    report = classification_report(*marks, labels=[0, 1], output_dict=True)
    found = feedback.word_metrics([(predicted, true)])[0]
    for column, key in (("0", "0"), ("1", "1"), ("macro_avg", "macro avg"), ("weighted_avg", "weighted avg")):
        for name in ("precision", "recall", "f1-score", "support"):
            assert found[f"seq/{name}/{column}"] == pytest.approx(report[key][name])
    assert found["seq/accuracy"] == pytest.approx(report["accuracy"])


def test_empty_truth() -> None:
    assert set(feedback.word_metrics([("", "")])[0].values()) == {0.0}
