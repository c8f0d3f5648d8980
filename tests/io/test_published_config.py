"""conf/published composes, builds, and says what the paper says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptroute.core.component import build
from promptroute.core.names import MODEL_NAME, SCORER_NAME
from promptroute.io.published import PublishedTable
from promptroute.io.sources import Source
from promptroute.runtime.params import published_output

CONF = Path(__file__).parents[2] / "conf"
Compose = Callable[..., dict[str, Any]]
BLANKS = {
    "tidy": ["published.table.prompts=???", "published.table.scores=???"],
    "votes": ["published.table.votes=???"],
}


def test_every_published_study_composes(compose: Compose) -> None:
    options = sorted(path.stem for path in (CONF / "published").glob("*.yaml"))
    assert options == ["cems", "none", "tidy", "votes"]
    for option in options:
        published = compose(f"+published={option}", *BLANKS.get(option, []))["published"]
        published.pop("label", None)
        assert set(published) <= {"table", "models", "scorers"}
        assert {"models", "scorers"} <= set(published) or option == "none"
        assert all(MODEL_NAME.fullmatch(name) for name in published.get("models", {}))
        assert all(SCORER_NAME.fullmatch(name) for name in published.get("scorers", {}))
        for name, section in published.get("scorers", {}).items():
            assert published_output(section, name).higher_is_better


def test_cems_models_and_costs(compose: Compose) -> None:
    models = compose("+published=cems")["published"]["models"]
    assert list(models) == ["sdxl-turbo", "sd-turbo", "amused", "taesd-sd21"]
    price = 0.0000166667  # dollars per GB and second: CEMS, equation (4)
    dollars = [
        one["profile"]["seconds"] * -(-one["profile"]["memory_gb"] // 1) * price for one in models.values()
    ]
    assert dollars[0] == pytest.approx(1.02667e-4, rel=1e-4)
    # 5,000 requests, as in CEMS's Table 3.
    assert [5000 * one for one in dollars] == pytest.approx([0.5133, 0.0733, 0.1630, 0.5293], abs=5e-5)


def test_cems_table_is_real(compose: Compose, cems_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTROUTE_CEMS", str(cems_root))
    published = compose("+published=cems")["published"]
    table = build(published["table"], "published.table", PublishedTable)
    for name, section in published["scorers"].items():
        assert [one["stem"] for one in published["models"].values()] == list(table.files[name])
        for model in published["models"].values():
            assert len(table.read(name, published_output(section, name), model["stem"]).rows) == 8000


def test_the_folder_is_a_parameter(
    compose: Compose, cems_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTROUTE_CEMS", str(cems_root))
    sources = [
        compose("+published=cems")["published"]["table"]["source"],
        *(part["source"] for part in compose("+prompts=paper")["prompts"]["sources"].values()),
    ]
    assert {source["folder"] for source in sources} == {str(cems_root)}
    monkeypatch.delenv("PROMPTROUTE_CEMS")
    source = build(compose("+published=cems")["published"]["table"]["source"], "source", Source)
    assert source.root.startswith("https://raw.githubusercontent.com/")
