"""Read what the stage `generate` wrote."""

from pathlib import Path

from promptroute.core.image import Image
from promptroute.io.images import read_shard, shard_paths


def every_image(folder: Path) -> list[Image]:
    """Return all images of a model, of data/images/MODEL, in order."""
    return [row for path in shard_paths(folder) for row in read_shard(path)]
