"""Any text-to-image pipeline of the diffusers library."""

import difflib
import inspect
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.generators.base import NOT_FINITE, WITHHELD, Generated, LocalGenerator
from promptroute.generators.diffusers.pool import Pipeline, PipelinePool
from promptroute.generators.diffusers.scheduling import SAMPLED_AT_ONCE, step_per_image
from promptroute.generators.diffusers.settings import Lora, Part, Scheduler
from promptroute.generators.diffusers.speed import DECODERS, or_uncompiled, speed_up
from promptroute.generators.diffusers.text_cache import TextCache
from promptroute.io.files import read_json
from promptroute.io.weights import weights_id
from promptroute.runtime.batching import Failure
from promptroute.runtime.device import pick_dtype
from promptroute.runtime.hub import load_error

if TYPE_CHECKING:
    import torch

_LOADING = Lock()
INDEX = "model_index.json"
"""The file in which a model lists its parts."""
_OWN = {
    "prompt": "the study's prompts",
    "generator": "the study's seeds",
    "output_type": "the generator",
    "num_images_per_prompt": "the study's seeds",
    "num_inference_steps": "steps",
    "timesteps": "steps",
    "sigmas": "steps",
    "guidance_scale": "guidance",
    "width": "width",
    "height": "height",
}
"""Arguments of a pipeline's call → what sets them, so that `call` may not."""


