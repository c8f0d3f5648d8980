"""A study's images from one model: what is at hand is taken, what is missing is drawn."""

import io
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.generators.base import Generator
from promptroute.generators.uniform import UniformBatches, one_thread
from promptroute.io.images import ImageCache, ImageRequest, write_shard
from promptroute.runtime.batching import Failure, in_batches

SAVE_SECONDS = 5.0
"""How much work a kill may cost."""


@dataclass(frozen=True)
class Drawn:
    """What `generate_images` did.

    Attributes:
        shards: files in order, one for each shard that was asked for.
        images: how many images were asked for.
        new: how many of them were drawn now.
        seconds: how long that took, without loading the model.
        failed: reason → how many images failed for it.
    """

    shards: list[Path]
    images: int
    new: int
    seconds: float
    failed: Counter[str]


def generate_images(
    generator: Generator,
    model: str,
    shards: Sequence[Sequence[ImageRequest]],
    area: ImageCache,
    max_failed: float = 0.01,
    save_seconds: float = SAVE_SECONDS,
) -> Drawn:
    """Fill the area with the shards of a study.

    Several batches are drawn side by side: on the CPU as many as torch may use threads, of which each takes one;
    on a GPU as many as the generator asks for streams. Finished images are kept every `save_seconds`, so that a
    killed run goes on where it was. An image that can't be drawn is a row with its reason; the next run tries it
    again.

    Args:
        generator: what draws; loaded only where something is missing.
        model: its name, for the rows.
        shards: the images of each shard, in the order of its rows.
        area: where images of this very generator are kept, and looked for.
        max_failed: share of the study's images that may fail, 0 to 1.
        save_seconds: how often unfinished shards are saved.

    Raises:
        UserError: more than `max_failed` of the images failed, or the model can't be loaded.
    """
    from tqdm import tqdm

    total = sum(len(shard) for shard in shards)
    places = area.keys()
    failed: Counter[str] = Counter()
    paths, new, seconds = [], 0, 0.0
    on_cpu = generator.device.startswith("cpu")
    draw = UniformBatches(generator, generator.batch_size).generate if on_cpu else generator.generate

    def process(batch: Sequence[ImageRequest]) -> list[np.ndarray | Failure]:
        pictures = draw([wanted.prompt for wanted in batch], [wanted.seed for wanted in batch])
        return [picture if np.isfinite(picture).all() else Failure(_NO_PICTURE) for picture in pictures]

    at_hand = sum(wanted.key in places for shard in shards for wanted in shard)
    with (
        tqdm(total=total, initial=at_hand, unit="image", desc=model) as bar,
        ThreadPoolExecutor() as pool,
        one_thread() if on_cpu else nullcontext(generator.streams) as lanes,
    ):
        for shard in shards:
            images = area.load([wanted.key for wanted in shard], places)
            lacking = list({wanted.key: wanted for wanted in shard if wanted.key not in images}.values())
            reasons: dict[tuple[str, int], str] = {}
            unsaved: list[Future[Image]] = []
            if lacking:
                generator.load()
            saved = started = time.monotonic()
            for wanted, result in in_batches(lacking, process, generator.batch_size, lanes):
                bar.update()
                if isinstance(result, Failure):
                    reasons[wanted.key] = result.reason
                    failed[result.reason] += 1
                    _check_failures(failed, total, max_failed, model)
                    continue
                new += 1
                unsaved.append(pool.submit(_image, wanted, model, result))
                if time.monotonic() - saved >= save_seconds:
                    images |= _save(unsaved, area)
                    unsaved, saved = [], time.monotonic()
            images |= {(image.prompt, image.seed): image for image in (future.result() for future in unsaved)}
            seconds += time.monotonic() - started
            path = area.shard_path(shard, model)
            if lacking or not path.exists():
                write_shard(path, [_row(wanted, model, images, reasons) for wanted in shard])
            paths.append(path)
    area.tidy(paths)
    return Drawn(paths, total, new, seconds, failed)


_NO_PICTURE = "the model gave no picture: values that are not finite, or its safety checker withheld it"


def _save(unsaved: Sequence[Future[Image]], area: ImageCache) -> dict[tuple[str, int], Image]:
    rows = [future.result() for future in unsaved]
    area.add(rows)
    return {(row.prompt, row.seed): row for row in rows}


def _check_failures(failed: Counter[str], total: int, max_failed: float, model: str) -> None:
    if failed.total() > max_failed * total:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in failed.most_common(3))
        raise UserError(
            f"models.{model}: {failed.total()} of {total} images failed, more than generation.max_failed={max_failed} "
            f"allows ({reasons}); what was saved is kept, so mend the cause and run `dvc repro` again"
        )


def to_png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file's bytes, rounded to 8 bits as diffusers rounds.

    Args:
        picture: float32 [height, width, 3], RGB in 0..1.
    """
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray((picture * 255).round().astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def _image(wanted: ImageRequest, model: str, picture: np.ndarray) -> Image:
    height, width = picture.shape[:2]
    return Image(
        wanted.prompt_id, wanted.prompt, model, wanted.seed, "ok", None, width, height, to_png(picture)
    )


def _row(
    wanted: ImageRequest,
    model: str,
    images: dict[tuple[str, int], Image],
    reasons: dict[tuple[str, int], str],
) -> Image:
    image = images.get(wanted.key)
    if image is not None:  # perhaps drawn under another study's id, or another name of the model
        return replace(image, prompt_id=wanted.prompt_id, model=model)
    reason = reasons[wanted.key]
    return Image(wanted.prompt_id, wanted.prompt, model, wanted.seed, "failed", reason, None, None, None)
