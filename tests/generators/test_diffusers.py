"""Every class of pipeline: images are what plain diffusers gives, and only safe files are read."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.generators.diffusers.model import DiffusersModel
from promptroute.generators.run import checked, to_png
from promptroute.generators.uniform import UniformBatches
from promptroute.runtime.batching import Failure
from tests.generators.tiny import LORA, PIPELINES, SIDE, save_lora

Tiny = Callable[[str], Path]
ITEMS = [(prompt, seed) for prompt in ("a red dog", "a cat", "x") for seed in (0, 1, 7)]


def plain(folder: Path, name: str, **changes: Any) -> Any:
    """One image by plain diffusers, as anybody would write it."""
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    how = PIPELINES[name][1]

    def generate(prompt: str, seed: int, n: int = 1) -> np.ndarray:
        generators = [torch.Generator("cpu").manual_seed(seed) for _ in range(n)]
        return pipeline(
            prompt,
            num_images_per_prompt=n,
            num_inference_steps=how["steps"],
            guidance_scale=how["guidance"],
            generator=generators if n > 1 else generators[0],
            output_type="np",
            **how.get("call", {}),
            **changes,
        ).images[0]

    return generate


@pytest.mark.parametrize("name", PIPELINES)
def test_equals_plain_diffusers(tiny: Tiny, name: str) -> None:
    generate = plain(tiny(name), name)
    model = UniformBatches(DiffusersModel(model=str(tiny(name)), **PIPELINES[name][1]), 1)
    images = np.stack(model.generate(*zip(*ITEMS, strict=True)))
    assert images.shape == (len(ITEMS), SIDE, SIDE, 3) and images.dtype == np.float32
    for image, item in zip(images, ITEMS, strict=True):
        np.testing.assert_array_equal(image, generate(*item), strict=True)
    # Not by being the same all over: images differ by seed and by prompt.
    assert np.abs(images[0] - images[1]).max() > 0.1 and np.abs(images[0] - images[3]).max() > 0.1


@pytest.mark.parametrize("name", PIPELINES)
def test_files_as_from_a_gpu(tiny: Tiny, name: str) -> None:
    class AsOnGpu(DiffusersModel):
        @property
        def on_cpu(self) -> bool:
            return False

    here, there = (kind(model=str(tiny(name)), **PIPELINES[name][1]) for kind in (DiffusersModel, AsOnGpu))
    for item in ITEMS[:2]:
        (one,), (other,) = (model.generate([item[0]], [item[1]]) for model in (here, there))
        assert isinstance(other, np.ndarray) and other.flags["C_CONTIGUOUS"] and other.dtype == np.uint8
        assert to_png(one) == to_png(other)


@pytest.mark.parametrize("name", PIPELINES)
def test_only_prompt_and_seed_decide(tiny: Tiny, name: str) -> None:
    model = UniformBatches(DiffusersModel(model=str(tiny(name)), **PIPELINES[name][1]), 4)
    images = np.stack(model.generate(*zip(*ITEMS, strict=True)))
    assert model.size == 4, "no fall-back was needed"
    order = np.random.default_rng(0).permutation(len(ITEMS))
    again = model.generate(*zip(*[ITEMS[i] for i in order], strict=True))
    np.testing.assert_array_equal(again, images[order])
    for i, (prompt, seed) in enumerate(ITEMS[:3]):
        np.testing.assert_array_equal(model.generate([prompt], [seed])[0], images[i])
    if name != "amused":  # whose own pipeline takes no list of generators
        for image, item in zip(images[:3], ITEMS, strict=False):
            np.testing.assert_array_equal(image, plain(tiny(name), name)(*item, n=4))
    singly = DiffusersModel(model=str(tiny(name)), **PIPELINES[name][1]).generate(["a cat"], [1])
    np.testing.assert_allclose(model.generate(["a cat"], [1]), singly, atol=1e-3)


@pytest.mark.parametrize("name", PIPELINES)
def test_threads_give_the_same_bits(tiny: Tiny, name: str) -> None:
    model = DiffusersModel(model=str(tiny(name)), **PIPELINES[name][1])
    alone = [model.generate([prompt], [seed]) for prompt, seed in ITEMS]
    meet = threading.Barrier(3, timeout=60)

    def generate(item: tuple[str, int]) -> np.ndarray:
        meet.wait()  # three at a time, so that none generates alone
        return model.generate([item[0]], [item[1]])

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(generate, ITEMS))
    np.testing.assert_array_equal(np.concatenate(together), np.concatenate(alone))
    pipelines = [pipeline for pipeline, _ in model.pool._free]
    assert len(pipelines) == 3
    for part, one in pipelines[0].components.items():
        owners = {id(getattr(pipeline, part)) for pipeline in pipelines}
        # Tokenizers keep how they pad, schedulers where they are, and some decoders are cast to and fro.
        shared = one is None or ("encoder" in part or part in ("unet", "transformer"))
        assert len(owners) == (1 if shared else 3), part


def test_each_text_is_encoded_once(tiny: Tiny) -> None:
    model = DiffusersModel(model=str(tiny("sdxl")), **PIPELINES["sdxl"][1])
    rows: list[int] = []
    encoders = [model.pipeline.text_encoder, model.pipeline.text_encoder_2]
    for encoder in encoders:
        encoder.forward._forward = counting(encoder.forward._forward, rows)
    model.generate(["a cat"] * 3 + ["a dog"], [0, 1, 2, 0])
    model.generate(["a dog", "a dog"], [1, 2])
    assert sum(rows) == 2 * len(encoders)


def counting(forward: Callable[..., Any], rows: list[int]) -> Callable[..., Any]:
    def counted(input_ids: Any, **options: Any) -> Any:
        rows.append(len(input_ids))
        return forward(input_ids, **options)

    return counted


def test_negative_prompt(tiny: Tiny) -> None:
    how = PIPELINES["sd"][1]
    with_it = DiffusersModel(model=str(tiny("sd")), **how, call={"negative_prompt": "blue"})
    expected = plain(tiny("sd"), "sd", negative_prompt="blue")
    np.testing.assert_array_equal(with_it.generate(["a cat"], [0])[0], expected("a cat", 0))
    assert np.shape(with_it.generate(["a cat", "a dog"], [0, 1])) == (2, SIDE, SIDE, 3)
    assert np.abs(expected("a cat", 0) - plain(tiny("sd"), "sd")("a cat", 0)).max() > 1e-3


def test_decoder_scheduler_and_size(tiny: Tiny) -> None:
    from diffusers import AutoencoderTiny, EulerDiscreteScheduler

    model = DiffusersModel(
        model=str(tiny("sd")),
        steps=2,
        guidance=1.0,
        width=SIDE * 2,
        height=SIDE,
        components={"vae": {"class": "AutoencoderTiny", "model": str(tiny("taesd"))}},
        scheduler={"class": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
    )
    assert np.shape(model.generate(["a cat"], [0])) == (1, SIDE, SIDE * 2, 3)
    assert isinstance(model.pipeline.vae, AutoencoderTiny)
    assert isinstance(model.pipeline.scheduler, EulerDiscreteScheduler)
    assert model.pipeline.scheduler.config.timestep_spacing == "trailing"
    assert model.pipeline.scheduler.config.beta_end == 0.02, "the rest stays the model's own"


def test_lora(tiny: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline

    save_lora(tmp_path, StableDiffusionPipeline.from_pretrained(tiny("sd")))
    how = PIPELINES["sd"][1]
    part = {"model": str(tmp_path), "weight_name": LORA}
    models = [
        DiffusersModel(model=str(tiny("sd")), **how, lora=lora)
        for lora in (None, {**part, "scale": 0.0}, {**part, "scale": 1.0})
    ]
    none, off, on = (np.stack(model.generate(["a cat"], [0])) for model in models)
    np.testing.assert_allclose(off, none, atol=1e-4)
    assert np.abs(on - none).max() > 1e-2
    assert len({str(model.fingerprint()) for model in models}) == 3


def test_fingerprint_of_sampling_on_a_gpu(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptroute.generators.base.arithmetic", lambda device: {})
    other = {"class": "DDIMScheduler"}
    for settings, keyed in (
        ({"model": str(tiny("amused")), "device": "cuda"}, True),
        ({"model": str(tiny("amused"))}, False),
        ({"model": str(tiny("amused")), "device": "cuda", "scheduler": other}, False),
        ({"model": str(tiny("sd")), "device": "cuda"}, False),
    ):
        assert ("tokens" in DiffusersModel(**settings).fingerprint()) == keyed, settings
    with pytest.raises(UserError, match="nowhere/at-all"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        DiffusersModel(model="nowhere/at-all", revision="0" * 40, device="cuda").fingerprint()


def test_rounded_on_its_device_as_in_the_file() -> None:
    import torch

    from promptroute.generators.diffusers.model import rounded_there

    images = torch.rand(3, 3, 7, 5, generator=torch.Generator().manual_seed(0)).half()
    images[0].view(-1)[:105] = torch.arange(105) / 510  # halves, which round to even
    images[2, 1, 3, 3] = torch.nan
    given = rounded_there(images)
    floats = images.permute(0, 2, 3, 1).float().numpy()
    for image, original in zip(given[:2], floats[:2], strict=True):
        assert isinstance(image, np.ndarray) and to_png(image) == to_png(original)
    assert given[2] == Failure("the model gave values that are not finite")


def test_fingerprint(tiny: Tiny, tmp_path: Path) -> None:
    base: dict[str, Any] = {"model": str(tiny("sd")), "steps": 2, "guidance": 5.0}
    here = DiffusersModel(**base).fingerprint()
    assert DiffusersModel(**base).fingerprint() == here
    assert "torch" in here["libraries"] and here["precision"] == "float32"
    for change in (
        {"steps": 3},
        {"guidance": 4.0},
        {"width": 32, "height": 16},
        {"call": {"negative_prompt": "blue"}},
        {"scheduler": {"class": "EulerDiscreteScheduler"}},
        {"components": {"vae": {"class": "AutoencoderTiny", "model": str(tiny("taesd"))}}},
        {"batch_size": 2},
    ):
        assert DiffusersModel(**{**base, **change}).fingerprint() != here, change
    import shutil

    copy = shutil.copytree(tiny("sd"), tmp_path / "copy")
    assert DiffusersModel(**{**base, "model": str(copy)}).fingerprint() == here, "not where it lies"
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert DiffusersModel(**{**base, "model": str(copy)}).fingerprint() != here


def test_pickled_weights(tiny: Tiny, tmp_path: Path) -> None:
    import shutil

    import torch

    copy = shutil.copytree(tiny("sd"), tmp_path / "copy")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"can't be loaded on cpu .*safetensors"):
        DiffusersModel(model=str(copy), steps=1, guidance=1.0).generate(["x"], [0])
    for path in copy.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        DiffusersModel(model=str(copy), steps=1, guidance=1.0).generate(["x"], [0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "owner/name"}, "revision must be a commit"),
        ({"model": "owner/name", "revision": "main"}, "not 'main'"),
        ({"model": "./nowhere"}, "no such folder"),
        ({"scheduler": {"class": "Nonsense"}}, "class 'Nonsense' is not one of diffusers"),
        ({"scheduler": {"spacing": 1}}, "scheduler.class is missing"),
        ({"components": {"vae": {"class": "AutoencoderTiny"}}}, r"components.vae.model is missing"),
        ({"lora": {"model": "x", "weight_name": "x.bin"}}, r"must name a \.safetensors file"),
        ({"streams": 0}, "streams is 0; expected greater than or equal to 1"),
        ({"steps": 0}, "steps is 0; expected greater"),
        ({"steps": "four"}, "steps is 'four'; expected a valid integer"),
        ({"guidance": float("nan")}, "guidance is nan; expected a finite number"),
        ({"width": 16}, "width is 16 and height is None; give both, or neither"),
        ({"width": 17, "height": 16}, "width is 17; expected a multiple of 2 pixels, as 16"),
        ({"call": {"negativ_prompt": "x"}}, r"call names negativ_prompt.* mean negative_prompt\?"),
        ({"call": {"num_inference_steps": 2}}, "num_inference_steps is set by steps"),
        ({"call": {"timesteps": [999]}}, "timesteps is set by steps"),
        ({"call": {"negative_prompt": "x"}}, "call.negative_prompt has no effect, for guidance is 1"),
        (
            {"call": {"eta": 0.5}, "scheduler": {"class": "EulerDiscreteScheduler"}},
            "call.eta has no effect, for Euler",
        ),
        ({"step": 3}, r"step is no setting of DiffusersModel; did you mean steps\?"),
        ({"dtype": "half"}, "dtype is 'half'; expected 'auto', 'float32'"),
        ({"extra_keys": "allow"}, "expected 'refuse' or 'ignore'"),
    ],
)
def test_wrong_setting(tiny: Tiny, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DiffusersModel(**{"model": str(tiny("sd")), "steps": 1, "guidance": 1.0, **settings}).generate(
            ["x"], [0]
        )


def test_unknown_component(tiny: Tiny) -> None:
    part = {"class": "AutoencoderTiny", "model": str(tiny("taesd"))}
    model = DiffusersModel(model=str(tiny("sd")), components={"vea": part})
    with pytest.raises(UserError, match=r"components names vea, which it lacks; did you mean vae\?"):
        model.load()


def test_unknown_setting_of_a_scheduler(tiny: Tiny) -> None:
    """Diffusers passes it over, and the images are those of other settings than the study says."""
    scheduler = {"class": "LCMScheduler", "original_inference_step": 20}
    model = DiffusersModel(model=str(tiny("sd")), steps=1, guidance=1.0, scheduler=scheduler)
    with pytest.raises(
        UserError, match="scheduler names original_inference_step, which it lacks; did you mean orig"
    ):
        model.load()


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = DiffusersModel(model="owner/no-such-model", revision="0" * 40, steps=1, guidance=1.0)
    with pytest.raises(UserError, match=r"owner/no-such-model can't be loaded on cpu .*check the network"):
        model.generate(["x"], [0])
    assert model.weights()["hub_id"] == "owner/no-such-model" and model.weights()["revision"] == "0" * 40


def spoilt(folder: Path, to: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a model with other tensors in one of its files."""
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, to)
    state = load_file(copy / file)
    change(state)
    save_file(state, copy / file, metadata={"format": "pt"})
    return copy