class DiffusersModel(LocalGenerator):
    """A folder in the hub's layout, or a hub id, run by diffusers' own pipeline.

    An image is what the pipeline itself gives for its prompt and seed, bit for bit where `batch_size` is 1 (on a GPU
    aMUSEd's tokens are sampled in another way, by `sample_tokens`). Only safetensors are read, and no code that comes
    with a model is run.

    Args:
        model: path of a folder that `save_pretrained` wrote, or a hub id.
        revision: for a hub id, its commit, 40 hexadecimal digits.
        variant: the hub's file variant, as fp16; read of the parts that have it.
        steps: denoising steps.
        guidance: scale of classifier-free guidance; 0 or 1 is none, as the pipeline has it.
        width, height: pixels, both or neither; None is the model's own size.
        components: pipeline part → what takes its place, as {vae: {class: AutoencoderTiny, model: …}}.
        scheduler: `class` and settings of its own, put over the model's; None keeps the model's.
        lora: `model`, `weight_name`, and optionally `revision` and `scale`.
        call: further arguments of the pipeline's call, as {negative_prompt: blurry}.
        batch_size: images per batch. On the CPU it decides the last bits of an image (see `UniformBatches`);
            1 gives what an ordinary call of the pipeline gives.
        streams: batches that a GPU computes at once; see `LocalGenerator`.
        dtype: auto (float16 on a GPU, float32 on the CPU), or float32, float16, bfloat16.
        float32: parts that stay in float32, whatever the dtype of the rest, as [vqvae].
        template: the text that is given to the model, with {prompt} in it, as a LoRA's trigger word before it.
        extra_keys: refuse weights with tensors that the network has no place for, or ignore these.
        channels_last: lay networks out with the channels last, which a GPU's convolutions prefer.
        compile: arguments of torch.compile for the denoiser and the decoder, as {mode: max-autotune}; where
            compiling fails, they run as they are. None compiles nothing.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    steps: int = Field(25, ge=1)
    guidance: float = Field(7.5, ge=0)
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)
    components: dict[str, Part] = Field({})
    scheduler: Scheduler | None = None
    lora: Lora | None = None
    call: Plain = Field({})
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    float32: list[str] = Field([])
    template: str = "{prompt}"
    extra_keys: Literal["refuse", "ignore"] = "refuse"
    channels_last: bool = False
    compile: Plain | None = None

    libraries = ("diffusers", "transformers", "torch", "pillow")
    incidental = LocalGenerator.incidental | {"model", "revision", "components", "lora", "dtype"}

    @field_validator("template")
    @classmethod
    def _holds_the_prompt(cls, template: str) -> str:
        if "{prompt}" not in template:
            raise ValueError("it lacks {prompt}; write {prompt} where the prompt goes")
        return template

    @field_validator("call")
    @classmethod
    def _sets_nothing_twice(cls, call: Plain) -> Plain:
        if taken := sorted(set(call) & set(_OWN)):
            raise ValueError(f"{taken[0]} is set by {_OWN[taken[0]]}; leave it out of call")
        return call

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError(
                f"width is {self.width} and height is {self.height}; give both, or neither for the model's own size"
            )
        try:
            _ = self.precision
        except UserError as error:
            raise ValueError(str(error).removeprefix(f"{self.model}: ")) from error
        return self

    @cached_property
    def precision(self) -> str:
        """Return the torch dtype's name that `dtype` means on the device."""
        return pick_dtype(self.dtype, self.device, self.model)

    @property
    def one_size(self) -> bool:
        """Tell whether networks are compiled, each size of a batch for itself."""
        return self.compile is not None

    def weights(self) -> Section:
        """Give the checksums of folders, and hub ids with their commits; of the LoRA and of swapped parts, too.

        Raises:
            UserError: as `weights_id`.
        """
        return self._weights

    @cached_property
    def _weights(self) -> Section:
        def named(part: Part | Lora) -> Plain:
            facts = part.model_dump(exclude={"model", "revision"})
            return {**facts, **weights_id(part.model, part.revision)}

        lora = {} if self.lora is None else {**named(self.lora), "peft": installed_version("peft")}
        return {
            **weights_id(self.model, self.revision),
            "components": {name: named(part) for name, part in self.components.items()},
            "lora": lora,
        }

    def fingerprint(self) -> Plain:
        """Give all that decides an image but its prompt and seed; the precision is that of the device."""
        found = {**super().fingerprint(), "precision": self.precision}
        if self.on_cpu or self.scheduler_kind != SAMPLED_AT_ONCE:
            return found
        return {**found, "tokens": "sampled for a batch at once"}

    @cached_property
    def scheduler_kind(self) -> str:
        """Return the class of the scheduler by name: that of the settings, or the model's own, which isn't loaded.

        Raises:
            UserError: the model has no list of its parts, or the hub can't be reached.
        """
        if self.scheduler is not None:
            return self.scheduler.kind
        try:
            if (Path(self.model) / INDEX).is_file():
                file = Path(self.model) / INDEX
            else:
                from huggingface_hub import hf_hub_download

                file = Path(hf_hub_download(self.model, INDEX, revision=self.revision))
            return str((read_json(file).get("scheduler") or [""])[-1])
        except Exception as error:  # the hub's client raises what its parts raise
            raise self._load_error("", self.model, error) from error

    @cached_property
    def pipeline(self) -> Pipeline:
        """Return the diffusers pipeline, loaded, on its device.

        Raises:
            UserError: it can't be loaded, or a setting doesn't suit it.
        """
        try:
            pipeline = self._prepare(self._read())
        except UserError:
            raise
        except Exception as error:  # diffusers raises what its parts raise
            raise self._load_error("", self.model, error) from error
        self._check_call(pipeline)
        self._check_size(pipeline)
        return pipeline

    @cached_property
    def pool(self) -> PipelinePool:
        """Return the pipelines that threads generate with, each its own."""

        def prepare(pipeline: Pipeline) -> None:
            pipeline.set_progress_bar_config(disable=True)
            speed_up(pipeline, self.channels_last, self.compile, DECODERS)  # copies of these aren't compiled

        return PipelinePool(self.pipeline, self.device, prepare)

    def load(self) -> None:
        """Load the pipeline.

        Raises:
            UserError: it can't be loaded, or a setting doesn't suit it.
        """
        with _LOADING:
            _ = self.pool

    def check(self) -> tuple[int, int] | None:
        """Load the pipeline, and return width and height of its images; see `Generator.check`."""
        pipeline = self.pipeline
        if self.width is not None and self.height is not None:
            return self.width, self.height
        network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        side = getattr(getattr(network, "config", None), "sample_size", None)
        scale = getattr(pipeline, "vae_scale_factor", None)
        return (side * scale, side * scale) if isinstance(side, int) and isinstance(scale, int) else None

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        """Generate one batch of images [height, width, 3], float32, or uint8 from a GPU; see `Generator.generate`.

        The same as `pipeline(prompt, generator=torch.Generator("cpu").manual_seed(seed), …)` for each; the
        text encoders run once for each different text.

        Raises:
            UserError: the model can't be loaded.
        """
        import torch

        call: Plain = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            **self.call,
        }
        if self.width is not None:
            call |= {"width": self.width, "height": self.height}
        for name, value in call.items():  # a pipeline takes a list of prompts with a list of negative ones
            if name.startswith("negative_prompt") and isinstance(value, str):
                call[name] = [value] * len(prompts)
        texts = [self.template.replace("{prompt}", prompt) for prompt in prompts]

        self.load()
        with self.pool.acquire() as pipeline:
            # A GPU orders and rounds the colours itself; pipelines without the usual processor can't.
            kind = "np" if self.on_cpu or not hasattr(pipeline, "image_processor") else "pt"

            def run() -> Any:
                generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
                return pipeline(prompt=texts, generator=generators, output_type=kind, **call)

            output = run() if self.compile is None else or_uncompiled(pipeline, run)
            images = rounded_there(output.images) if kind == "pt" else np.asarray(output.images, np.float32)
        withheld = getattr(output, "nsfw_content_detected", None) or [False] * len(images)
        return [Failure(WITHHELD) if flag else image for image, flag in zip(images, withheld, strict=True)]

    def truncated(self, prompts: Sequence[str]) -> list[int | None]:
        """Count the tokens of each prompt that none of the text encoders takes in; see `Generator.truncated`."""
        texts = [self.template.replace("{prompt}", prompt) for prompt in prompts]
        cut = []
        with self.pool.acquire() as pipeline:
            longest = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
            for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
                if (tokenizer := getattr(pipeline, name, None)) is not None:
                    limit = tokenizer.model_max_length
                    if longest is not None and "CLIP" not in type(tokenizer).__name__:
                        limit = self.call.get("max_sequence_length", longest.default)
                    tokens = tokenizer(texts, truncation=False)["input_ids"]
                    cut.append([max(len(row) - limit, 0) for row in tokens])
        return [min(counts) for counts in zip(*cut, strict=True)] if cut else [None] * len(prompts)

    def dtype_of(self, part: str) -> "torch.dtype":
        """Return the torch dtype of a part of the pipeline."""
        import torch

        return torch.float32 if part in self.float32 else getattr(torch, self.precision)

    def _read(self) -> Pipeline:
        """Return the pipeline with its own scheduler, on the CPU."""
        import diffusers
        import transformers

        # Progress bars of loading, and a line for every prompt that is cut off.
        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()
            library.utils.logging.set_verbosity_error()
        _ = self._weights  # refuses weights that are unsafe, or that may change under their name
        pipelines: Any = diffusers.DiffusionPipeline  # untyped
        local = Path(self.model).is_dir()
        index = pipelines.load_config(self.model, **({} if local else {"revision": self.revision}))
        _check_known(
            "components", self.components, [name for name in index if not name.startswith("_")], self.model
        )
        networks = {
            name: self._network(
                name,
                _named(part.kind, f"components.{name}"),
                part.model,
                part.model_dump(include={"revision", "subfolder"}, exclude_none=True),
            )
            for name, part in self.components.items()
        }
        folder = self.model
        if not local:
            folder = pipelines.download(
                self.model, revision=self.revision, variant=self.variant, use_safetensors=True, **networks
            )
        networks |= {
            name: self._network(name, kind, str(folder), {"subfolder": name, **self._variant(folder, name)})
            for name, kind in _kinds(index).items()
            if name not in networks
        }
        _check_known("float32", self.float32, list(networks), self.model)
        return pipelines.from_pretrained(
            folder, dtype=self.dtype_of(""), variant=self.variant, use_safetensors=True, **networks
        )

    def _prepare(self, pipeline: Pipeline) -> Pipeline:
        """Give a pipeline that was read the scheduler, the LoRA and the device of the settings."""
        if self.scheduler is not None:
            kind = _named(self.scheduler.kind, "scheduler")
            taken = list(inspect.signature(kind.__init__).parameters)[1:]
            _check_known("scheduler", self.scheduler.settings, taken, f"{self.model} ({self.scheduler.kind})")
            pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **self.scheduler.settings)
        if self.lora is not None:
            self._add_lora(pipeline, self.lora)
        pipeline = pipeline.to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            if (encoder := getattr(pipeline, name, None)) is not None:
                encoder.forward = TextCache(encoder.forward, alone=self.on_cpu)
        step_per_image(pipeline.scheduler)
        speed_up(pipeline, self.channels_last, self.compile)
        return pipeline

    def _check_call(self, pipeline: Pipeline) -> None:
        """Refuse an argument that the pipeline's call doesn't take."""
        taken = inspect.signature(type(pipeline).__call__).parameters
        known = [
            name
            for name, parameter in taken.items()
            if parameter.kind is not parameter.VAR_KEYWORD and name not in _OWN and name != "self"
        ]
        _check_known("call", self.call, known, f"{self.model} ({type(pipeline).__name__})")
        for name, why in self._without_effect(pipeline).items():
            if self.call.get(name) not in (None, "", 0):
                raise UserError(f"{self.model}: call.{name} has no effect, for {why}; leave it out")

    def _without_effect(self, pipeline: Pipeline) -> dict[str, str]:
        """Return arguments of the call that this pipeline would take and ignore, and why."""
        found = {}
        distilled = getattr(
            getattr(getattr(pipeline, "unet", None), "config", None), "time_cond_proj_dim", None
        )
        if (self.guidance <= 1 or distilled is not None) and self.call.get("true_cfg_scale", 1) <= 1:
            why = (
                f"guidance is {self.guidance:g}, expected above 1"
                if self.guidance <= 1
                else "the model was distilled"
            )
            found = dict.fromkeys(
                (*(f"negative_prompt{n}" for n in ("", "_2", "_3")), "guidance_rescale"), why
            )
        if "eta" not in inspect.signature(pipeline.scheduler.step).parameters:
            found["eta"] = f"{type(pipeline.scheduler).__name__} takes none"
        return found

    def _check_size(self, pipeline: Pipeline) -> None:
        """Refuse a size that the networks can't give."""
        factor = _factor(pipeline)
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None and side % factor:
                near = max(factor, round(side / factor) * factor)
                raise UserError(
                    f"{self.model}: {name} is {side}; expected a multiple of {factor} pixels, as {near}"
                )

    def _network(self, name: str, kind: Any, place: str, where: Mapping[str, str]) -> "torch.nn.Module":
        """Return a network of the pipeline, every tensor of it from the file: else the rest would be random.

        Raises:
            UserError: it can't be loaded, or tensors are missing, or (unless these are ignored) too many.
        """
        try:
            network, loading = kind.from_pretrained(
                place, dtype=self.dtype_of(name), use_safetensors=True, output_loading_info=True, **where
            )
        except Exception as error:
            raise self._load_error(name, place if name in self.components else self.model, error) from error
        missing, extra = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
        if missing or (extra and self.extra_keys == "refuse"):
            said = [f"lack {missing[0]} ({len(missing)} in all)"] if missing else []
            said += [f"have {extra[0]} ({len(extra)} in all) too much"] if extra else []
            raise UserError(
                f"{name} of the model {self.model}: its weights {' and '.join(said)} for a {kind.__name__}; "
                + (
                    "fetch them again, or give the configuration that they were trained with"
                    if missing
                    else "give its own weights, or set extra_keys to ignore"
                )
            )
        return network

    def _variant(self, folder: str | Path, name: str) -> dict[str, str]:
        """Return the variant, where this part has it; a repository need not have it of every part."""
        found = self.variant and any((Path(folder) / name).glob(f"*.{self.variant}*safetensors*"))
        return {"variant": str(self.variant)} if found else {}

    def _add_lora(self, pipeline: Pipeline, lora: Lora) -> None:
        try:
            pipeline.load_lora_weights(
                lora.model,
                weight_name=lora.weight_name,
                revision=lora.revision,
                use_safetensors=True,
                adapter_name="lora",
            )
            pipeline.set_adapters(["lora"], [lora.scale])
        except Exception as error:
            raise self._load_error("lora", lora.model, error) from error

    def _load_error(self, part: str, place: str, error: Exception) -> UserError:
        what = f"{part} of the model {self.model}" if part else f"the model {self.model}"
        return load_error(
            what if place == self.model else f"{what} ({place})",
            self.device,
            place,
            error,
            "give the path of a folder in the hub's layout with safetensors, or a hub id",
        )


