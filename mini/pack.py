"""Copy the results of the training where git tracks them: mini/pipeline/data/{prompts, weights, report.*} → mini/."""

import shutil
from pathlib import Path

from mini.settings import DATA
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

SOURCE, TARGET = DATA, Path("mini")
NAMES = ("prompts", "weights", "report.json", "report.md", "feedback_report.json", "feedback_report.md")


def pack(source: Path, target: Path) -> int:
    """Copy folders and files into `target`, each atomically; return their size in bytes."""
    size = 0
    for name in NAMES:
        with atomic_path(target / name) as temporary:
            if (source / name).is_dir():
                shutil.copytree(source / name, temporary)
            else:
                shutil.copy2(source / name, temporary)
        files = [target / name, *(target / name).rglob("*")]
        size += sum(file.stat().st_size for file in files if file.is_file())
    return size


def main() -> str:
    return f"pack: {pack(SOURCE, TARGET) / 1e6:.1f} MB in {TARGET}"


if __name__ == "__main__":
    run_stage(main)
