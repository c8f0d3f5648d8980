"""Any text-to-image pipeline of the diffusers library."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from stages.generators.scheduling import step_per_image
from stages.generators.text_cache import TextCache
from stages.records import BadInput
from stages.store.weights import weights_id

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
        gpu_dtype: torch dtype on a GPU; on the CPU it is float32.
        device: torch device.
        threads: CPU threads that torch uses; decides the last bits of an image, so the fingerprint has it.
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
        gpu_dtype: str = "float16",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        self.model, self.revision, self.variant = model, revision, variant
        self.steps, self.guidance, self.width, self.height = steps, guidance, width, height
        self.components = {name: dict(part) for name, part in (components or {}).items()}
        self.scheduler, self.lora, self.call = dict(scheduler or {}), dict(lora or {}), dict(call or {})
        self.device, self.threads, self.batch_size = device, threads, batch_size
        self.dtype = "float32" if device.startswith("cpu") else gpu_dtype
        for name, part in (*self.components.items(), *([("lora", self.lora)] if self.lora else [])):
            if "model" not in part:
                raise BadInput(f"{model}: its part {name} has no model; give a folder or a hub id")
        if self.lora and not str(self.lora.get("weight_name", "")).endswith(".safetensors"):
            raise BadInput(
                f"{model}: lora.weight_name must name a .safetensors file; other formats can run code"
            )

    @cached_property
    def fingerprint_parts(self) -> Mapping[str, Any]:
        """All that decides an image but its prompt and seed. Reads the weights of a folder, to check-sum them.

        Raises:
            BadInput: as `weights_id`.
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
            "threads": self.threads if on_cpu else None,
            "batch_size": self.batch_size if on_cpu else None,
            "libraries": {name: version(name) for name in (*_LIBRARIES, *(["peft"] if self.lora else []))},
        }

    @cached_property
    def pipeline(self) -> Any:
        """The diffusers pipeline, loaded, on its device.

        Raises:
            BadInput: it can't be loaded; says why, and what to do.
        """
        try:
            return self._load()
        except BadInput:
            raise
        except Exception as error:  # diffusers raises what its parts raise
            line = (str(error).strip() or "no message").splitlines()[0]
            raise BadInput(
                f"the model {self.model} can't be loaded on {self.device} ({type(error).__name__}: {line}); give the "
                f"path of a folder in the hub's layout with safetensors, or a hub id whose licence you have "
                f"accepted, and check the network"
            ) from error

    def _load(self) -> Any:
        import diffusers
        import torch
        import transformers

        # Progress bars of loading, and a line for every prompt that is cut off.
        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()
            library.utils.logging.set_verbosity_error()
        _ = self.fingerprint_parts  # refuses weights that are unsafe, or that may change under their name
        dtype = getattr(torch, self.dtype)
        swapped = {name: _component(name, part, dtype) for name, part in self.components.items()}
        pipelines: Any = diffusers.DiffusionPipeline  # untyped
        pipeline = pipelines.from_pretrained(
            self.model,
            revision=self.revision,
            variant=self.variant,
            dtype=dtype,
            use_safetensors=True,
            **swapped,
        )
        if self.scheduler:
            settings = {name: value for name, value in self.scheduler.items() if name != "class"}
            pipeline.scheduler = _named(self.scheduler, "scheduler").from_config(
                pipeline.scheduler.config, **settings
            )
        if self.lora:
            pipeline.load_lora_weights(
                self.lora["model"],
                weight_name=self.lora["weight_name"],
                revision=self.lora.get("revision"),
                use_safetensors=True,
                adapter_name="lora",
            )
            pipeline.set_adapters(["lora"], [float(self.lora.get("scale", 1.0))])
        pipeline = pipeline.to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            if (encoder := getattr(pipeline, name, None)) is not None:
                encoder.forward = TextCache(encoder.forward, alone=self.device.startswith("cpu"))
        step_per_image(pipeline.scheduler)
        return pipeline

    def load(self) -> None:
        """Load the pipeline, which the first `draw` does otherwise.

        Raises:
            BadInput: it can't be loaded.
        """
        _ = self.pipeline

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """One batch: n prompts and n seeds → float32 [n, height, width, 3], RGB in 0..1.

        The same as `pipeline(prompt, generator=torch.Generator("cpu").manual_seed(seed), …)` for each; the
        text encoders run once for each different text.

        Raises:
            BadInput: the model can't be loaded.
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
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        drawn = self.pipeline(prompt=list(prompts), generator=generators, output_type="np", **call)
        pictures = np.asarray(drawn.images, np.float32)
        withheld = getattr(drawn, "nsfw_content_detected", None) or []
        for row, flag in enumerate(withheld):
            if flag:
                pictures[row] = np.nan
        return pictures


def _named(part: Mapping[str, Any], where: str) -> Any:
    """The class of diffusers that a part names."""
    import diffusers

    found = getattr(diffusers, str(part.get("class")), None)
    if not isinstance(found, type):
        raise BadInput(
            f"{where}: class {part.get('class')!r} is not one of diffusers {diffusers.__version__}"
        )
    return found


def _component(name: str, part: Mapping[str, str], dtype: Any) -> Any:
    places = {key: part[key] for key in ("revision", "subfolder") if part.get(key)}
    return _named(part, f"components.{name}").from_pretrained(
        part["model"], dtype=dtype, use_safetensors=True, **places
    )
