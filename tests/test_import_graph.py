"""The rooms of the library: arrows go down, siblings don't know each other, nothing goes in a circle."""

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "promptroute"

FLOORS = (
    ("core",),
    ("io",),
    ("runtime",),
    ("prompts", "encoders", "generators", "scorers", "recovery", "predictors", "routing"),
    ("evaluation", "feedback"),
    ("router",),
    ("service", "report"),
    ("cli",),
)
"""The rooms, ground floor first. A room imports lower floors alone: nothing above, and no room beside it."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

HEAVY = frozenset(
    {"torch", "torchvision", "transformers", "diffusers", "sentence_transformers", "open_clip", "pandas", "pyarrow",
     "matplotlib", "dvc", "hydra", "omegaconf", "sklearn", "lightgbm", "ray", "onnx", "onnxruntime"}
)  # fmt: skip
"""Imported inside functions, wherever a router or a command line starts."""
LIGHT = (
    "core.errors", "core.batch", "core.component", "runtime.stage", "runtime.compose", "encoders", "predictors",
    "routing", "router", "service", "cli",
)  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the library: dotted name → file."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(tree: ast.AST, top: bool = False) -> Iterator[str]:
    """Give the dotted names that a module imports; with `top`, only those that run when it is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are by full path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (top and is_later(node)):
            yield from imported(node, top)


def is_later(node: ast.AST) -> bool:
    """Whether what is in it doesn't run when the module is imported."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def own(name: str) -> str | None:
    """Give the module of the library that an imported name is or lies in."""
    while name.startswith("promptroute"):
        if name in MODULES:
            return name
        name = name.rpartition(".")[0]
    return None


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else ""


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
ARROWS = {name: {found for one in imported(tree) if (found := own(one))} for name, tree in TREES.items()}


def report(violations: list[str]) -> str:
    return "\n" + "\n".join(violations)


def test_rooms_have_floors() -> None:
    rooms = {path.parent.name for path in LIBRARY.glob("*/*.py")}
    assert rooms <= set(FLOOR), f"rooms without a floor: {sorted(rooms - set(FLOOR))}"
    assert {path.stem for path in LIBRARY.glob("*.py")} == {"__init__", "__main__"}


def test_arrows_go_down() -> None:
    violations = [
        f"{name} > {target}"
        for name, targets in ARROWS.items()
        for target in sorted(targets)
        if room(name) and room(target) != room(name) and FLOOR.get(room(target), 99) >= FLOOR[room(name)]
    ]
    assert not violations, report(violations)


def test_no_circle() -> None:
    """Whatever a module imports, at once or later, never leads back to it."""
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " > ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(ARROWS[name] - {name}):
                walk(target, (*path, name))
            done.add(name)

    for name in MODULES:
        walk(name, ())


PROGRAMS = {"stages", "mini", "benchmarks", "tests"}


def imports(names: Collection[str], trees: Mapping[str, ast.AST], top: bool = False) -> list[str]:
    """List who of `trees` imports a package of these names."""
    found = ((where, name) for where, tree in trees.items() for name in imported(tree, top))
    return [f"{where}: {name}" for where, name in found if name.split(".")[0] in names]


def trees_below(folder: str) -> dict[str, ast.AST]:
    paths = (ROOT / folder).rglob("*.py")
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


@pytest.mark.parametrize("package", ["promptroute", "benchmarks", "mini"])
def test_stages_imported_by_nothing(package: str) -> None:
    found = imports({"stages"}, trees_below(package))
    assert not found, report(found)


@pytest.mark.parametrize("package", ["promptroute", "stages"])
def test_know_no_program(package: str) -> None:
    found = imports(PROGRAMS, trees_below(package))
    assert not found, report(found)


def test_light_at_the_top() -> None:
    light = {
        name: tree
        for name, tree in TREES.items()
        if any(f"{name}.".startswith(f"promptroute.{part}.") for part in LIGHT)
    }
    found = imports(HEAVY, light, top=True)
    assert light and not found, report(found)


def test_command_line_libraries_stay_there() -> None:
    found = imports({"typer", "rich"}, {name: tree for name, tree in TREES.items() if room(name) != "cli"})
    assert not found, report(found)


def test_saved_parts_are_light() -> None:
    """A router loads where nothing heavy is installed, whichever predictor and policy it holds."""
    reached: set[str] = set()
    waiting = [name for name in MODULES if room(name) in ("predictors", "routing")]
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            waiting += [target for one in imported(TREES[name], top=True) if (target := own(one))]
    found = imports(HEAVY, {name: TREES[name] for name in reached}, top=True)
    assert not found, report(found)
