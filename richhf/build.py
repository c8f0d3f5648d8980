"""Join a split of RichHF-18K with its images: params `data` → richhf/data/shards/SPLIT/."""

from promptroute.feedback.pickapic import open_pickapic
from promptroute.feedback.richhf import build_shards
from promptroute.runtime.stage import run_stage
from richhf.settings import SHARDS, load_params, place


def main(split: str) -> str:
    data = load_params()["data"]
    captions = data["captions"]
    images = open_pickapic(place(data["images"]), captions and place(captions))
    counts = build_shards(
        place(data["records"]) / f"{split}.tfrecord", images, SHARDS / split, split, data["allow_missing"]
    )
    return f"{split}: " + ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    run_stage(main, __doc__, "SPLIT")
