"""Shards of images, or of their embeddings, through a scorer: the work that the shard runner hands out."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.core.outputs import Output, check_ranges, words
from promptroute.core.plain import Section
from promptroute.core.rows import SCORE_KEY, Prompt, Score, schema
from promptroute.io.cache import CacheFile
from promptroute.io.embeddings import read_embeddings, rows_of
from promptroute.io.files import sha256
from promptroute.io.images import ImageRequest, link_or_copy, read_shard, shard_paths
from promptroute.io.parquet import read_facts, read_parquet
from promptroute.io.scores import FILES, Detail, details_table, write_scores
from promptroute.io.tables import read_table
from promptroute.runtime.batching import Failure, in_batches
from promptroute.runtime.decoding import over_images
from promptroute.runtime.executors import Executor
from promptroute.runtime.shards import Work, run
from promptroute.scorers.base import (
    Batch,
    EmbeddingBatch,
    EmbeddingScorer,
    ImageBatch,
    PromptedImageBatch,
    PromptGroupBatch,
    Scorer,
)

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels


@dataclass(frozen=True)
class Item:
    """What a score is of: an image, or all images of a prompt (seed None)."""

    prompt_id: str
    seed: int | None
    prompt: str
    images: int = 1

    def __str__(self) -> str:
        of = "all images" if self.seed is None else "the image"
        return f"{of} of prompt {self.prompt_id}" + ("" if self.seed is None else f", seed {self.seed}")


@dataclass(frozen=True)
class Scored:
    """What a scorer gave for some items.

    Attributes:
        scores: `Score` rows, item by item, each output in its declared order.
        details: `map` and `marks` → theirs.
    """

    scores: pd.DataFrame
    details: Mapping[str, Sequence[Detail]]


Values = tuple[Any, ...]
"""What a scorer gave for one item: a value for each of its outputs, in their declared order."""


def score_batch(scorer: Scorer, batch: Batch, n: int) -> list[Values]:
    """Score one batch of n items, and take it apart by item.

    Raises:
        UserError: the scorer gives other outputs than it declares, or for another number of items.
    """
    given = scorer.score(batch)
    names = [output.name for output in scorer.outputs]
    sizes = {name: len(values) for name, values in given.items()}
    if sizes != dict.fromkeys(names, n):
        raise UserError(
            f"{type(scorer).class_path()} gave {sizes} for {n} items; expected {n} of each of its outputs {names}"
        )
    return list(zip(*(given[name] for name in names), strict=True))


def collect(scorer: Scorer, items: Sequence[Item], results: Iterable[Values], where: str) -> Scored:
    """Lay out what a scorer gave for items.

    Raises:
        UserError: a value is not finite, of the wrong shape, or out of its declared range; names `where` and the item.
    """
    rows: list[Values] = []
    details: dict[str, list[Detail]] = {kind: [] for kind in _detailed(scorer)}
    for item, result in zip(items, results, strict=True):
        for output, value in zip(scorer.outputs, result, strict=True):
            if output.kind != "score":
                details[output.kind].append(_detail(item, output, value, where))
            elif np.isfinite(value):
                rows.append((item.prompt_id, item.seed, output.name, float(value), item.images))
            elif item.seed is not None:  # of a whole prompt, not finite means that it has too few images
                raise UserError(f"{where}: {item} can't be scored ({output.name} is not finite)")
    frame = pd.DataFrame(rows, columns=["prompt_id", "seed", "output", "value", "images"])
    frame = frame.astype({"seed": "Int64", "value": "float64", "images": "int64"})
    scores = frame.assign(seconds=pd.array([None] * len(frame), "Float64"))
    check_ranges(
        scores, {output.name: output for output in scorer.outputs}, f"{where} by {type(scorer).__name__}"
    )
    return Scored(scores, details)


def _detailed(scorer: Scorer) -> list[str]:
    """List the kinds of output, other than scores, that a scorer has."""
    return [kind for kind in FILES if any(output.kind == kind for output in scorer.outputs)]


def _detail(item: Item, output: Output, value: object, where: str) -> Detail:
    values = np.asarray(value, np.float32)
    named = words(item.prompt) if output.kind == "marks" else []
    if values.ndim != 2 if output.kind == "map" else values.shape != (len(named),):
        expected = "[height, width]" if output.kind == "map" else f"[{len(named)}], a value for each word"
        raise UserError(f"{where}: {output.name} of {item} has shape {values.shape}; expected {expected}")
    if values.size and not (output.low <= values.min() and values.max() <= output.high):  # NaN is outside too
        raise UserError(
            f"{where}: {output.name} of {item} holds {values.min():g} to {values.max():g}, outside of the declared "
            f"{output.low:g} to {output.high:g}; correct the range that the class declares, or the scorer"
        )
    return Detail(item.prompt_id, item.seed, output.name, values, named)


class ShardScoring(Work[Path]):
    """Work of the shard runner: one shard → its scores in the cache, and its maps and marks beside them.

    Args:
        scorer: what scores them.
        model: whose images they are; stated in the files.
    """

    def __init__(self, scorer: Scorer, model: str) -> None:
        self.scorer, self.model = scorer, model
        self._files: dict[Path, dict[str, CacheFile]] = {}

    @cached_property
    def key(self) -> Section:
        """Return everything about the scorer that decides a score."""
        return self.scorer.fingerprint()

    def inputs(self, shard: Path) -> list[str]:
        """Return the digests of all that a shard's scores are made of."""
        return [sha256(shard)]

    def files(self, shard: Path) -> dict[str, CacheFile]:
        """Name the cache's files of a shard: kind of output → file; scores last, so that they stand for the whole."""
        if shard not in self._files:
            inputs, about = self.inputs(shard), {"model": self.model, "class": self.scorer.class_path()}
            self._files[shard] = {
                kind: CacheFile.of("scores", self.key, *inputs, kind, about=about)
                for kind in (*_detailed(self.scorer), "score")
            }
        return self._files[shard]

    def path(self, shard: Path) -> Path:
        """Return where a shard's scores are kept."""
        return self.files(shard)["score"].path

    def is_done(self, shard: Path) -> bool:
        """Tell whether scores, maps and marks of a shard are there, whole, and of this scorer and these inputs."""
        return all(file.read() is not None for file in self.files(shard).values())

    def __call__(self, shard: Path) -> None:
        """Score a shard, and keep what it gave."""
        found = self.scored(shard)
        for kind, file in self.files(shard).items():
            if kind == "score":
                file.write(pa.Table.from_pandas(found.scores, schema(Score), preserve_index=False))
            else:
                file.write(details_table(kind, found.details[kind]))

    def scores(self, shard: Path) -> pd.DataFrame:
        """Read the `Score` rows of a shard that is done.

        Raises:
            UserError: they are lost or corrupt.
        """
        return read_table(self.path(shard), Score, SCORE_KEY, may_be_empty=True)

    @abstractmethod
    def scored(self, shard: Path) -> Scored:
        """Score all that a shard holds."""