def test_missing_and_extra_tensors(tiny: Tiny, tmp_path: Path) -> None:
    import torch

    how, file = PIPELINES["sd"][1], "unet/diffusion_pytorch_model.safetensors"
    more = spoilt(tiny("sd"), tmp_path / "more", file, lambda state: state.update(other=torch.zeros(2)))
    with pytest.raises(UserError, match=r"unet of the model .* have other \(1 in all\) too much"):
        DiffusersModel(model=str(more), **how).generate(["a cat"], [0])
    let = DiffusersModel(model=str(more), **how, extra_keys="ignore").generate(["a cat"], [0])
    np.testing.assert_array_equal(let, DiffusersModel(model=str(tiny("sd")), **how).generate(["a cat"], [0]))
    less = spoilt(tiny("sd"), tmp_path / "less", file, lambda state: state.pop("conv_in.bias"))
    with pytest.raises(UserError, match=r"lack conv_in.bias \(1 in all\) for a UNet2DConditionModel"):
        DiffusersModel(model=str(less), **how, extra_keys="ignore").generate(["a cat"], [0])


def test_old_position_ids(tiny: Tiny, tmp_path: Path) -> None:
    """The hub's older CLIP files keep a buffer that transformers has long computed itself."""
    import torch

    old = spoilt(
        tiny("sd"),
        tmp_path / "old",
        "text_encoder/model.safetensors",
        lambda state: state.update({"text_model.embeddings.position_ids": torch.arange(16)[None]}),
    )
    how = PIPELINES["sd"][1]
    images = DiffusersModel(model=str(old), **how).generate(["a cat"], [0])
    np.testing.assert_array_equal(
        images, DiffusersModel(model=str(tiny("sd")), **how).generate(["a cat"], [0])
    )


