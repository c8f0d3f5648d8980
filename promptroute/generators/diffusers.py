"""Any text-to-image pipeline of the diffusers library."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from promptroute.core.errors import UserError
from promptroute.generators.pool import PipelinePool
from promptroute.generators.scheduling import step_per_image
from promptroute.generators.speed import DECODERS, or_uncompiled, speed_up
from promptroute.generators.text_cache import TextCache
from promptroute.io.weights import weights_id
from promptroute.runtime.device import pick_dtype
from promptroute.runtime.hub import load_error

_LIBRARIES = ("diffusers", "transformers", "torch", "pillow")


class DiffusersModel:
    """A folder in the hub's layout, or a hub id, drawn with by diffusers' own pipeline.

    Only safetensors are read, and no code that comes with a model is run.

    Args:
        model: hub id, or path of a folder that `save_pretrained` wrote.
        revision: the hub's commit, 40 hexadecimal digits.
        variant: the hub's file variant, as `fp16`.
        steps: denoising steps.
        guidance: scale of classifier-free guidance; 0 or 1 is none, as the pipeline has it.
        width, height: pixels; the model's own where None.
        components: pipeline part → what takes its place: `class` (a name in diffusers), `model`, and
            optionally `revision` and `subfolder`. As {vae: {class: AutoencoderTiny, model: …}}.
        scheduler: `class` (a name in diffusers) and settings of its own, put over the model's; None keeps
            the model's.
        lora: `model`, `weight_name` (a .safetensors file), and optionally `revision` and `scale`.
        call: further arguments of the pipeline's call, as `negative_prompt`.
        batch_size: images per batch. On the CPU it decides the last bits of an image (see `UniformBatches`);
            1 is what an ordinary call of the pipeline draws.
        streams: batches that a GPU draws side by side, so that one is decoded and fetched while another is
            drawn; 1 takes less of its memory. `draw` itself may be called by any number of threads.
        dtype: `auto` (float16 on a GPU, float32 on the CPU), or float32, float16, bfloat16.
        float32: parts that stay in float32, whatever the dtype of the rest, as [vqvae].
        template: what is drawn of a prompt: text with `{prompt}` in it, as a LoRA's trigger word before it.
        extra_keys: `refuse` weights with tensors that the network has no place for, or `ignore` these.
        channels_last: lay networks out with the channels last, which a GPU's convolutions prefer.
        compile: arguments of torch.compile for the denoiser and the decoder, as {mode: max-autotune}; where
            compiling fails, they run as they are. None compiles nothing.
        device: torch device.
    """

    def __init__(
        self,
        model: str,
        steps: int,
        guidance: float,
        revision: str | None = None,
        variant: str | None = None,
        width: int | None = None,
        height: int | None = None,
        components: Mapping[str, Mapping[str, str]] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        lora: Mapping[str, Any] | None = None,
        call: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        streams: int = 2,
        dtype: str = "auto",
        float32: Sequence[str] = (),
        template: str = "{prompt}",
        extra_keys: Literal["refuse", "ignore"] = "refuse",
        channels_last: bool = False,
        compile: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self.model, self.revision, self.variant = model, revision, variant
        self.steps, self.guidance, self.width, self.height = steps, guidance, width, height
        self.components = {name: dict(part) for name, part in (components or {}).items()}
        self.scheduler, self.lora, self.call = dict(scheduler or {}), dict(lora or {}), dict(call or {})
        self.device, self.batch_size, self.streams = device, batch_size, streams
        self._loading = Lock()
        self.dtype = pick_dtype(dtype, device, model)
        self.float32 = sorted(float32)
        self.template, self.extra_keys, self.channels_last = template, extra_keys, channels_last
        self.compile = None if compile is None else dict(compile)
        if "{prompt}" not in template:
            raise UserError(
                f"{model}: template is {template!r}, which lacks {{prompt}}; write {{prompt}} where the prompt goes"
            )
        if isinstance(streams, bool) or not isinstance(streams, int) or streams < 1:
            raise UserError(f"{model}: streams is {streams!r}; give a whole number, 1 or more")
        if extra_keys not in ("refuse", "ignore"):
            raise UserError(f"{model}: extra_keys is {extra_keys!r}; give refuse or ignore")
        for name, part in (*self.components.items(), *([("lora", self.lora)] if self.lora else [])):
            if "model" not in part:
                raise UserError(f"{model}: its part {name} has no model; give a folder or a hub id")
        if self.lora and not str(self.lora.get("weight_name", "")).endswith(".safetensors"):
            raise UserError(
                f"{model}: lora.weight_name must name a .safetensors file; other formats can run code"
            )

    @cached_property
    def fingerprint_parts(self) -> Mapping[str, Any]:
        """All that decides an image but its prompt and seed. Reads the weights of a folder, to check-sum them.

        Raises:
            UserError: as `weights_id`.
        """
        import torch

        on_cpu = self.device.startswith("cpu")
        swapped = {
            name: {**part, **weights_id(part["model"], part.get("revision"))}
            for name, part in self.components.items()
        }
        lora = {**self.lora, **weights_id(self.lora["model"], self.lora.get("revision"))} if self.lora else {}
        for part in (*swapped.values(), lora):
            part.pop("model", None)
        set_apart = {  # named only where they are set
            "float32": self.float32 if self.float32 and self.dtype != "float32" else None,
            "template": self.template if self.template != "{prompt}" else None,
            "channels_last": self.channels_last or None,
            "compile": self.compile,
        }
        return {
            "weights": weights_id(self.model, self.revision),
            "variant": self.variant,
            "steps": self.steps,
            "guidance": self.guidance,
            "size": [self.width, self.height],
            "components": swapped,
            "scheduler": self.scheduler,
            "lora": lora,
            "call": self.call,
            "dtype": self.dtype,
            "device": torch.backends.cpu.get_cpu_capability()
            if on_cpu
            else torch.cuda.get_device_name(self.device),
            "batch_size": self.batch_size if on_cpu else None,
            "libraries": {name: version(name) for name in (*_LIBRARIES, *(["peft"] if self.lora else []))},
            **{name: value for name, value in set_apart.items() if value is not None},
        }

    @cached_property
    def pipeline(self) -> Any:
        """The diffusers pipeline, loaded, on its device.

        Raises:
            UserError: it can't be loaded; says why, and what to do.
        """
        try:
            return self._prepare(self._read())
        except UserError:
            raise
        except Exception as error:  # diffusers raises what its parts raise
            raise self._load_error("", self.model, error) from error

    @cached_property
    def _lanes(self) -> PipelinePool:
        def prepare(pipeline: Any) -> None:
            pipeline.set_progress_bar_config(disable=True)
            speed_up(pipeline, self.channels_last, self.compile, DECODERS)  # copies of these aren't compiled

        return PipelinePool(self.pipeline, self.device, prepare)

    def _load_error(self, part: str, place: str, error: Exception) -> UserError:
        what = f"{part} of the model {self.model}" if part else f"the model {self.model}"
        return load_error(
            what if place == self.model else f"{what} ({place})",
            self.device,
            place,
            error,
            "give the path of a folder in the hub's layout with safetensors, or a hub id",
        )

    def _read(self) -> Any:
        """The pipeline with its own scheduler, on the CPU."""
        import diffusers
        import transformers

        # Progress bars of loading, and a line for every prompt that is cut off.
        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()
            library.utils.logging.set_verbosity_error()
        _ = self.fingerprint_parts  # refuses weights that are unsafe, or that may change under their name
        networks = {
            name: self._network(
                name,
                _named(part, f"components.{name}"),
                part["model"],
                {key: part[key] for key in ("revision", "subfolder") if part.get(key)},
            )
            for name, part in self.components.items()
        }
        pipelines: Any = diffusers.DiffusionPipeline  # untyped
        folder = self.model
        if not Path(folder).is_dir():
            folder = pipelines.download(
                self.model,
                revision=self.revision,
                variant=self.variant,
                use_safetensors=True,
                **networks,
            )
        networks |= {
            name: self._network(name, kind, str(folder), {"subfolder": name, **self._variant(folder, name)})
            for name, kind in _kinds(pipelines.load_config(folder)).items()
            if name not in networks
        }
        if absent := sorted(set(self.float32) - set(networks)):
            raise UserError(
                f"{self.model}: float32 names {absent[0]}, which it lacks; its networks are {', '.join(networks)}"
            )
        pipeline = pipelines.from_pretrained(
            folder, dtype=self.dtype_of(""), variant=self.variant, use_safetensors=True, **networks
        )
        return pipeline

    def _prepare(self, pipeline: Any) -> Any:
        """A pipeline as it was read → with the scheduler, the LoRA and the device that the settings ask for."""
        if self.scheduler:
            settings = {name: value for name, value in self.scheduler.items() if name != "class"}
            pipeline.scheduler = _named(self.scheduler, "scheduler").from_config(
                pipeline.scheduler.config, **settings
            )
        if self.lora:
            self._add_lora(pipeline)
        pipeline = pipeline.to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            if (encoder := getattr(pipeline, name, None)) is not None:
                encoder.forward = TextCache(encoder.forward, alone=self.device.startswith("cpu"))
        step_per_image(pipeline.scheduler)
        speed_up(pipeline, self.channels_last, self.compile)
        return pipeline

    def dtype_of(self, part: str) -> Any:
        """The torch dtype of a part of the pipeline."""
        import torch

        return torch.float32 if part in self.float32 else getattr(torch, self.dtype)

    def _network(self, name: str, kind: Any, place: str, where: Mapping[str, str]) -> Any:
        """One network of the pipeline, every tensor of it from the file: else the rest would be random.

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
        """The variant, where this part has it; a repository need not have it of every part."""
        found = self.variant and any((Path(folder) / name).glob(f"*.{self.variant}*safetensors*"))
        return {"variant": str(self.variant)} if found else {}

    def _add_lora(self, pipeline: Any) -> None:
        place = self.lora["model"]
        try:
            pipeline.load_lora_weights(
                place,
                weight_name=self.lora["weight_name"],
                revision=self.lora.get("revision"),
                use_safetensors=True,
                adapter_name="lora",
            )
            pipeline.set_adapters(["lora"], [float(self.lora.get("scale", 1.0))])
        except Exception as error:
            raise self._load_error("lora", place, error) from error

    def load(self) -> None:
        """Load the pipeline, which the first `draw` does otherwise.

        Raises:
            UserError: it can't be loaded.
        """
        with self._loading:
            _ = self._lanes

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """One batch: n prompts and n seeds → float32 [n, height, width, 3], RGB in 0..1.

        The same as `pipeline(prompt, generator=torch.Generator("cpu").manual_seed(seed), …)` for each; the
        text encoders run once for each different text. Several threads may call it at once.

        Raises:
            UserError: the model can't be loaded.
        """
        import torch

        call: dict[str, Any] = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            **self.call,
        }
        if self.width:
            call["width"] = self.width
        if self.height:
            call["height"] = self.height
        for name, value in call.items():  # a pipeline takes a list of prompts with a list of negative ones
            if name.startswith("negative_prompt") and isinstance(value, str):
                call[name] = [value] * len(prompts)
        texts = [self.template.replace("{prompt}", prompt) for prompt in prompts]

        self.load()
        with self._lanes.lend() as pipeline:

            def drawn() -> Any:
                generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
                return pipeline(prompt=texts, generator=generators, output_type="np", **call)

            found = drawn() if self.compile is None else or_uncompiled(pipeline, drawn)
        pictures = np.asarray(found.images, np.float32)
        withheld = getattr(found, "nsfw_content_detected", None) or []
        for row, flag in enumerate(withheld):
            if flag:
                pictures[row] = np.nan
        return pictures


def _named(part: Mapping[str, Any], where: str) -> Any:
    """The class of diffusers that a part names."""
    import diffusers

    found = getattr(diffusers, str(part.get("class")), None)
    if not isinstance(found, type):
        raise UserError(
            f"{where}: class {part.get('class')!r} is not one of diffusers {diffusers.__version__}; "
            f"name one of its classes"
        )
    return found


def _kinds(index: Mapping[str, Any]) -> dict[str, Any]:
    """The networks that a pipeline's model_index.json lists: name → class. Other parts load themselves."""
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
