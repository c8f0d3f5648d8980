"""The one door: settings are checked, sections become objects, fingerprints say all that decides."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from promptroute.core.component import Component, build, locate
from promptroute.core.errors import UserError


class Blur(Component):
    """A component of the tests."""

    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    incidental: ClassVar[frozenset[str]] = frozenset({"device", "batch_size", "path"})

    radius: float = Field(2.0, gt=0)
    sides: Sequence[int] = (1, 2)
    batch_size: int = Field(8, ge=1)
    path: str = ""
    inner: "Blur | None" = None
    device: str = "cpu"

    def weights(self) -> Mapping[str, Any]:
        return {"sha256": self.path[::-1]} if self.path else {}


PATH = f"{Blur.__module__}.Blur"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, Blur.__module__, sys.modules[Blur.__module__])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0.0}, "Blur: radius is 0.0; expected greater than 0"),
        ({"radius": float("nan")}, "Blur: radius is nan; expected a finite number"),
        ({"radius": "2"}, "Blur: radius is '2'; expected a valid number"),
        ({"batch_size": True}, "Blur: batch_size is True; expected a valid integer"),
        ({"batch_size": 1.5}, "Blur: batch_size is 1.5; expected a valid integer"),
        ({"sides": [1, "x"]}, "Blur: sides.1 is 'x'; expected a valid integer"),
        ({"radios": 1.0}, "Blur: radios is no setting of Blur; did you mean radius?"),
        (
            {"zzz": 1.0},
            "Blur: zzz is no setting of Blur; it takes radius, sides, batch_size, path, inner, device",
        ),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Blur(**settings)
    assert str(caught.value) == message


def test_settings_are_frozen() -> None:
    blur = Blur()
    with pytest.raises(ValueError, match="frozen"):
        blur.radius = 3.0  # type: ignore[misc]


class TestBuild:
    def test_nested(self) -> None:
        section = {"_target_": PATH, "radius": 3, "inner": {"_target_": PATH, "sides": [5]}}
        blur = build(section, "params.yaml: blur", Blur, device="cuda")
        assert blur == Blur(radius=3.0, inner=Blur(sides=[5]), device="cuda")
        assert blur.to_section() == {**section, "radius": 3.0}

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ({"radius": 1}, "x has no _target_, so there is nothing to build"),
            (None, "x has no _target_"),
            ({"_target_": PATH, "radius": -1}, "x.radius is -1; expected greater than 0"),
            ({"_target_": PATH, "inner": {"_target_": PATH, "radius": -1}}, "x.inner.radius is -1"),
            ({"_target_": 7}, "x: _target_ is 7; expected the dotted path of a class"),
            ({"_target_": ".a.B"}, r"x: _target_ is '\.a\.B'; expected the dotted path"),
            ({"_target_": "a..B"}, r"x: _target_ is 'a\.\.B'; expected the dotted path"),
            ({"_target_": "a.b\x00.C"}, r"x: _target_ is 'a\.b\\x00\.C'; expected the dotted path"),
            ({"_target_": "a." * 2000 + "B"}, r"x: _target_ is 'a\.[a.]*\.\.\.; expected the dotted path"),
            ({"_target_": "no.such.Thing"}, r"x: no.such.Thing can't be imported \(No module named 'no'\)"),
            (
                {"_target_": "promptroute.core.component.Nothing"},
                "x: promptroute.core.component has no class Nothing",
            ),
            ({"_target_": "pathlib.Path"}, "x: pathlib.Path is no Blur; only components can be named here"),
            ({"_target_": "os.system"}, "x: os has no class system"),
        ],
    )
    def test_errors(self, section: Any, message: str) -> None:
        with pytest.raises(UserError, match=message):
            build(section, "x", Blur)

    def test_closed_list(self) -> None:
        with pytest.raises(UserError, match=r"which this may not name; allowed: promptroute\.predictors\."):
            locate(PATH, Blur, "router.json", allow=["promptroute.predictors."])
        assert locate(PATH, Blur, "router.json", allow=["promptroute.predictors.", PATH]) is Blur

    def test_disallowed_not_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(UserError, match="may not name"):
            build({"_target_": "stranger.Thing"}, "router.json", Blur, allow=["promptroute."])


class TestFingerprint:
    def test_what_decides(self) -> None:
        base = Blur().fingerprint()
        assert base["class"] == PATH and base["version"] == 1 and list(base["libraries"]) == ["numpy"]
        assert Blur(radius=3.0).fingerprint() != base
        assert Blur(inner=Blur()).fingerprint() != base
        assert Blur(path="abc").fingerprint() != base, "weights count"
        assert Blur(batch_size=1, device="cuda").fingerprint() == base

    def test_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        base = Blur().fingerprint()
        monkeypatch.setattr(Blur, "version", 2)
        assert Blur().fingerprint() != base


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "x = (", "1 / 0", "def __getattr__(name): raise ValueError"]
)
def test_module_that_fails(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "failing.py").write_text(code)
    with pytest.raises(
        UserError, match=r"part: failing\.Own can't be imported .*; `python -c 'import failing'` shows"
    ):
        locate("failing.Own", Component, "part")
    sys.modules.pop("failing", None)
