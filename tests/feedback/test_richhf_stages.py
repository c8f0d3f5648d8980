"""The project richhf/: its stages on a handful of records, and its parameters as Hydra composes them."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from promptroute.core.errors import UserError
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.training import TrainingSettings
from tests.feedback.made import SETTINGS, make_tokenizer
from tests.feedback.records import record, write_pickapic, write_records

PROJECT = Path(__file__).parents[2] / "richhf"


@pytest.fixture
def composed() -> Callable[..., dict[str, Any]]:
    def compose_with(*overrides: str) -> dict[str, Any]:
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        with initialize_config_dir(str(PROJECT / "conf"), version_base=None):
            return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)  # type: ignore[return-value]

    return compose_with


class TestParameters:
    def test_params_are_composed(self, composed: Any) -> None:
        assert yaml.safe_load((PROJECT / "params.yaml").read_text()) == composed()

    @pytest.mark.parametrize("recipe", ["ours", "published"])
    @pytest.mark.parametrize("network", ["published", "augmented"])
    def test_options_build(self, composed: Any, recipe: str, network: str) -> None:
        params = composed(f"recipe={recipe}", f"network={network}")
        plan = TrainingSettings(**params["training"])
        assert NetworkSettings(**params["network"]).variant == (
            "augmented" if network == "augmented" else "multi-head"
        )
        assert (plan.schedule == "epochs") == (recipe == "published") == (not params["attention_mask"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: Any) -> Path:
    """A folder with tiny records, images and a tokenizer, and parameters that name them."""
    params = composed()
    rows = [
        (f"u{2 * at}", f"u{2 * at + 1}", f"a {colour} square")
        for at, colour in enumerate(["red", "blue", "green"] * 4)
    ]
    write_pickapic(tmp_path / "pickapic", rows)
    (tmp_path / "records").mkdir()
    for split, first in (("train", 0), ("dev", 8), ("test", 16)):
        records = [record(f"u{first + at}", f"1 {at % 2} 1", overall_score=at / 8) for at in range(8)]
        write_records(tmp_path / "records" / f"{split}.tfrecord", records)
    make_tokenizer().save(str(tmp_path / "tokenizer.json"))
    params["data"] |= {"records": "../records", "images": "../pickapic", "tokenizer": "../tokenizer.json"}
    params["training"] = {"epochs": 2, "batch_size": 4, "warm_up": 0, "loaders": 2}
    params |= {"network": SETTINGS, "start": None, "evaluation": {"batch": 8, "original": True}}
    params["compute"] |= {"device": "cpu"}
    (tmp_path / "richhf").mkdir()
    (tmp_path / "richhf" / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stages(project: Path) -> None:
    from richhf import build, evaluate, train

    said = [build.main(split) for split in ("train", "dev", "test")]
    assert said[0] == "train: records 8, missing 0, mismatched 0"
    assert "of 2 is best" in train.main()
    config = json.loads((project / "richhf/data/network/config.json").read_text())
    assert 0 <= config["threshold"] <= 1 and config["attention_mask"] is True
    history = json.loads((project / "richhf/data/history.json").read_text())
    assert [one["epoch"] for one in history] == [0, 1] and "selection" in history[0]
    live = project / "richhf/cache/live/plots/metrics/loss/loss.tsv"
    if find_spec("dvclive"):
        assert len(live.read_text().splitlines()) == 3, "a header and two epochs"
    evaluate.main()
    figures = json.loads((project / "richhf/data/test.json").read_text())
    assert {
        "score/overall/plcc",
        "heatmap/implausibility/auc_judd",
        "words/f1",
        "original/seq/f1-score/1",
    } <= set(figures)
    page = (project / "richhf/data/examples.html").read_text()
    assert page.count("<section>") == 8 and "Least wrong" in page and "<script" not in page
    assert figures["heatmap/misalignment/cc"] is None, "its truth is empty everywhere"


def test_parameters_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from richhf import evaluate

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run from the repository's root"):
        evaluate.main()
