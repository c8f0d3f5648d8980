"""A study's images from one model: what the cache has is taken, what is missing is generated."""

import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.image import Image, to_rgb
from promptroute.generators.base import (
    ONE_COLOUR,
    Generated,
    Generator,
    LocalGenerator,
    RemoteGenerator,
    image_or_failure,
    in_8_bits,
)
from promptroute.generators.remote import Paced
from promptroute.generators.uniform import UniformBatches
from promptroute.io.images import ImageCache, ImageRequest, write_shard
from promptroute.runtime.batching import Failure, in_batches
from promptroute.runtime.device import one_thread
from promptroute.runtime.executors import Executor, InProcess
from promptroute.runtime.shards import Work, run

SAVE_SECONDS = 5.0
"""How much work a kill may cost."""

Shard = Sequence[ImageRequest]
Key = tuple[str, int]


@dataclass
class Tally:
    """What was generated now.

    Attributes:
        new: images.
        seconds: how long it took, without loading the model.
        failed: reason → how many images could not be generated for it.
    """

    new: int = 0
    seconds: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Add what another shard did."""
        self.new += other.new
        self.seconds += other.seconds
        self.failed += other.failed


@dataclass(frozen=True)
class StudyImages:
    """A study's images from one model.

    Attributes:
        shards: files in order, one for each shard that was asked for.
        images: how many images were asked for.
        now: what was generated now.
    """

    shards: list[Path]
    images: int
    now: Tally


def generate_images(
    generator: Generator,
    model: str,
    shards: Sequence[Shard],
    cache: ImageCache,
    max_failed: float = 0.01,
    executor: Executor | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> StudyImages:
    """Fill the cache with the shards of a study.

    Several batches are generated at once: on the CPU as many as torch may use threads, of which each takes one;
    elsewhere as many as the generator allows. Finished images are kept every `save_seconds`, so that a killed run
    goes on where it was. An image that can't be generated is a row with its reason; the next run tries it again.

    Args:
        generator: what generates; loaded only where something is missing.
        model: its name, for the rows.
        shards: the images of each shard, in the order of its rows.
        cache: where images of this very generator are kept, and looked for.
        max_failed: share of the study's images that may fail, 0 to 1.
        executor: where shards are done; in this process where None.
        save_seconds: how often unfinished shards are saved.

    Raises:
        UserError: more than `max_failed` of the images failed, or the model can't be loaded.
    """
    total = sum(len(shard) for shard in shards)
    work = GenerateWork(generator, model, cache, _FailureLimit(model, total, max_failed), save_seconds)
    now = Tally()

    def note(tally: Tally) -> None:
        now.add(tally)
        work.limit.check(now.failed)

    paths = run(work, shards, executor or InProcess(), model, "image", note)
    return StudyImages(paths, total, now)


@dataclass(frozen=True)
class _FailureLimit:
    model: str
    total: int
    share: float

    def check(self, failed: Counter[str]) -> None:
        """Raise `UserError` where more images failed than may."""
        if failed.total() > self.share * self.total:
            reasons = "; ".join(f"{count} × {reason}" for reason, count in failed.most_common(3))
            raise UserError(
                f"models.{self.model}: {failed.total()} of {self.total} images failed, more than "
                f"generation.max_failed={self.share} allows ({reasons}); what was saved is kept, so fix the cause and "
                f"run it again"
            )


class GenerateWork(Work[Shard]):
    """Makes shards of images; arguments as `generate_images`."""

    ticks = True

    def __init__(
        self, generator: Generator, model: str, cache: ImageCache, limit: _FailureLimit, save_seconds: float
    ) -> None:
        self.generator, self.model, self.cache = generator, model, cache
        self.limit, self.save_seconds = limit, save_seconds
        self._largest = 0

    def path(self, shard: Shard) -> Path:
        """Return where the cache keeps the shard."""
        return self.cache.shard_path(shard, self.model)

    def size(self, shard: Shard) -> int:
        """Return the number of images."""
        return len(shard)

    def is_done(self, shard: Shard) -> bool:
        """Tell whether every image is there, and none of them failed."""
        rows = self.cache.read(self.path(shard))
        return [(*row.key, row.status) for row in rows] == [(*request.key, "ok") for request in shard]

    def __call__(self, shard: Shard) -> Tally:
        """Generate what the cache lacks of a shard, and write the shard."""
        images = self.cache.load([request.key for request in shard], self._places)
        missing = list({request.key: request for request in shard if request.key not in images}.values())
        self.tick(len(shard) - len(missing))
        tally, reasons = Tally(), dict[Key, str]()
        if missing:
            self.generator.load()
            truncated = self._truncated(missing)
            started = time.monotonic()
            for row in self._generate(missing, truncated, tally.failed):
                if row.reason is None:
                    images[row.key] = row
                else:
                    reasons[row.key] = row.reason
            tally.new, tally.seconds = len(missing) - len(reasons), time.monotonic() - started
        write_shard(
            self.path(shard),
            [_row(request, self.model, images, reasons) for request in shard],
            self.cache.component,
        )
        return tally

    @cached_property
    def _places(self) -> dict[Key, Path]:
        """Index what the cache had when the work began."""
        return self.cache.keys()

    @cached_property
    def _batches(self) -> UniformBatches | Paced | Generator:
        """Return what generates a batch."""
        if isinstance(self.generator, LocalGenerator) and self.generator.on_cpu:
            return UniformBatches(self.generator, self.generator.batch_size)
        return Paced(self.generator) if isinstance(self.generator, RemoteGenerator) else self.generator

    @cached_property
    def _threads(self) -> ThreadPoolExecutor | None:
        """Return the threads of a GPU's batches, kept over shards: cuDNN prepares each convolution once a thread."""
        if not isinstance(self.generator, LocalGenerator) or self.generator.on_cpu:
            return None
        return ThreadPoolExecutor(self.generator.concurrent)

    @contextmanager
    def _concurrent(self) -> Iterator[int]:
        """Yield how many batches go at once."""
        if isinstance(self.generator, LocalGenerator) and self.generator.on_cpu:
            with one_thread() as threads:
                yield threads
        else:
            yield self.generator.concurrent

    def _process(self, requests: Shard) -> list[Generated]:
        prompts, seeds = [request.prompt for request in requests], [request.seed for request in requests]
        if isinstance(self.generator, LocalGenerator) and self.generator.one_size:
            lacking = max(self._largest - len(requests), 0)  # of the size that there is memory for
            prompts, seeds = prompts + prompts[-1:] * lacking, seeds + seeds[-1:] * lacking
        images = self._batches.generate(prompts, seeds)[: len(requests)]
        self._largest = max(self._largest, len(requests))
        return [checked(image) for image in images]

    def _truncated(self, missing: Shard) -> dict[str, int | None]:
        """Count the tokens that the model cuts off each prompt."""
        prompts = list(dict.fromkeys(request.prompt for request in missing))
        return dict(zip(prompts, self.generator.truncated(prompts), strict=True))

    def _generate(
        self, missing: Shard, truncated: Mapping[str, int | None], failed: Counter[str]
    ) -> list[Image]:
        """Return a row for each image; those that are finished are saved meanwhile, without holding up a GPU."""
        failures: list[Image] = []
        encoded: list[Future[Image]] = []
        unsaved, saved, saving = 0, time.monotonic(), Future[None]()
        saving.set_result(None)
        with ThreadPoolExecutor() as pool, self._concurrent() as concurrent:
            results: Iterator[tuple[ImageRequest, Generated]] = in_batches(
                missing, self._process, self.generator.batch_size, concurrent, self._threads
            )
            try:
                for request, result in results:
                    self.tick(1)
                    if isinstance(result, Failure):
                        failures.append(_failed(request, self.model, result.reason))
                        failed[result.reason] += 1
                        self.limit.check(failed)
                        continue
                    cut = truncated[request.prompt]
                    encoded.append(pool.submit(_image, request, self.model, result, cut))
                    if time.monotonic() - saved >= self.save_seconds and saving.done():
                        saving.result()  # a full disk ends it
                        saving = pool.submit(self._save, encoded[unsaved:])
                        unsaved, saved = len(encoded), time.monotonic()
            except UserError:
                self._save(encoded[unsaved:])
                raise
            saving.result()
            return failures + [future.result() for future in encoded]

    def _save(self, encoded: Sequence[Future[Image]]) -> None:
        """Keep images of a shard that isn't finished yet."""
        if encoded:
            self.cache.add([future.result() for future in encoded])


