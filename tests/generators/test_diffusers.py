"""Every class of pipeline: what is drawn is what plain diffusers draws, and only safe files are read."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.generators.diffusers import DiffusersModel
from promptroute.generators.uniform import UniformBatches
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
def test_one_image_is_what_plain_diffusers_draws_bit_for_bit(tiny: Tiny, name: str) -> None:
    generate = plain(tiny(name), name)
    model = UniformBatches(DiffusersModel(str(tiny(name)), **PIPELINES[name][1]), 1)
    drawn = model.generate(*zip(*ITEMS, strict=True))
    assert drawn.shape == (len(ITEMS), SIDE, SIDE, 3) and drawn.dtype == np.float32
    for picture, item in zip(drawn, ITEMS, strict=True):
        np.testing.assert_array_equal(picture, generate(*item), strict=True)
    # Not by being the same all over: pictures differ by seed and by prompt.
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1 and np.abs(drawn[0] - drawn[3]).max() > 0.1


@pytest.mark.parametrize("name", PIPELINES)
def test_in_batches_of_a_fixed_size_nothing_but_prompt_and_seed_decides(tiny: Tiny, name: str) -> None:
    model = UniformBatches(DiffusersModel(str(tiny(name)), **PIPELINES[name][1]), 4)
    drawn = model.generate(*zip(*ITEMS, strict=True))
    assert model.size == 4, "no fall-back was needed"
    order = np.random.default_rng(0).permutation(len(ITEMS))
    again = model.generate(*zip(*[ITEMS[i] for i in order], strict=True))
    np.testing.assert_array_equal(again, drawn[order])
    for i, (prompt, seed) in enumerate(ITEMS[:3]):
        np.testing.assert_array_equal(model.generate([prompt], [seed])[0], drawn[i])
    if name != "amused":  # whose own pipeline takes no list of generators
        for picture, item in zip(drawn[:3], ITEMS, strict=False):
            np.testing.assert_array_equal(picture, plain(tiny(name), name)(*item, n=4))
    singly = DiffusersModel(str(tiny(name)), **PIPELINES[name][1]).generate(["a cat"], [1])
    np.testing.assert_allclose(model.generate(["a cat"], [1]), singly, atol=1e-3)


@pytest.mark.parametrize("name", PIPELINES)
def test_threads_that_draw_at_once_draw_the_same_bits(tiny: Tiny, name: str) -> None:
    model = DiffusersModel(str(tiny(name)), **PIPELINES[name][1])
    alone = [model.generate([prompt], [seed]) for prompt, seed in ITEMS]
    meet = threading.Barrier(3, timeout=60)

    def generate(item: tuple[str, int]) -> np.ndarray:
        meet.wait()  # three at a time, so that nobody draws alone
        return model.generate([item[0]], [item[1]])

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(generate, ITEMS))
    np.testing.assert_array_equal(np.concatenate(together), np.concatenate(alone))
    lanes = [pipeline for pipeline, _ in model._lanes._free]
    assert len(lanes) == 3
    for part, one in lanes[0].components.items():
        owners = {id(getattr(lane, part)) for lane in lanes}
        # Tokenizers keep how they pad, schedulers where they are, and some decoders are cast to and fro.
        shared = one is None or ("encoder" in part or part in ("unet", "transformer"))
        assert len(owners) == (1 if shared else 3), part


def test_text_encoders_run_once_for_each_text(tiny: Tiny) -> None:
    model = DiffusersModel(str(tiny("sdxl")), **PIPELINES["sdxl"][1])
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


def test_a_negative_prompt_counts(tiny: Tiny) -> None:
    how = PIPELINES["sd"][1]
    with_it = DiffusersModel(str(tiny("sd")), **how, call={"negative_prompt": "blue"})
    expected = plain(tiny("sd"), "sd", negative_prompt="blue")
    np.testing.assert_array_equal(with_it.generate(["a cat"], [0])[0], expected("a cat", 0))
    assert with_it.generate(["a cat", "a dog"], [0, 1]).shape == (2, SIDE, SIDE, 3)
    assert np.abs(expected("a cat", 0) - plain(tiny("sd"), "sd")("a cat", 0)).max() > 1e-3


def test_another_decoder_scheduler_and_size_are_configuration(tiny: Tiny) -> None:
    from diffusers import AutoencoderTiny, EulerDiscreteScheduler

    model = DiffusersModel(
        str(tiny("sd")),
        steps=2,
        guidance=1.0,
        width=SIDE * 2,
        height=SIDE,
        components={"vae": {"class": "AutoencoderTiny", "model": str(tiny("taesd"))}},
        scheduler={"class": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
    )
    assert model.generate(["a cat"], [0]).shape == (1, SIDE, SIDE * 2, 3)
    assert isinstance(model.pipeline.vae, AutoencoderTiny)
    assert isinstance(model.pipeline.scheduler, EulerDiscreteScheduler)
    assert model.pipeline.scheduler.config.timestep_spacing == "trailing"
    assert model.pipeline.scheduler.config.beta_end == 0.02, "the rest stays the model's own"


def test_a_lora_changes_the_picture_by_its_scale(tiny: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline

    save_lora(tmp_path, StableDiffusionPipeline.from_pretrained(tiny("sd")))
    how = PIPELINES["sd"][1]
    part = {"model": str(tmp_path), "weight_name": LORA}
    models = [
        DiffusersModel(str(tiny("sd")), **how, lora=lora)
        for lora in (None, {**part, "scale": 0.0}, {**part, "scale": 1.0})
    ]
    none, off, on = (model.generate(["a cat"], [0]) for model in models)
    np.testing.assert_allclose(off, none, atol=1e-4)
    assert np.abs(on - none).max() > 1e-2
    assert len({str(model.fingerprint_parts) for model in models}) == 3


def test_what_decides_an_image_is_in_the_fingerprint(tiny: Tiny, tmp_path: Path) -> None:
    base: dict[str, Any] = {"model": str(tiny("sd")), "steps": 2, "guidance": 5.0}
    here = DiffusersModel(**base).fingerprint_parts
    assert DiffusersModel(**base).fingerprint_parts == here
    assert "torch" in here["libraries"] and here["dtype"] == "float32"
    for change in (
        {"steps": 3},
        {"guidance": 4.0},
        {"width": 32},
        {"call": {"negative_prompt": "blue"}},
        {"scheduler": {"class": "EulerDiscreteScheduler"}},
        {"components": {"vae": {"class": "AutoencoderTiny", "model": str(tiny("taesd"))}}},
        {"batch_size": 2},
    ):
        assert DiffusersModel(**{**base, **change}).fingerprint_parts != here, change
    import shutil

    copy = shutil.copytree(tiny("sd"), tmp_path / "copy")
    assert DiffusersModel(**{**base, "model": str(copy)}).fingerprint_parts == here, "not where it lies"
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert DiffusersModel(**{**base, "model": str(copy)}).fingerprint_parts != here


def test_pickled_weights_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    import shutil

    import torch

    copy = shutil.copytree(tiny("sd"), tmp_path / "copy")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"can't be loaded on cpu .*safetensors"):
        DiffusersModel(str(copy), steps=1, guidance=1.0).generate(["x"], [0])
    for path in copy.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        DiffusersModel(str(copy), steps=1, guidance=1.0).generate(["x"], [0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "owner/name"}, "revision must be a commit"),
        ({"model": "owner/name", "revision": "main"}, "not 'main'"),
        ({"model": "./nowhere"}, "no such folder"),
        ({"scheduler": {"class": "Nonsense"}}, "class 'Nonsense' is not one of diffusers"),
        ({"components": {"vae": {"class": "AutoencoderTiny"}}}, "its part vae has no model"),
        ({"lora": {"model": "x", "weight_name": "x.bin"}}, "must name a .safetensors file"),
        ({"streams": 0}, "streams is 0; give a whole number, 1 or more"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(tiny: Tiny, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DiffusersModel(**{"model": str(tiny("sd")), "steps": 1, "guidance": 1.0, **settings}).generate(
            ["x"], [0]
        )


def test_a_hub_that_cant_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = DiffusersModel("owner/no-such-model", revision="0" * 40, steps=1, guidance=1.0)
    with pytest.raises(UserError, match=r"owner/no-such-model can't be loaded on cpu .*check the network"):
        model.generate(["x"], [0])
    assert model.fingerprint_parts["weights"] == {"hub_id": "owner/no-such-model", "revision": "0" * 40}


def spoilt(folder: Path, to: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a model with other tensors in one of its files."""
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, to)
    state = load_file(copy / file)
    change(state)
    save_file(state, copy / file, metadata={"format": "pt"})
    return copy


