"""Turn what people marked into examples: python -m richhf.people VOTES STUDY FOLDER.

VOTES is the file that `promptroute annotate --mode marks` wrote, STUDY the study whose images were shown. FOLDER gets
shards of train, dev and test, by the prompts' texts; those in richhf/data/shards are what `dvc --cd richhf repro -s train`
trains on. Scores, and where an image misses its prompt, stay unknown.
"""

from pathlib import Path

from promptroute.feedback.people import build_marked
from promptroute.runtime.stage import run_stage


def main(votes: str, study: str, folder: str) -> str:
    counts = build_marked(votes, Path(study) / "data/images", folder)
    return f"{folder}: " + ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    run_stage(main, __doc__, "VOTES", "STUDY", "FOLDER")