class ImageScoring(ShardScoring):
    """The work for scorers that look at pixels: shards are files of images."""

    def scored(self, shard: Path) -> Scored:
        """Score every image of a shard that could be generated.

        Raises:
            UserError: as `score_items`, or the shard is corrupt.
        """
        rows = [row for row in read_shard(shard) if row.image is not None]

        def process(images: "list[Pixels]", taken: list[Image]) -> list[Values]:
            batch: Batch = ImageBatch(images)
            if self.scorer.inputs is PromptedImageBatch:
                batch = PromptedImageBatch(images, [row.prompt for row in taken])
            return score_batch(self.scorer, batch, len(taken))

        items = [Item(row.prompt_id, row.seed, row.prompt) for row in rows]
        return collect(self.scorer, items, over_images(rows, process, self.scorer.batch_size), str(shard))


class EmbeddingScoring(ShardScoring):
    """The work for scorers of stored embeddings: shards are files of images' embeddings.

    Args:
        scorer, model: as `ShardScoring`.
        vectors: the file of the prompts' embeddings by the same encoder.
        prompts: the file of the study's prompts.
    """

    def __init__(
        self, scorer: Scorer, model: str, vectors: Path, prompts: Path = Path("data/prompts.parquet")
    ) -> None:
        super().__init__(scorer, model)
        self.vectors, self.prompts = vectors, prompts

    @cached_property
    def _texts(self) -> "pd.Series[str]":
        return read_table(self.prompts, Prompt).set_index("prompt_id")["prompt"]

    @cached_property
    def _prompt_vectors(self) -> "pd.Series[Any]":
        vectors = read_embeddings(self.vectors).set_index("prompt_id")["embedding"]
        self._refuse_lost(self._texts.index, vectors.index, self.vectors)
        return vectors

    def _refuse_lost(self, needed: Iterable[str], known: Iterable[str], where: Path) -> None:
        if lost := set(needed) - set(known):
            raise UserError(
                f"{where}: made of other prompts than {self.prompts} holds, as {min(lost)}; embed again"
            )

    def _read(self, shard: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Read a shard: which prompts it is of [g], and its images' groups [n], seeds [n] and vectors [n, d]."""
        expected = {"model": self.model}
        if maker := read_facts(self.vectors, "embeddings of prompts").get("component"):
            expected["component"] = maker
        table = read_parquet(shard, "embeddings of images", ["prompt_id", "seed", "embedding"], expected)
        ids = np.array(table.column("prompt_id").to_pylist())
        self._refuse_lost(ids, self._texts.index, shard)
        groups, prompts = pd.factorize(ids)
        return prompts, groups, table.column("seed").to_numpy(), rows_of(table.column("embedding"))

    def inputs(self, shard: Path) -> list[str]:
        """Give the digests of the shard and of its own prompts' texts and vectors: others decide none of its scores."""
        prompts = self._read(shard)[0]
        digest = hashlib.sha256("\0".join(self._texts[prompts]).encode())
        for vector in self._prompt_vectors[prompts]:
            digest.update(np.asarray(vector, np.float32).tobytes())
        return [sha256(shard), digest.hexdigest()]

    def scored(self, shard: Path) -> Scored:
        """Score every image of a shard, or every prompt by all of its images.

        Raises:
            UserError: as `score_items`; or the shard is corrupt, or of other prompts.
        """
        prompts, groups, seeds, images = self._read(shard)
        texts, vectors = self._texts[prompts].to_numpy(), np.stack(list(self._prompt_vectors[prompts]))
        if self.scorer.inputs is PromptGroupBatch:
            counts = np.bincount(groups)
            items = [Item(prompts[g], None, texts[g], int(count)) for g, count in enumerate(counts)]
        else:
            items = [Item(prompts[g], int(seed), texts[g]) for g, seed in zip(groups, seeds, strict=True)]

        def process(positions: Sequence[int]) -> list[Values]:
            if self.scorer.inputs is EmbeddingBatch:
                batch: Batch = EmbeddingBatch(images[positions], vectors[groups[positions]])
            else:  # positions of prompts, rising
                inside = np.flatnonzero(np.isin(groups, positions))
                places = np.searchsorted(positions, groups[inside])
                batch = PromptGroupBatch(images[inside], places, vectors[positions])
            return score_batch(self.scorer, batch, len(positions))

        def results() -> Iterator[Values]:
            for position, result in in_batches(range(len(items)), process, self.scorer.batch_size):
                if isinstance(result, Failure):
                    raise UserError(f"{shard}: {items[position]} can't be scored ({result.reason})")
                yield result

        return collect(self.scorer, items, results(), str(shard))


def score_model(
    scorer: Scorer,
    name: str,
    model: str,
    executor: Executor,
    folder: Path,
    asked: Sequence[ImageRequest] | None = None,
    facts: Section | None = None,
) -> pd.DataFrame:
    """Score one model's images, shard by shard; those scored before come from the cache.

    Args:
        scorer: the scorer, whose name in the study is `name`.
        model: whose images.
        executor: where shards are scored.
        folder: where to write the scores, and beside them maps and marks; must not exist.
        asked: the images that the study asks for; None: any.
        facts: what else the file of scores says of itself.

    Returns:
        `Score` rows.

    Raises:
        UserError: there are no images or embeddings of the model, or as `ShardScoring`.
    """
    work: ShardScoring
    if isinstance(scorer, EmbeddingScorer):
        embeddings = scorer.folder
        shards = sorted((embeddings / model).glob("part-*.parquet"))
        if not shards:
            raise UserError(
                f"{embeddings / model}: no embeddings of images; give image_encoder an encoder {scorer.encoder}, and "
                f"embed the images"
            )
        work = EmbeddingScoring(scorer, model, embeddings / "prompts.parquet")
    else:
        work, shards = ImageScoring(scorer, model), shard_paths(f"data/images/{model}", asked)
    run(work, shards, executor, f"score {model}")
    scores = pd.concat([work.scores(shard) for shard in shards], ignore_index=True)
    check_ranges(scores, {output.name: output for output in scorer.outputs}, f"data/scores/{name}/{model}")
    seeds = {request.seed for request in asked or ()}
    if asked is not None and (other := set(scores["seed"].dropna()) - seeds):
        raise UserError(
            f"{shards[0].parent}: holds seed {min(other)}, which the study doesn't ask for, so it is another study's; embed again"
        )
    folder.mkdir(parents=True)
    about = {**(facts or {}), "scorer": name, "model": model, "class": scorer.class_path()}
    write_scores(folder / "scores.parquet", scores, about)
    for number, shard in enumerate(shards):
        for kind, file in work.files(shard).items():
            if kind in FILES:
                link_or_copy(file.path, folder / f"{FILES[kind][0]}-{number:05d}.parquet")
    return scores