def test_tensors_too_many_can_be_let_pass_but_never_too_few(tiny: Tiny, tmp_path: Path) -> None:
    import torch

    how, file = PIPELINES["sd"][1], "unet/diffusion_pytorch_model.safetensors"
    more = spoilt(tiny("sd"), tmp_path / "more", file, lambda state: state.update(other=torch.zeros(2)))
    with pytest.raises(UserError, match=r"unet of the model .* have other \(1 in all\) too much"):
        DiffusersModel(str(more), **how).generate(["a cat"], [0])
    let = DiffusersModel(str(more), **how, extra_keys="ignore").generate(["a cat"], [0])
    np.testing.assert_array_equal(let, DiffusersModel(str(tiny("sd")), **how).generate(["a cat"], [0]))
    less = spoilt(tiny("sd"), tmp_path / "less", file, lambda state: state.pop("conv_in.bias"))
    with pytest.raises(UserError, match=r"lack conv_in.bias \(1 in all\) for a UNet2DConditionModel"):
        DiffusersModel(str(less), **how, extra_keys="ignore").generate(["a cat"], [0])


def test_old_checkpoints_with_position_ids_are_whole(tiny: Tiny, tmp_path: Path) -> None:
    """The hub's older CLIP files keep a buffer that transformers has long made anew."""
    import torch

    old = spoilt(
        tiny("sd"),
        tmp_path / "old",
        "text_encoder/model.safetensors",
        lambda state: state.update({"text_model.embeddings.position_ids": torch.arange(16)[None]}),
    )
    how = PIPELINES["sd"][1]
    drawn = DiffusersModel(str(old), **how).generate(["a cat"], [0])
    np.testing.assert_array_equal(drawn, DiffusersModel(str(tiny("sd")), **how).generate(["a cat"], [0]))


