"""What a study lacks is refused, and what it will do is said, before its first image."""

from pathlib import Path
from typing import Any

import pytest

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.runtime.preflight import Images, check_disk, check_once, components, plan


class Weighted(Component):
    """A component with a file of weights."""

    path: str
    device: str = "cpu"

    def weights(self) -> dict[str, Any]:
        if not Path(self.path).is_file():
            raise UserError(f"{self.path}: the weights are not there")
        return {"size": Path(self.path).stat().st_size}


def section(path: Path) -> dict[str, Any]:
    return {"_target_": Weighted.class_path(), "path": str(path)}


class TestComponents:
    def test_every_name(self, tmp_path: Path) -> None:
        (tmp_path / "w").write_text("w")
        params = {
            "one": section(tmp_path / "w"),
            "many": {"a": {"part": section(tmp_path / "w")}},
            "none": None,
        }
        kinds: dict[str, type[Component]] = dict.fromkeys(
            ("one", "many.*.part", "none", "absent.*"), Weighted
        )
        built = components(params, kinds, "cuda:1")
        assert list(built) == ["one", "many.a.part"]
        assert all(isinstance(part, Weighted) and part.device == "cuda:1" for part in built.values())

    def test_missing_weights(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="the weights are not there"):
            components({"one": section(tmp_path / "w")}, {"one": Weighted}, "cpu")

    @pytest.mark.parametrize("given", [3, "x", {}, {"_target_": "os.system"}, {"_target_": None}])
    def test_invalid_section(self, given: object) -> None:
        with pytest.raises(UserError, match=r"params\.yaml: many\.a"):
            components({"many": {"a": given}}, {"many.*": Weighted}, "cpu")


def test_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    weights = tmp_path / "w"
    weights.write_text("w")
    calls = []

    def check() -> tuple[int, int]:
        calls.append(1)
        return 8, 4

    for _ in range(2):
        assert check_once(Weighted(path=str(weights)), check) == [8, 4]
    assert len(calls) == 1
    weights.write_text("other")
    check_once(Weighted(path=str(weights)), check)
    assert len(calls) == 2


def test_corrupt_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies in the cache, so it counts as absent."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "w").write_text("w")
    component = Weighted(path=str(tmp_path / "w"))
    assert check_once(component, lambda: (8, 4)) == [8, 4]
    (kept,) = (tmp_path / "cache/preflight").iterdir()
    for text in (kept.read_text().replace("8", "9", 1), "[8, 4]", "{", "null", ""):
        kept.write_text(text)
        assert check_once(component, lambda: (8, 4)) == [8, 4]


def test_full_disk(tmp_path: Path) -> None:
    check_disk({"a": Images(10, (64, 64), 1.0), "b": Images(10**9, None, 1.0)}, tmp_path)
    with pytest.raises(
        UserError, match=r"GB are free, but the study's images may take .* GB; free some space"
    ):
        check_disk({"a": Images(10**9, (1024, 1024), 1.0)}, tmp_path)


def test_plan() -> None:
    assert plan({}, 240, 3) == "no image to generate"
    work = {"a": Images(720, None, 0.5), "b": Images(720, None, 10.0)}
    assert plan(work, 240, 3) == (
        "2 models × 240 prompts × 3 seeds = 1440 images; about 2.1 hours by the models' profiles"
    )
    assert plan({"a": Images(9, None, None)}, 3, 3).endswith("= 9 images; of unknown duration")
    # What the cache has costs nothing any more, but it lies on the disk: 9 × 10⁶ pixels × 4 bytes.
    assert plan({"a": Images(9, (1000, 1000), 60.0, 4, 0.5)}, 3, 3).endswith(
        "9 images, 4 of them in the cache; about 5.0 minutes by the models' profiles; at most 0.04 GB; $2.50 by the cost rule"
    )
    assert "$" not in plan({"a": Images(9, None, 1.0, 0, 0.5), "b": Images(9, None, 1.0)}, 3, 3)
    assert plan({"a": Images(9, None, 1.0), "b": Images(9, None, None)}, 3, 3).endswith(
        "about 9 seconds by the models' profiles, 1 of unknown duration besides"
    )
