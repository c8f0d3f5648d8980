"""The training of the small models, on a few steps and a few scenes; what it saves loads as any other model."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mini import (
    draw_scenes,
    train_clip,
    train_diffusion,
    train_masked,
    train_nima,
    train_student,
    train_tiny,
    train_vae,
    train_vq,
)
from mini.captions import PROMPT_SETS, draw_captions
from mini.draw_scenes import read_scenes, write_scenes
from mini.inputs import TextInputs, embed_texts
from mini.pack import pack
from mini.scenes import draw
from mini.tokens import CONTEXT, encode, train_tokenizer
from mini.training import Step, checkpoint_path, fit, to_images, to_tensor

CAPTIONS = [caption for name in PROMPT_SETS for caption in draw_captions(name, 8, seed=1)]
TEXTS = [caption.text for caption in CAPTIONS]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.stack([draw(caption.scene) for caption in CAPTIONS])


@pytest.fixture(scope="module")
def clip_folder(images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP, saved."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = train_tokenizer(TEXTS)
    train_clip.save(folder, train_clip.Learner(len(tokenizer)), tokenizer)
    return folder


@pytest.fixture(scope="module")
def texts(clip_folder: Path) -> TextInputs:
    return embed_texts(*train_clip.text_encoder(clip_folder), TEXTS, "cpu")


def settings(steps: int, **values: Any) -> dict[str, Any]:
    return {"steps": steps, "batch": 8, "learning_rate": 2e-3, "seed": 0, **values}


def falls(losses: list[float], part: int = 5) -> bool:
    return float(np.mean(losses[-part:])) < 0.9 * float(np.mean(losses[:part]))


def learns(train: Callable[[float], tuple[Any, list[float]]], rate: float, part: int = 20) -> Any:
    """What a training makes at a learning rate, whose last losses lie below those of the same steps without learning."""
    _, still = train(0.0)
    model, losses = train(rate)
    assert np.mean(losses[-part:]) < 0.95 * np.mean(still[-part:])
    return model


def test_scenes_are_written_and_read_back(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    write_scenes(tmp_path / "scenes", CAPTIONS)
    read, captions = read_scenes(tmp_path / "scenes")
    assert captions == CAPTIONS
    np.testing.assert_array_equal(read, images)


def test_several_things_stand_in_scenes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        draw_scenes, "load_settings", lambda _: {"untidy": 3, "tidy": 6, "several": 6, "seed": 1}
    )
    draw_scenes.main()
    _, tidy = read_scenes(draw_scenes.TIDY)
    pictures, several = read_scenes(draw_scenes.SEVERAL)
    assert len(pictures) == len(several) >= 6, "every one of `relations` has two"
    assert min(len(caption.scene.things) for caption in several) >= 2
    assert {len(caption.scene.things) for caption in tidy} >= {1, 2}
    assert not {caption.scene for caption in tidy} & {caption.scene for caption in several}


def test_pictures_survive_the_way_to_the_networks_and_back(images: NDArray[np.uint8]) -> None:
    tensor = to_tensor(images)
    assert tensor.min() >= -1 and tensor.max() <= 1
    np.testing.assert_array_equal(to_images(tensor), images)


class TestFit:
    """The loop itself, on a line through points."""

    @staticmethod
    def line(stop_at: int | None = None) -> tuple[nn.Linear, Any]:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)

        def loss_of(step: Step) -> Tensor:
            if step.number == stop_at:
                raise KeyboardInterrupt
            x = torch.randn(16, 2, generator=step.generator)
            return (model(x) - x @ torch.tensor([[1.0], [-2.0]])).square().mean()

        return model, loss_of

    def test_learns_the_line(self) -> None:
        model, loss_of = self.line()
        losses = fit("line", model, loss_of, settings(400, learning_rate=0.05, average=0.9))
        assert len(losses) == 400 and losses[-1] < 1e-3
        np.testing.assert_allclose(model.weight.detach().numpy(), [[1, -2]], atol=0.05)

    def test_a_killed_training_ends_as_if_it_had_never_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole, loss_of = self.line()
        fit("whole", whole, loss_of, settings(60))
        monkeypatch.setattr("mini.training.SAVE_EVERY", -1)
        killed, loss_of = self.line(stop_at=37)
        with pytest.raises(KeyboardInterrupt):
            fit("killed", killed, loss_of, settings(60))
        assert checkpoint_path("killed", settings(60)).is_file()
        again, loss_of = self.line()
        losses = fit("killed", again, loss_of, settings(60))
        assert len(losses) == 60 - 37
        torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)

    def test_other_settings_start_afresh(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mini.training.SAVE_EVERY", -1)
        model, loss_of = self.line()
        fit("line", model, loss_of, settings(20))
        assert len(fit("line", model, loss_of, settings(21))) == 21

    def test_a_loss_that_is_no_number_stops_it(self) -> None:
        model, _ = self.line()
        with pytest.raises(FloatingPointError, match=r"line: loss nan at step 0"):
            fit("line", model, lambda step: model.weight.sum() * float("nan"), settings(5))


def test_tokenizer_keeps_our_words_whole_and_takes_any_text() -> None:
    tokenizer = train_tokenizer(TEXTS)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a red circle").input_ids)[1:-1] == [
        "a</w>",
        "red</w>",
        "circle</w>",
    ]
    ids = encode(tokenizer, ["", "漢字 ☂ <b>", "word " * 200])
    assert ids.shape == (3, CONTEXT)
    assert (ids.max(dim=1).values == tokenizer.eos_token_id).all(), "the end mark has the highest number"


def test_clip_learns_and_its_text_tower_is_the_same_in_both_libraries(
    images: NDArray[np.uint8], tmp_path: Path
) -> None:
    learner, tokenizer, losses = train_clip.train(images, CAPTIONS, settings(60, batch=16), "cpu")
    alone = round(train_clip.ALONE * 60)
    assert falls(losses[:alone]), "the text side by itself"
    assert falls(losses[alone:]), "both sides"
    train_clip.save(tmp_path, learner, tokenizer)

    import open_clip

    where = f"local-dir:{tmp_path}"
    model, _, preprocess = open_clip.create_model_and_transforms(where)
    tokens = open_clip.get_tokenizer(where)(TEXTS[:9])
    encoder, own = train_clip.text_encoder(tmp_path)
    assert torch.equal(tokens, encode(own, TEXTS[:9]))
    with torch.no_grad():
        ours, theirs = model.eval().encode_text(tokens), encoder(tokens).text_embeds
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    from PIL import Image

    torch.testing.assert_close(
        preprocess(Image.fromarray(images[0])), to_tensor(images[:1])[0], rtol=0, atol=1e-6
    )


def test_what_a_caption_states_becomes_numbers() -> None:
    caption = next(c for c in CAPTIONS if c.statement.relation)
    numbers = train_clip.stated(caption.statement)
    assert len(numbers) == len(train_clip.CLASSES)
    assert all(0 <= number < classes for number, classes in zip(numbers, train_clip.CLASSES, strict=True))
    silent = replace(caption.statement, relation=None, groups=())
    assert sum(train_clip.stated(silent)) == 0
    assert train_clip.held(caption.scene).shape == (train_clip.HELD,)


@pytest.fixture(scope="module")
def vae(images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("vae"))
        model, losses = train_vae.train(images, settings(40), "cpu")
    assert falls(losses)
    return model


def test_latents_have_unit_size(vae: Any, images: NDArray[np.uint8]) -> None:
    with torch.no_grad():
        latents = vae.encode(to_tensor(images)).latent_dist.mean * vae.config.scaling_factor
    assert latents.shape[1:] == (train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)
    assert latents.std() == pytest.approx(1, abs=0.02)


def test_tiny_and_token_autoencoders_learn(
    vae: Any, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert falls(train_tiny.train(images, vae, settings(60), "cpu")[1])
    monkeypatch.setattr(train_vq, "CODES", 16)
    monkeypatch.setattr(train_vq, "new_vq", lambda make=train_vq.new_vq: make(16))
    model, losses = train_vq.train(images, vae, settings(40), "cpu")
    assert falls(losses)
    assert model.quantize.embedding.weight.shape == (16, train_vae.LATENTS)


def call(folder: Path, **arguments: Any) -> NDArray[np.uint8]:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(5)
    return np.asarray(pipe("a red circle", generator=generator, output_type="np", **arguments).images[0])


def test_diffusion_and_its_student_learn_and_load(
    vae: Any, texts: TextInputs, clip_folder: Path, tmp_path: Path
) -> None:
    shade = torch.randn(len(TEXTS), 1, 1, 1, generator=torch.Generator().manual_seed(0))
    latents = shade.expand(-1, train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)  # quickly learned
    unet = learns(
        lambda rate: train_diffusion.train(latents, texts, settings(50, learning_rate=rate), "cpu"), 2e-3
    )
    encoder, tokenizer = train_clip.text_encoder(clip_folder)
    scheduler = train_diffusion.new_scheduler()
    pipe = train_diffusion.pipeline(vae, encoder, tokenizer, unet, scheduler)
    pipe.save_pretrained(tmp_path / "diffusion")
    picture = call(tmp_path / "diffusion", num_inference_steps=3)
    assert picture.shape == (64, 64, 3)
    np.testing.assert_array_equal(picture, call(tmp_path / "diffusion", num_inference_steps=3))

    from diffusers import AutoencoderTiny

    AutoencoderTiny.save_pretrained(train_tiny.new_tiny(), tmp_path / "tiny")
    pipe.vae = AutoencoderTiny.from_pretrained(tmp_path / "tiny", dtype=torch.float32)
    pipe.to(torch.float32)("a star", num_inference_steps=2)

    same, _ = train_diffusion.train(
        latents, texts, settings(2, learning_rate=0.0), "cpu", copy.deepcopy(unet), "tuned"
    )
    for tuned, trained in zip(same.parameters(), unet.parameters(), strict=True):
        torch.testing.assert_close(tuned, trained, msg="training on starts from what was trained")

    # Untrained, it has a path to be held to as well, and is the same in every run: fifty steps carry last bits far.
    torch.manual_seed(0)
    teacher = train_diffusion.new_unet(train_vae.LATENTS, texts.states.shape[2])
    student = learns(
        lambda rate: train_student.train(
            teacher, scheduler, latents, texts, settings(40, guidance=2.0, learning_rate=rate), "cpu"
        ),
        2e-4,
    )
    pipe = train_diffusion.pipeline(vae, encoder, tokenizer, student, train_student.new_scheduler(scheduler))
    pipe.save_pretrained(tmp_path / "student")
    assert call(tmp_path / "student", num_inference_steps=2, guidance_scale=1.0).shape == (64, 64, 3)


def test_the_student_starts_where_the_path_ends() -> None:
    noisy, clean = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    there = train_student.consistent(clean, noisy, torch.tensor([0, 999]))
    torch.testing.assert_close(there[0], noisy[0])
    torch.testing.assert_close(there[1], clean[1], rtol=1e-3, atol=1e-3)


def test_velocity_leads_back_to_the_latent_and_the_noise() -> None:
    scheduler = train_diffusion.new_scheduler()
    clean, noise, times = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([10, 500, 999])
    velocity = scheduler.get_velocity(clean, noise, times)
    model = type("Knowing", (), {"__call__": lambda *_: type("Out", (), {"sample": velocity})})()
    noisy = scheduler.add_noise(clean, noise, times)
    end, away = train_student.path_end(model, noisy, times, torch.empty(0), scheduler.alphas_cumprod)
    torch.testing.assert_close(end, clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(away, noise, rtol=1e-4, atol=1e-4)


def test_masked_model_learns_and_loads(vae: Any, clip_folder: Path, tmp_path: Path) -> None:
    encoder, tokenizer = train_clip.text_encoder(clip_folder)
    vq = train_vq.new_vq(16)
    tokens = (
        torch.arange(len(TEXTS))[:, None, None].expand(-1, train_vae.SIDE, train_vae.SIDE) % 16
    )  # one token a picture: quickly learned
    inputs = embed_texts(encoder, tokenizer, TEXTS, "cpu", layer=-2)
    transformer, losses = train_masked.train(tokens, inputs, 16, settings(30, learning_rate=5e-3), "cpu")
    assert falls(losses)
    before = vq.decode(torch.zeros(1, train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)).sample
    train_masked.pipeline(vq, encoder, tokenizer, transformer).save_pretrained(tmp_path)
    assert call(tmp_path, num_inference_steps=3).shape == (64, 64, 3)
    after = vq.float().decode(torch.zeros(1, train_vae.LATENTS, train_vae.SIDE, train_vae.SIDE)).sample
    torch.testing.assert_close(after, before / 2 + 0.5, rtol=0.02, atol=0.02)


def test_nima_learns_and_loads(images: NDArray[np.uint8], tmp_path: Path) -> None:
    model, losses = train_nima.train(images, settings(200, batch=16), "cpu")
    assert falls(losses, 20)
    train_nima.save(tmp_path, model)
    scores = [
        train_nima.mean_score(one(to_tensor(images))) for one in (model, train_nima.load_nima(tmp_path))
    ]
    # Half precision on disk shifts all scores alike by some hundredths; which picture is better stays.
    assert torch.corrcoef(torch.stack(scores))[0, 1] > 0.995
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=0.2)


def test_earth_movers_distance_by_hand() -> None:
    sure = torch.full((1, 10), -100.0)
    sure[0, 3] = 100
    wanted = torch.zeros(1, 10)
    wanted[0, 5] = 1
    assert train_nima.emd_loss(sure, wanted).item() == pytest.approx((2 / 10) ** 0.5, abs=1e-5)
    assert train_nima.mean_score(sure).item() == pytest.approx(4)


def test_crops_keep_to_the_textures_grid(images: NDArray[np.uint8]) -> None:
    whole = to_tensor(images[:6])
    for number in range(5):
        for picture, crop in zip(whole, train_vae.cropped(whole, Step(number, 10, 0)), strict=True):
            places = [
                (top, left)
                for top in range(0, 33, train_vae.GRID)
                for left in range(0, 33, train_vae.GRID)
                if torch.equal(picture[:, top : top + 32, left : left + 32], crop)
            ]
            assert places


def test_normalisation_is_measured_for_the_weights_that_are_kept(images: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    nima = train_nima.new_nima()
    before = nima.bn1.running_mean.clone()
    train_nima.settle(nima, images, settings(0), "cpu", batches=2)
    pictures = [
        to_tensor(train_nima.spoiled(images[np.sort(rng.integers(0, len(images), 32))], rng)[0])
        for rng in [np.random.default_rng(0)]
        for _ in range(2)
    ]
    with torch.no_grad():
        wanted = torch.stack([nima.conv_stem(part).mean(dim=(0, 2, 3)) for part in pictures]).mean(dim=0)
    assert not torch.allclose(before, wanted) and not nima.training
    torch.testing.assert_close(nima.bn1.running_mean, wanted, rtol=1e-3, atol=1e-3)


def test_packing_replaces_what_lay_there(tmp_path: Path) -> None:
    for name in ("prompts", "weights/clip"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "file").write_text(name)
    for name in ("report.json", "report.md"):
        (tmp_path / "data" / name).write_text("12")
    (tmp_path / "mini" / "weights" / "old").mkdir(parents=True)
    assert pack(tmp_path / "data", tmp_path / "mini") == len("prompts" + "weights/clip") + 4
    assert sorted(path.name for path in (tmp_path / "mini" / "weights").iterdir()) == ["clip"]
    assert (tmp_path / "mini" / "weights" / "clip" / "file").read_text() == "weights/clip"