def test_a_variant_is_read_of_the_parts_that_have_it(tiny: Tiny, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(tiny("sd"), tmp_path / "copy")
    unet = copy / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    how = PIPELINES["sd"][1]
    drawn = DiffusersModel(str(copy), **how, variant="fp16").generate(["a cat"], [0])
    np.testing.assert_array_equal(drawn, DiffusersModel(str(tiny("sd")), **how).generate(["a cat"], [0]))


def test_a_template_is_put_around_every_prompt(tiny: Tiny) -> None:
    how = PIPELINES["sd"][1]
    framed = DiffusersModel(str(tiny("sd")), **how, template="a hat, {prompt}")
    plainly = DiffusersModel(str(tiny("sd")), **how)
    np.testing.assert_array_equal(
        framed.generate(["red {x}"], [3]), plainly.generate(["a hat, red {x}"], [3])
    )
    assert framed.fingerprint_parts != plainly.fingerprint_parts
    with pytest.raises(UserError, match=r"template is 'a hat', which lacks \{prompt\}"):
        DiffusersModel(str(tiny("sd")), **how, template="a hat")


def test_channels_last_and_compiling_keep_the_picture(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    how = PIPELINES["sd"][1]
    one = DiffusersModel(str(tiny("sd")), **how)
    expected, parts = one.generate(["a cat"], [0]), {str(one.fingerprint_parts)}
    ways: tuple[dict[str, Any], ...] = (
        {"channels_last": True},
        {"compile": {"backend": "eager"}},
        {"channels_last": True, "compile": {"backend": "eager"}},
    )
    for way in ways:
        model = DiffusersModel(str(tiny("sd")), **how, **way)
        np.testing.assert_allclose(model.generate(["a cat"], [0]), expected, atol=1e-4)
        parts.add(str(model.fingerprint_parts))
    assert len(parts) == 4, "each decides the last bits of an image"
    assert "torch.compile" not in capsys.readouterr().err
    failing = DiffusersModel(str(tiny("sd")), **how, compile={"backend": broken})
    for _ in range(2):
        np.testing.assert_array_equal(failing.generate(["a cat"], [0]), expected)
    said = capsys.readouterr().err
    assert said.count("drawing without torch.compile, which failed (") == 1


def test_half_precision_is_for_gpus(tiny: Tiny) -> None:
    how = PIPELINES["sd"][1]
    assert DiffusersModel("m", **how).dtype == DiffusersModel("m", **how, dtype="float32").dtype == "float32"
    assert DiffusersModel("m", **how, device="cuda").dtype == "float16"
    with pytest.raises(UserError, match=r"m: dtype is float16, but the device is the CPU"):
        DiffusersModel("m", **how, dtype="float16")
    with pytest.raises(UserError, match=r"m: dtype is 'half'; give auto"):
        DiffusersModel("m", **how, dtype="half", device="cuda")
    kept = DiffusersModel("m", **how, device="cuda", float32=["vqvae"])
    assert str(kept.dtype_of("vqvae")) == "torch.float32" and str(kept.dtype_of("unet")) == "torch.float16"
    with pytest.raises(UserError, match=r"float32 names vqvae, which it lacks; its networks are"):
        DiffusersModel(str(tiny("sd")), **how, float32=["vqvae"]).load()
