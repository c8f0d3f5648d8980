"""Speed of the papers' models and scorers at their true size with random weights, part by part within a time limit.

Run by `python -m benchmarks.paper_models --measure`. Each figure is kept as soon as it is known; a part that fails
is a row with its reason, and a part that the time left doesn't suffice for is one too.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import PrivateAttr

from benchmarks.architectures import Architecture, architecture_of, shrunk
from benchmarks.counting import network, scheduler
from benchmarks.reporting import RESULTS, ROOT, markdown, write_csv
from promptroute.core.errors import reason
from promptroute.core.image import Image
from promptroute.generators.base import LocalGenerator, build_generator
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.profiling import flop_counter, processor
from promptroute.generators.run import checked, generate_images, to_png
from promptroute.io.images import ImageCache, ImageRequest, read_shard, write_shard
from promptroute.runtime.batching import free_memory
from promptroute.runtime.device import one_thread
from promptroute.runtime.executors import Executor, InProcess, Threads

CSV = RESULTS / "paper_models_measured.csv"
PEAK = 989.4
"""TFLOP/s in bfloat16 and float16 of an H100 SXM, dense, by its data sheet."""
PROMPT = "a photograph of a red fox in deep snow under a clear winter sky, {}"
COMPILE: dict[str, Any] = {
    "": {"dynamic": False},
    "graphs": {"dynamic": False, "mode": "reduce-overhead"},
    "searched": {
        "dynamic": False,
        "options": {
            "max_autotune": True,
            "conv_1x1_as_mm": True,
            "coordinate_descent_tuning": True,
            "epilogue_fusion": False,
        },
    },
}
"""Arguments of torch.compile: its default mode; with CUDA graphs; with a search for kernels, minutes a network."""
WHOLE, DECODER = "compiled", "decoder compiled"
"""What is compiled: denoiser and decoder, or the decoder alone, which takes less time."""
SHARD = 600
"""Images of a shard, as the stage has them: 200 prompts, 3 seeds."""
SECONDS = 3.0
"""How long a rate is measured, at least."""

Row = dict[str, Any]


class RandomModel(DiffusersModel):
    """A model of conf/model with random weights at its true architecture; nothing is downloaded.

    Args:
        architecture: what to build.
        settings: as for `DiffusersModel`.
    """

    _architecture: Architecture = PrivateAttr()
    _built: Any = PrivateAttr(None)

    def __init__(self, architecture: Architecture, **settings: Any) -> None:
        super().__init__(**{**settings, "components": {}, "scheduler": None})
        self._architecture = architecture

    def with_settings(self, **changed: Any) -> "RandomModel":
        """Return the same networks under other settings."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        other = RandomModel(self._architecture, **{**given, **changed})
        other._built = self._read()
        return other

    def _read(self) -> Any:
        if self._built is None:
            self._built = self._build()
        return self._built

    def _build(self) -> Any:
        import diffusers
        import torch

        torch.manual_seed(0)
        parts = {name: network(part, self.device) for name, part in self._architecture.parts.items()}
        for name, part in parts.items():
            keep_signal(part)
            part.to(self.dtype_of(name))
        tokenizers = {
            name.replace("text_encoder", "tokenizer"): tokenizer(part)
            for name, part in parts.items()
            if name.startswith("text_encoder")
        }
        kind = getattr(diffusers, self._architecture.pipeline)
        more: dict[str, Any] = {}
        if self._architecture.pipeline == "StableDiffusionPipeline":
            more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        elif self._architecture.pipeline == "StableDiffusionXLPipeline":
            more = {"add_watermarker": False}
        return kind(**parts, **tokenizers, scheduler=scheduler(self._architecture), **more)


def keep_signal(part: Any) -> None:
    """Let a random network's layers keep the size of what they pass on, so that its images are no flat grey."""
    import torch

    for weight in part.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)


def tokenizer(encoder: Any) -> Any:
    """Make a substitute for a CLIP tokenizer: letters, with the encoder's vocabulary size and length."""
    import string

    from transformers import CLIPTokenizer

    size, length = encoder.config.vocab_size, encoder.config.max_position_embeddings
    letters = string.ascii_lowercase + string.digits + ","
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<|{number}|>" for number in range(size - 2 - len(words))]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