def checked(image: Generated) -> Generated:
    """Return a generated image, or a failure where it is none: not finite, of one colour, or bytes that are no image."""
    if isinstance(image, np.ndarray):
        return image_or_failure(image)
    if isinstance(image, bytes):
        from PIL import Image as Pillow

        try:
            with Pillow.open(io.BytesIO(image)) as opened:
                extrema: Any = to_rgb(opened).getextrema()
                if all(low == high for low, high in extrema):
                    return Failure(ONE_COLOUR)
        except Exception as error:  # Pillow's decoders raise whatever they meet
            return Failure(f"the model gave bytes that are no image ({type(error).__name__})")
    return image


def to_png(image: np.ndarray) -> bytes:
    """Encode an image as a PNG file's bytes, rounded to 8 bits as diffusers rounds.

    Args:
        image: [height, width, 3] RGB, float32 in 0..1 or uint8.
    """
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(in_8_bits(image)).save(file, format="PNG")
    return file.getvalue()


def _image(request: ImageRequest, model: str, image: np.ndarray | bytes, truncated: int | None) -> Image:
    if isinstance(image, bytes):
        from PIL import Image as Pillow

        with Pillow.open(io.BytesIO(image)) as opened:
            width, height = opened.size
        encoded = image
    else:
        height, width = image.shape[:2]
        encoded = to_png(image)
    return Image(
        request.prompt_id, request.prompt, model, request.seed, "ok", None, width, height, encoded, truncated
    )


def _failed(request: ImageRequest, model: str, reason: str) -> Image:
    return Image(request.prompt_id, request.prompt, model, request.seed, "failed", reason, None, None, None)


def _row(request: ImageRequest, model: str, images: dict[Key, Image], reasons: dict[Key, str]) -> Image:
    image = images.get(request.key)
    if image is None:
        return _failed(request, model, reasons[request.key])
    # Perhaps made under another study's id, or another name of the model.
    return replace(image, prompt_id=request.prompt_id, model=model)