def test_variant(tiny: Tiny, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(tiny("sd"), tmp_path / "copy")
    unet = copy / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    how = PIPELINES["sd"][1]
    images = DiffusersModel(model=str(copy), **how, variant="fp16").generate(["a cat"], [0])
    np.testing.assert_array_equal(
        images, DiffusersModel(model=str(tiny("sd")), **how).generate(["a cat"], [0])
    )


def test_template(tiny: Tiny) -> None:
    how = PIPELINES["sd"][1]
    framed = DiffusersModel(model=str(tiny("sd")), **how, template="a hat, {prompt}")
    plainly = DiffusersModel(model=str(tiny("sd")), **how)
    np.testing.assert_array_equal(
        framed.generate(["red {x}"], [3]), plainly.generate(["a hat, red {x}"], [3])
    )
    assert framed.fingerprint() != plainly.fingerprint()
    with pytest.raises(UserError, match=r"template is 'a hat'; it lacks \{prompt\}"):
        DiffusersModel(model=str(tiny("sd")), **how, template="a hat")


@pytest.mark.slow
def test_channels_last_and_compile(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    how = PIPELINES["sd"][1]
    one = DiffusersModel(model=str(tiny("sd")), **how)
    expected, parts = one.generate(["a cat"], [0]), {str(one.fingerprint())}
    ways: tuple[dict[str, Any], ...] = (
        {"channels_last": True},
        {"compile": {"backend": "eager"}},
        {"channels_last": True, "compile": {"backend": "eager"}},
    )
    for way in ways:
        model = DiffusersModel(model=str(tiny("sd")), **how, **way)
        np.testing.assert_allclose(model.generate(["a cat"], [0]), expected, atol=1e-4)
        parts.add(str(model.fingerprint()))
    assert len(parts) == 4, "each decides the last bits of an image"
    assert "torch.compile" not in caplog.text
    failing = DiffusersModel(model=str(tiny("sd")), **how, compile={"backend": broken})
    for _ in range(2):
        np.testing.assert_array_equal(failing.generate(["a cat"], [0]), expected)
    said = caplog.text
    assert said.count("going on without torch.compile, which failed (") == 1


def test_precision(tiny: Tiny) -> None:
    how = PIPELINES["sd"][1]
    assert (
        DiffusersModel(model="m", **how).precision
        == DiffusersModel(model="m", **how, dtype="float32").precision
        == "float32"
    )
    assert DiffusersModel(model="m", **how, device="cuda").precision == "float16"
    with pytest.raises(UserError, match=r"DiffusersModel: dtype is float16, but the device is the CPU"):
        DiffusersModel(model="m", **how, dtype="float16")
    kept = DiffusersModel(model="m", **how, device="cuda", float32=["vqvae"])
    assert str(kept.dtype_of("vqvae")) == "torch.float32" and str(kept.dtype_of("unet")) == "torch.float16"
    with pytest.raises(UserError, match=r"float32 names vqvae, which it lacks; it has|did you mean vae"):
        DiffusersModel(model=str(tiny("sd")), **how, float32=["vqvae"]).load()


def test_withheld_and_infinite_are_failures(tiny: Tiny) -> None:
    model = DiffusersModel(model=str(tiny("sd")), **PIPELINES["sd"][1])
    model.load()

    def gives(images: np.ndarray, flags: list[bool] | None) -> Any:
        output = type("Output", (), {"images": images, "nsfw_content_detected": flags})
        return lambda **call: output

    images = np.full((2, 4, 4, 3), 0.5, np.float32)
    images[1, 0, 0, 0] = np.nan
    model.pool._free[:] = [(gives(images, None), nullcontext())]
    good, bad = model.generate(["a", "b"], [0, 1])
    assert isinstance(good, np.ndarray) and checked(bad) == Failure(
        "the model gave values that are not finite"
    )
    model.pool._free[:] = [(gives(images[:1], [True]), nullcontext())]
    assert model.generate(["a"], [0]) == [Failure("the model's safety checker withheld the image")]


def test_truncated_tokens(tiny: Tiny) -> None:
    for name in ("sd", "sdxl", "pixart"):
        changes = {"template": "cc {prompt}"} if name == "sd" else {}
        settings = {**PIPELINES[name][1], **changes}
        if name == "pixart":
            settings["call"] = {**settings["call"], "max_sequence_length": 16}
        model = DiffusersModel(model=str(tiny(name)), **settings)
        model.load()
        fits, cut = model.truncated(["a b", "a " * 30])
        assert fits == 0 and cut is not None and cut >= 16