@dataclass
class Bench:
    """What the parts share.

    Attributes:
        device: torch device.
        models: of conf/models/paper.yaml, with every setting of their generators.
        gflops: 10⁹ operations an image, by model.
        folder: for temporary files.
        tiny: whether networks are shrunk and rates taken from a single batch: a try of the code.
    """

    device: str
    models: Mapping[str, Any]
    gflops: Mapping[str, float]
    folder: Path
    tiny: bool = False
    _generators: dict[str, RandomModel] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def on_gpu(self) -> bool:
        """Tell whether it runs on a GPU."""
        return self.device.startswith("cuda")

    def new(self, name: str) -> Path:
        """Name a folder that doesn't exist yet."""
        return self.folder / f"{name}-{next(self._numbers)}"

    def generator(self, name: str) -> RandomModel:
        """Return a model of the paper with random weights, built at first use."""
        if name not in self._generators:
            how = {key: value for key, value in self.models[name]["generator"].items() if key != "_target_"}
            architecture = architecture_of(how)
            if self.tiny:
                architecture, how = shrunk(architecture), {**how, "steps": 1, "width": 64, "height": 64, "batch_size": 2}  # fmt: skip
            self._generators[name] = RandomModel(architecture, **{**how, "device": self.device})
        return self._generators[name]

    def forget(self) -> None:
        """Free the networks: building them again takes a second."""
        self._generators.clear()
        free_memory()

    def synchronise(self) -> None:
        """Wait for the GPU."""
        if self.on_gpu:
            import torch

            torch.cuda.synchronize()

    def rate(self, work: Callable[[int], int], least: float = SECONDS, turns: int = 2) -> Row:
        """Measure work that is warm, for `least` seconds and `turns`: `work(turn)` does some images, and says how many."""
        import torch

        if self.tiny:
            least, turns = 0.0, 1

        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.synchronise()
        started, images, turn = time.perf_counter(), 0, 0
        while turn < turns or time.perf_counter() - started < least:
            images += work(turn)
            turn += 1
        self.synchronise()
        seconds = time.perf_counter() - started
        memory = torch.cuda.max_memory_allocated() / 1e9 if self.on_gpu else np.nan
        return {"images": images, "seconds": seconds, "images_per_second": images / seconds, "memory_gb": memory}  # fmt: skip


# Generation.