def rounded_there(images: "torch.Tensor") -> list[Generated]:
    """Round images where they are, as `to_png` does, so that a batch leaves a GPU in one copy, of half the bytes.

    Args:
        images: [n, 3, height, width], RGB in 0..1.

    Returns:
        uint8 [height, width, 3] each; a failure where a value is not finite.
    """
    import torch

    finite = images.isfinite().flatten(1).all(dim=1)
    rounded = images.permute(0, 2, 3, 1).float().mul(255).round().to(torch.uint8).contiguous().cpu().numpy()
    return [
        image if is_finite else Failure(NOT_FINITE)
        for image, is_finite in zip(rounded, finite.tolist(), strict=True)
    ]


def _check_known(setting: str, names: Collection[str], known: Sequence[str], what: str) -> None:
    """Refuse a name that a model lacks.

    Raises:
        UserError: with the nearest name that it has.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise UserError(
                f"{what}: {setting} names {name}, which it lacks; "
                + (f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}")
            )


def _factor(pipeline: object) -> int:
    """Return what the sides of an image must be a multiple of, in pixels."""
    scale = getattr(pipeline, "vae_scale_factor", 1)
    patch = getattr(getattr(getattr(pipeline, "transformer", None), "config", None), "patch_size", None)
    processor = getattr(getattr(pipeline, "image_processor", None), "config", None)
    packed = getattr(processor, "vae_scale_factor", 1)  # latents are packed in some: more than the decoder's
    return max(scale * (patch if isinstance(patch, int) else 1), packed if isinstance(packed, int) else 1)


def _named(kind: str, where: str) -> Any:
    """Return the class of diffusers that a part names."""
    import diffusers

    found = getattr(diffusers, kind, None)
    if not isinstance(found, type):
        raise UserError(
            f"{where}: class {kind!r} is not one of diffusers {diffusers.__version__}; name one of its classes"
        )
    return found


def _kinds(index: Section) -> dict[str, "type[torch.nn.Module]"]:
    """Return the networks that a pipeline's model_index.json lists: name → class. Other parts load themselves."""
    import diffusers
    import torch
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    kinds = {
        name: getattr(libraries.get(part[0]), str(part[1]), None)
        for name, part in index.items()
        if isinstance(part, list | tuple) and len(part) == 2
    }
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module)
    }
