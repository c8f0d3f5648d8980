"""Where and on what a study is computed decides no stage: another `compute` makes none run again."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from promptroute.runtime.compose import compose

ROOT = Path(__file__).parents[2]
OPTIONS = sorted(path.stem for path in (ROOT / "conf" / "compute").glob("*.yaml"))


def composed(folder: Path, option: str) -> dict[str, Any]:
    compose(folder / f"{option}.yaml", [f"compute={option}"], ROOT)
    return yaml.safe_load((folder / f"{option}.yaml").read_text())


@pytest.mark.parametrize("option", sorted({*OPTIONS} - {"auto"}))
def test_nothing_else_changes(tmp_path: Path, option: str) -> None:
    before, after = composed(tmp_path, "auto"), composed(tmp_path, option)
    assert before.pop("compute") != after.pop("compute")
    assert before == after


def test_no_stage_depends_on_it() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    elsewhere = {f"promptroute/runtime/{name}.py" for name in ("cluster", "executors", "shards", "device")}
    for name, stage in stages.items():
        does = stage.get("do", stage)
        assert not [one for one in does.get("params", []) if str(one).partition(".")[0] == "compute"], name
        assert not elsewhere & set(does["deps"]) and "promptroute/runtime" not in does["deps"], name