def model_rows(bench: Bench, name: str) -> Iterator[Row]:
    """Measure a model as it is: one prompt and one image a call of plain diffusers; batches; the whole stage."""
    started = time.perf_counter()
    generator = bench.generator(name)
    pipeline = generator._read().to(bench.device)
    bench.synchronise()
    yield {"what": "building", "seconds": time.perf_counter() - started}
    yield from plain_calls(bench, generator, pipeline)
    size = generator.batch_size
    yield from generator_rows(bench, name, generator, [1, size // 2, size, 2 * size])
    best = generator.model_copy(update={"batch_size": best_batch(bench, name)})
    single = generator.model_copy(update={"batch_size": 1})
    yield stage_row(bench, name, single, streams=1)
    yield stage_row(bench, name, best, streams=1)
    yield stage_row(bench, name, best, streams=2)
    yield stage_row(bench, name, best, streams=1, workers=2)


def plain_calls(bench: Bench, generator: RandomModel, pipeline: Any) -> Iterator[Row]:
    """Measure what one would write without this library: a call of the pipeline an image, saved as PNG."""
    import torch

    call: Row = {"num_inference_steps": generator.steps, "guidance_scale": generator.guidance}
    call |= {"width": generator.width, "height": generator.height}
    pipeline.set_progress_bar_config(disable=True)
    folder = bench.new("plain")
    folder.mkdir()
    saving = 0.0

    def one(turn: int) -> int:
        nonlocal saving
        seed = torch.Generator("cpu").manual_seed(turn)
        image = pipeline(PROMPT.format(turn), generator=seed, **call).images[0]
        before = time.perf_counter()
        image.save(folder / f"{turn}.png")
        saving += time.perf_counter() - before
        return 1

    one(0), one(1)
    saving = 0.0
    found = bench.rate(one)
    yield {"what": "plain call, saved", "batch": 1, **found}
    seconds = found["seconds"] - saving
    yield {
        "what": "plain call",
        "batch": 1,
        **found,
        "seconds": seconds,
        "images_per_second": found["images"] / seconds,
    }


_RATES: dict[str, dict[int, float]] = {}
"""Model → size of the batch → rate of `generate`, measured last."""


def best_batch(bench: Bench, name: str) -> int:
    """Return the smallest batch of a model whose rate is within 3 % of the best."""
    rates = _RATES.get(name, {bench.generator(name).batch_size: 1.0})
    return min(size for size, rate in rates.items() if rate > 0.97 * max(rates.values()))


def generator_rows(bench: Bench, name: str, generator: DiffusersModel, sizes: Sequence[int]) -> Iterator[Row]:
    """Measure `generate`, call after call, by size of the batch."""
    for size in dict.fromkeys(sizes):

        def one(turn: int, size: int = size) -> int:
            prompts = [PROMPT.format(f"{turn} {i // 3}") for i in range(size)]
            generator.generate(prompts, list(range(size)))
            return size

        try:
            one(-2)
            found = bench.rate(one, SECONDS / 2)
        except Exception as error:
            yield {"what": "generate", "batch": size, "reason": reason(error)}
            free_memory()
            break
        yield {"what": "generate", "batch": size, **found, **shares(bench, name, found)}
        _RATES.setdefault(name, {})[size] = found["images_per_second"]


def shares(bench: Bench, name: str, found: Row) -> Row:
    """Return TFLOP/s and their share of the peak."""
    tflops = np.nan if bench.tiny else found["images_per_second"] * bench.gflops.get(name, np.nan) / 1000
    return {"tflops": tflops, "share_of_peak": tflops / PEAK}


class Warmed(Executor):
    """Another executor whose clock starts after the first shards, by when threads and kernels are warm."""

    _inner: Executor = PrivateAttr()
    _first: int = PrivateAttr()
    _started: float = PrivateAttr(0.0)

    @classmethod
    def of(cls, inner: Executor, first: int) -> "Warmed":
        """Make one: `first` shards are for warming."""
        made = cls()
        made._inner, made._first = inner, first
        return made

    def map(self, work: Callable[[Any], Any], shards: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Do the shards; see `Executor.map`."""
        yield from self._inner.map(work, shards[: self._first])
        self._started = time.perf_counter()
        yield from self._inner.map(work, shards[self._first :])

    @property
    def seconds(self) -> float:
        """Seconds since the first shards."""
        return time.perf_counter() - self._started


def stage_row(bench: Bench, name: str, generator: DiffusersModel, streams: int, workers: int = 1) -> Row:
    """Measure the generate stage: from requests to finished shards on disk, of 600 images each where there are as many.

    Args:
        bench, name: what the parts share, and the model.
        generator: the model, its batch size set.
        streams: batches that the GPU computes at once, in each shard.
        workers: shards at once.
    """
    import torch

    generator = generator.model_copy(update={"streams": streams})
    size, each = generator.batch_size, generator.batch_size * streams
    batches = int(_RATES.get(name, {}).get(size, 0.0) * 2 * SECONDS / each / workers)
    images = each * (1 if bench.tiny else max(3, batches))
    shards = [_requests(f"{shard}", images) for shard in range(workers)]
    shards = [shard[start : start + SHARD] for shard in shards for start in range(0, images, SHARD)]
    warm = [_requests(f"warm {shard}", each) for shard in range(workers)]
    executor = Warmed.of(InProcess() if workers == 1 else Threads(workers=workers), len(warm))
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with TemporaryDirectory(dir=bench.folder) as folder:
        # Random weights may well give an image that is none; then its PNG is lacking, so they are counted.
        study = generate_images(
            generator, name, [*warm, *shards], ImageCache(Path(folder)), max_failed=1.0, executor=executor
        )
        seconds = executor.seconds
        sizes = [len(row.image) for row in read_shard(study.shards[-1]) if row.image is not None]
    images *= workers
    found: Row = {"images": images, "seconds": seconds, "images_per_second": images / seconds}
    return {
        "what": "stage",
        "batch": size,
        "streams": streams * workers,
        "shards_at_once": workers,
        **found,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if bench.on_gpu else np.nan,
        "failed": study.now.failed.total(),
        "png_kb": float(np.mean(sizes)) / 1000 if sizes else np.nan,
        **shares(bench, name, found),
    }


def _requests(name: str, images: int) -> list[ImageRequest]:
    """Ask for images, three seeds a prompt."""
    return [
        ImageRequest(f"P{name}-{i // 3}", PROMPT.format(f"{name} {i // 3}"), i % 3) for i in range(images)
    ]


def contiguous(pipeline: Any) -> None:
    """Let the decoder's one attention hand its output on with channels first, as the rest of it wants them."""
    for attention in pipeline.vae.decoder.mid_block.attentions:
        attention.register_forward_hook(lambda module, given, output: output.contiguous())


def by_products(pipeline: Any) -> None:
    """Let the decoder's one attention multiply matrices: with 512 numbers a head, no fast kernel takes it."""
    from diffusers.models.attention_processor import AttnProcessor

    for attention in pipeline.vae.decoder.mid_block.attentions:
        attention.set_processor(AttnProcessor())


def fused(pipeline: Any) -> None:
    """Let the denoiser make queries, keys and values by one product."""
    pipeline.unet.fuse_qkv_projections()


CHANGES: dict[str, Callable[[Any], None]] = {
    "contiguous attention": contiguous,
    "attention by products": by_products,
    "fused projections": fused,
}
"""What the library doesn't do, and might if it pays: change → what makes it in a pipeline."""


def way_rows(
    bench: Bench,
    name: str,
    last: bool = True,
    compiled: str = "",
    how: str = "",
    autotuned: bool = False,
    dtype: str | None = None,
    changes: Sequence[str] = (),
) -> Iterator[Row]:
    """Measure a model made faster.

    Args:
        bench, name: what the parts share, and the model.
        last: whether channels are laid out last.
        compiled: what is compiled: `WHOLE`, `DECODER` or nothing.
        how: key of `COMPILE`.
        autotuned: whether cuDNN searches for each convolution's kernel.
        dtype: another precision.
        changes: keys of `CHANGES`.
    """
    import torch

    named = ["channels last"] * last + [f"{compiled}{how and f' ({how})'}"] * bool(compiled)
    way = ", ".join([*named, *["cuDNN search"] * autotuned, *[dtype or ""] * bool(dtype), *changes])
    settings: Row = {"channels_last": last, "batch_size": best_batch(bench, name)}
    if compiled:
        settings["compile"] = {"backend": "eager"} if bench.tiny else COMPILE[how]
    if dtype and bench.on_gpu:
        bench.generator(name)._read().to(getattr(torch, dtype))
    torch.backends.cudnn.benchmark = autotuned
    try:
        generator = bench.generator(name).with_settings(**settings)
        pipeline: Any = generator.pipeline
        for change in changes:
            CHANGES[change](pipeline)
        if compiled == DECODER:
            pipeline.unet._compiled_call_impl = None
        started = time.perf_counter()
        generator.generate([PROMPT.format(i) for i in range(generator.batch_size)], list(range(generator.batch_size)))  # fmt: skip
        bench.synchronise()
        yield {"way": way, "what": "first batch", "batch": generator.batch_size, "seconds": time.perf_counter() - started}  # fmt: skip
        for row in generator_rows(bench, name, generator, [generator.batch_size]):
            yield {"way": way, **row}
        yield {"way": way, **stage_row(bench, name, generator, streams=2)}
        yield {"way": way, **stage_row(bench, name, generator, streams=1, workers=2)}
        if compiled and pipeline.vae.decoder._compiled_call_impl is None:
            yield {"way": way, "reason": "compiling failed on the way, and it went on without"}
    finally:
        torch.backends.cudnn.benchmark = False


def host_rows(bench: Bench) -> Iterator[Row]:
    """Measure what the processor does with each image that comes from a GPU, on one thread, and on all where it may."""
    from concurrent.futures import ThreadPoolExecutor

    from promptroute.runtime.decoding import open_image

    rows = read_shard(looked_at(bench, 4 if bench.tiny else 64))
    images = [np.asarray(open_image(row)) for row in rows]
    path = bench.new("written") / "part-00000.parquet"
    yield {"what": "looked through", **bench.rate(lambda turn: len([*map(checked, images)]), SECONDS / 6)}
    yield {"what": "PNG, one thread", **bench.rate(lambda turn: len([*map(to_png, images)]), SECONDS / 6)}
    with ThreadPoolExecutor() as pool:
        every = bench.rate(lambda turn: len([*pool.map(to_png, images)]), SECONDS / 6)
    yield {"what": "PNG, all threads", **every}
    yield {
        "what": "shard written",
        **bench.rate(lambda turn: write_shard(path, rows) or len(rows), SECONDS / 6),
    }


def profile_rows(bench: Bench, name: str, sides: int = 12) -> Iterator[Row]:
    """Tell which kernels take the time of a batch, after a batch to warm up."""
    import torch

    generator = bench.generator(name)
    prompts, seeds = (
        [PROMPT.format(i) for i in range(generator.batch_size)],
        list(range(generator.batch_size)),
    )
    generator = generator.model_copy(update={"steps": min(2, generator.steps)})
    generator.generate(prompts, seeds)
    activities = [torch.profiler.ProfilerActivity.CPU, *[torch.profiler.ProfilerActivity.CUDA] * bench.on_gpu]
    with torch.profiler.profile(activities=activities) as found:
        generator.generate(prompts, seeds)
        bench.synchronise()
    kernels = [event for event in found.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA or not bench.on_gpu]  # fmt: skip
    times = {event.key: event.self_device_time_total if bench.on_gpu else event.self_cpu_time_total for event in kernels}  # fmt: skip
    whole = sum(times.values())
    for key in sorted(times, key=lambda key: -times[key])[:sides]:
        yield {"what": "kernel", "way": key[:110], "seconds": times[key] / 1e6, "share": times[key] / whole}


# What judges.


def looked_at(bench: Bench, images: int) -> Path:
    """Write a shard of images of 512 × 512 pixels: smooth, with a little noise, as photographs are."""
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image as Pillow

    side = 64 if bench.tiny else 512

    def one(number: int) -> Image:
        rng = np.random.default_rng(number)
        small = Pillow.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        smooth = np.asarray(small.resize((side, side), Pillow.Resampling.BICUBIC), np.float32) / 255
        png = to_png(np.clip(smooth + rng.normal(0, 0.02, smooth.shape), 0, 1))
        prompt = f"a red fox in deep snow under a winter sky, number {number}"
        return Image(f"P{number:05d}", prompt, "none", 0, "ok", None, side, side, png, 0)

    path = bench.new("images") / "part-00000.parquet"
    with ThreadPoolExecutor() as pool:
        write_shard(path, list(pool.map(one, range(images))))
    return path


def scorer_rows(bench: Bench, scorer: Any, whole: Callable[[Path], object], one: Callable[[Image], object]) -> Iterator[Row]:  # fmt: skip
    """Measure a scorer: an image by itself, as a look does; and a shard, as the stage does, its PNG decoded."""
    import torch

    shard = looked_at(bench, 4 if bench.tiny else 512)
    rows = read_shard(shard)
    one(rows[0])
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter doesn't see into it
    with flop_counter() as counter:
        one(rows[1])
    torch.backends.mha.set_fastpath_enabled(fused)
    gflops = counter.get_total_flops() / 1e9
    turns = itertools.cycle(rows)

    def single(turn: int) -> int:
        one(next(turns))
        return 1

    single(0)
    yield {"what": "a look", "batch": 1, "gflops": gflops, **bench.rate(single, SECONDS / 4)}
    few = looked_at(bench, min(len(rows), scorer.batch_size))
    whole(few)
    yield {"what": "stage", "batch": scorer.batch_size, "gflops": gflops, **bench.rate(lambda turn: len(rows) if whole(shard) is not None else 0, 0.0, 1)}  # fmt: skip


def nima_rows(bench: Bench) -> Iterator[Row]:
    """Measure NIMA's MobileNet."""
    import timm
    from safetensors.torch import save_file

    from promptroute.runtime.decoding import open_image
    from promptroute.scorers.base import ImageBatch
    from promptroute.scorers.nima import Nima
    from promptroute.scorers.run import ImageScoring

    path = bench.new("nima")
    path.mkdir()
    save_file(timm.create_model("mobilenetv1_100", num_classes=10).state_dict(), path / "model.safetensors")
    scorer = Nima(checkpoint=str(path / "model.safetensors"), device=bench.device)
    work = ImageScoring(scorer, "none")
    yield from scorer_rows(
        bench, scorer, work.scored, lambda row: scorer.score(ImageBatch([open_image(row)]))
    )


def clip_rows(bench: Bench) -> Iterator[Row]:
    """Measure the image side of CLIP ViT-g/14, whose embeddings the CLIP score compares; and its network alone."""
    import open_clip
    import torch

    from promptroute.encoders.embed import EmbedImages, ImageShard
    from promptroute.encoders.open_clip import OpenClip
    from promptroute.runtime.decoding import open_image

    class RandomClip(OpenClip):
        """CLIP with random weights."""

        def weights(self) -> dict[str, Any]:
            return {}

        @cached_property
        def _parts(self) -> tuple[Any, Any, Any]:
            precision = {"float32": "fp32", "float16": "fp16"}[self.precision]
            with torch.device(self.device):  # on the CPU its weights take a minute
                net, _, preprocess = open_clip.create_model_and_transforms(
                    self.model, precision=precision, device=self.device, load_weights=False
                )
            return net.eval(), preprocess, None

    encoder = RandomClip(model="ViT-B-32" if bench.tiny else "ViT-g-14", device=bench.device)
    work = EmbedImages(encoder, "none")
    yield from scorer_rows(
        bench,
        encoder,
        lambda shard: work.make(ImageShard.of(shard)),
        lambda row: encoder.encode_images([open_image(row)]),
    )
    pixels = torch.rand(2 if bench.tiny else 128, 3, 224, 224, device=bench.device).to(
        getattr(torch, encoder.precision)
    )

    def alone(turn: int) -> int:
        with torch.inference_mode():
            encoder._parts[0].encode_image(pixels)
        return len(pixels)

    alone(0)
    yield {"what": "network", "batch": len(pixels), **bench.rate(alone, SECONDS / 4)}


def rahf_rows(bench: Bench) -> Iterator[Row]:
    """Measure the feedback network, words and maps included; and its network alone in bfloat16."""
    import torch

    from promptroute.feedback.network import FeedbackNetwork
    from promptroute.feedback.predictor import Predictor
    from promptroute.feedback.scorer import Rahf
    from promptroute.feedback.settings import NetworkSettings
    from promptroute.runtime.decoding import open_image
    from promptroute.scorers.base import PromptedImageBatch
    from promptroute.scorers.run import ImageScoring

    with torch.device(bench.device):
        whole = None if bench.tiny else FeedbackNetwork(NetworkSettings()).eval()

    class RandomPredictor(Predictor):
        """The small network's tokenizer, before a network with random weights."""

        network = Predictor.network if whole is None else property(lambda self: whole)  # type: ignore[assignment]

    class RandomRahf(Rahf):
        """The scorer with that predictor."""

        @cached_property
        def _predictor(self) -> Predictor:
            return RandomPredictor(self.checkpoint, self.device, max_tokens=self.max_tokens, dtype=self.dtype)

    scorer = RandomRahf(checkpoint=str(ROOT / "mini/weights/feedback"), device=bench.device)
    work = ImageScoring(scorer, "none")
    if bench.tiny:
        scorer._predictor.network.to(bench.device)
    yield from scorer_rows(
        bench,
        scorer,
        work.scored,
        lambda row: scorer.score(PromptedImageBatch([open_image(row)], [row.prompt])),
    )
    net = scorer._predictor.network
    n, side = 2 if bench.tiny else 32, net.settings.image_side
    pixels = np.random.default_rng(0).normal(size=(n, 3, side, side)).astype(np.float32)
    ids, lengths = np.full((n, 24), 5), np.full(n, 24)

    def alone(turn: int) -> int:
        with torch.autocast(bench.device.partition(":")[0], torch.bfloat16, enabled=bench.on_gpu):
            net.predict(pixels, ids, lengths)
        return n

    alone(0)
    yield {"way": "bfloat16", "what": "network", "batch": n, **bench.rate(alone, SECONDS / 4)}


# Before all else.


def check_rows(bench: Bench) -> Iterator[Row]:
    """Generate images of the small world by each of its models, and compare them with those of the CPU."""
    from benchmarks.paper_models import models

    prompts, seeds = ["a red circle", "two blue squares"], [0, 1]
    for name, model in models("mini").items():
        images = {}
        for device in ("cpu", bench.device):
            generator = build_generator({**model["generator"], "dtype": "float32"}, name, device)
            assert isinstance(generator, LocalGenerator)
            generator.load()
            started = time.perf_counter()
            with one_thread():  # also where the other device is
                given = [checked(image) for image in generator.generate(prompts, seeds)]
            seconds = time.perf_counter() - started
            images[device] = [
                image / 255 if image.dtype == np.uint8 else image
                for image in given
                if isinstance(image, np.ndarray)
            ]
        failed = 2 - len(images[bench.device])
        apart = np.nan
        if not failed:
            apart = float(np.abs(np.subtract(images["cpu"], images[bench.device])).mean())
        yield {"model": name, "what": "check", "batch": 2, "images": 2, "seconds": seconds, "failed": failed, "difference": apart}  # fmt: skip


def card_rows(bench: Bench) -> Iterator[Row]:
    """Measure what the card can do at all: a large product of matrices in bfloat16."""
    import torch

    n = 256 if bench.tiny else 8192
    left, right = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    bench.synchronise()
    started = time.perf_counter()
    for _ in range(20):
        left @ right
    bench.synchronise()
    tflops = 20 * 2 * n**3 / (time.perf_counter() - started) / 1e12
    yield {"what": f"product of {n} × {n}", "tflops": tflops, "share_of_peak": tflops / PEAK}


class Part(NamedTuple):
    """A part: its name, the model or scorer, how long it takes on an H100 (seconds, estimated), and what gives its rows."""

    name: str
    model: str
    estimate: float
    rows: Callable[[Bench], Iterator[Row]]


def parts() -> list[Part]:
    """List the parts, the most important first."""

    def plain(name: str, estimate: float) -> Part:
        return Part("model", name, estimate, lambda bench: model_rows(bench, name))

    def way(kind: str, name: str, estimate: float, **settings: Any) -> Part:
        return Part(kind, name, estimate, lambda bench: way_rows(bench, name, **settings))

    def profiled(name: str) -> Part:
        return Part("profile", name, 5, lambda bench: profile_rows(bench, name))

    return [
        Part("check", "mini", 15, check_rows),
        Part("card", "card", 3, card_rows),
        Part("host", "host", 5, host_rows),
        plain("sd-turbo", 40),
        way("decoder", "sd-turbo", 45, compiled=DECODER),
        way("contiguous", "sd-turbo", 25, last=False, changes=["contiguous attention"]),
        way("products", "sd-turbo", 25, changes=["attention by products"]),
        plain("taesd-sd21", 60),
        way("compiled", "taesd-sd21", 60, compiled=WHOLE),
        way("fused", "taesd-sd21", 65, compiled=WHOLE, changes=["fused projections"]),
        way("compiled", "sd-turbo", 85, compiled=WHOLE),
        Part("scorer", "clip_g", 20, clip_rows),
        Part("scorer", "nima", 10, nima_rows),
        plain("sdxl-turbo", 50),
        plain("amused", 30),
        Part("scorer", "rahf", 30, rahf_rows),
        way("cudnn", "sd-turbo", 30, autotuned=True),
        way("graphs", "sd-turbo", 60, compiled=DECODER, how="graphs"),
        way("bfloat16", "sdxl-turbo", 25, dtype="bfloat16"),
        way("compiled", "sdxl-turbo", 150, compiled=WHOLE),
        way("searched", "taesd-sd21", 300, compiled=WHOLE, how="searched"),
        way("searched", "sd-turbo", 300, compiled=DECODER, how="searched"),
        profiled("taesd-sd21"),
        profiled("sd-turbo"),
    ]


def measure(bench: Bench, seconds: float, results: Path, wanted: Sequence[str] = ()) -> pd.DataFrame:
    """Measure part by part, and write every row at once.

    Args:
        bench: what the parts share.
        seconds: time limit; a part whose estimate doesn't fit in what is left is left out.
        results: the CSV file.
        wanted: parts in order, as PART:MODEL, PART or MODEL; none: all.
    """
    import torch

    began = time.perf_counter()
    place = {
        "device": torch.cuda.get_device_name() if bench.on_gpu else processor(torch.get_num_threads()),
        "torch": torch.__version__,
    }
    rows: list[Row] = []

    def keep(part: Part, row: Row) -> None:
        rows.append({"part": part.name, "model": part.model, "way": "plain", **row, **place})
        shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in rows[-1].items() if key not in place}  # fmt: skip
        print(f"[{time.perf_counter() - began:6.1f} s]", *(f"{k}={v}" for k, v in shown.items()), flush=True)
        write_csv(results, pd.DataFrame(rows))

    listed = {f"{part.name}:{part.model}": part for part in parts()}
    chosen = [
        part
        for one in wanted or listed
        for key, part in listed.items()
        if one in (key, part.name, part.model)
    ]
    for part in dict.fromkeys(chosen):
        left = seconds - (time.perf_counter() - began)
        if left < part.estimate and not bench.tiny:
            keep(part, {"reason": f"left out: {left:.0f} s left, about {part.estimate:.0f} s needed"})
            continue
        try:
            with nullcontext() if bench.on_gpu else one_thread():
                for row in part.rows(bench):
                    keep(part, row)
        except Exception as error:
            keep(part, {"reason": reason(error)})
        bench.forget()
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """Format generation and scorers in Markdown; what each column holds is said where the tables stand."""
    first = rows.iloc[0]
    head = "model | plain call, saved | plain call | `generate` | batch | stage, one stream | two streams | two shards at once | best × plain, saved | TFLOP/s | of the peak | memory, GB"
    lines = []
    generated = rows[rows["what"].isin(["generate", "stage"]) & ~rows["part"].eq("scorer")]
    for (model, way), own in generated.groupby(["model", "way"], sort=False):
        plain = rows[rows["model"] == model].set_index("what")["images_per_second"]
        best = own.loc[own[own["what"] == "generate"]["images_per_second"].idxmax()]
        stage = own[(own["what"] == "stage") & (own["batch"] > 1)]
        by = {(row.streams, row.shards_at_once): row.images_per_second for row in stage.itertuples()}
        rates = [by.get(key) for key in ((1, 1), (2, 1), (2, 2))]
        top = max(rate for rate in [best["images_per_second"], *rates] if rate is not None)
        lines.append(
            [
                f"{model}, {way}",
                f"{plain['plain call, saved']:.2f}",
                f"{plain['plain call']:.2f}",
                f"{best['images_per_second']:.1f}",
                f"{best['batch']:.0f}",
                *("–" if rate is None else f"{rate:.1f}" for rate in rates),
                f"{top / plain['plain call, saved']:.1f}",
                f"{best['tflops']:.0f}",
                f"{best['share_of_peak']:.0%}",
                f"{own['memory_gb'].max():.0f}",
            ]
        )
    scored = rows[rows["part"] == "scorer"]
    other = []
    for model, own in scored.groupby("model", sort=False):
        last = own.groupby("what").last()
        network = last["images_per_second"].get("network")
        other.append(
            [
                str(model),
                f"{1000 / last['images_per_second']['a look']:.0f}",
                f"{last['images_per_second']['stage']:.0f}",
                "–" if network is None else f"{network:.0f}",
            ]
        )
    host = [
        (str(row.what), f"{row.images_per_second:.0f}") for row in rows[rows["part"] == "host"].itertuples()
    ]
    unmeasured = "; ".join(f"{part} {model}" for part, model in rows.loc[rows["reason"].notna(), ["part", "model"]].itertuples(index=False))  # fmt: skip
    return "\n\n".join(
        [
            f"Images a second on one {first['device']}, torch {first['torch']}, random weights.",
            markdown(head, lines),
            markdown("scorer | a look, ms | stage, images/s | network alone, images/s", other),
            *[markdown("by the processor | images/s", host)] * bool(host),
            f"Unmeasured, for want of time on the card: {unmeasured or 'nothing'}.",
        ]
    )
