"""conf/prompts composes and builds, wherever a study puts it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptroute.core.component import build
from promptroute.prompts.sampling import sample
from promptroute.prompts.source import PromptSource

CONF = Path(__file__).parents[2] / "conf"
Compose = Callable[..., dict[str, Any]]
SETS = {"ms_coco", "ln_coco", "drawbench", "partiprompts", "diffusiondb"}
OPTIONS = {*SETS, "paper", "cems_table", "file", "mini"}
"""Besides `tidy`, whose files have no default: tests/io/test_tidy.py."""


def test_options_build(compose: Compose) -> None:
    assert {path.stem for path in (CONF / "prompts").glob("*.yaml")} == {*OPTIONS, "tidy"}
    assert {path.stem for path in (CONF / "prompt_set").glob("*.yaml")} == SETS
    for option in sorted(OPTIONS):
        overrides = ["prompts.sources.file.path=own.csv"] if option == "file" else []
        section = compose(f"+prompts={option}", *overrides)["prompts"]
        # The small world leaves the seed at the stage's own, for a short params.yaml.
        assert set(section) == ({"sources", "n"} if option == "mini" else {"sources", "n", "seed"})
        for name, config in section["sources"].items():
            source = build(config, f"prompts.sources.{name}", PromptSource)
            assert source.has_own_ids == (option == "cems_table")


def test_published_ids_and_order(compose: Compose, cems_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTROUTE_CEMS", str(cems_root))
    section = compose("+prompts=cems_table")["prompts"]
    source = build(section["sources"]["cems_table"], "prompts.sources.cems_table", PromptSource)
    taken = sample([source], n=section["n"], seed=section["seed"])
    assert len(taken) == 8000
    assert taken.equals(source.read()[0])
    some = sample([source], n=100, seed=0)
    assert set(some["prompt_id"]) < set(taken["prompt_id"])
    assert some["set"].value_counts().to_dict() == pytest.approx({"DIFF": 81, "PP": 17, "DRAW": 2}, abs=2)
