"""Views of an image: pooled features, pixels, and an interrogator's words, by tiny random networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.encoders.base import ImageEncoder
from promptroute.encoders.features import MobileNetFeatures, Pixels, PooledFeatures
from promptroute.encoders.interrogator import Blip, Interrogator
from promptroute.io.phrases import read_phrases
from tests.recovery.test_recovered import COLOURS, Hues, Named

ROOT = Path(__file__).parents[2]
NIMA = ROOT / "mini" / "weights" / "nima" / "model.safetensors"
SHARED = ROOT.parent / "shared" / "data" / "images"


def noise(side: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side + 9, 3), np.uint8))


@pytest.fixture(scope="module")
def convnext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random ConvNeXt with its image processor."""
    import torch
    from transformers import ConvNextConfig, ConvNextImageProcessor, ConvNextModel

    folder = tmp_path_factory.mktemp("convnext")
    torch.manual_seed(0)
    ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1])).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BLIP whose tokenizer knows a few words."""
    import torch
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "red", "blue", "star", "ring"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(words), "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3, "encoder_hidden_size": 16}  # fmt: skip
    config = BlipConfig(
        text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=16
    )
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


class TestPooledFeatures:
    def test_rows_alone(self, convnext: Path) -> None:
        encoder = PooledFeatures(model=str(convnext))
        images = [
            noise(70),
            noise(90, 1),
            Image.new("RGBA", (80, 80), (0, 0, 0, 0)),
            Image.new("I;16", (64, 64), 9000),
        ]
        rows = encoder.encode_images(images)
        assert rows.shape == (4, 24) and rows.dtype == np.float32 and np.isfinite(rows).all()
        np.testing.assert_allclose(encoder.encode_images(images[1:2])[0], rows[1], atol=1e-5)
        white = encoder.encode_images([Image.new("RGB", (80, 80), "white")])
        np.testing.assert_allclose(rows[2], white[0], atol=1e-5)

    def test_is_the_reference(self, convnext: Path) -> None:
        """Pooled: the layer norm of the mean over places."""
        import torch
        from transformers import AutoImageProcessor, ConvNextModel

        image, network = noise(70), ConvNextModel.from_pretrained(convnext).eval()
        pixels = AutoImageProcessor.from_pretrained(convnext)(image, return_tensors="pt")
        with torch.inference_mode():
            last = network(**pixels).last_hidden_state
            expected = network.layernorm(last.mean(dim=(2, 3))).numpy()
        np.testing.assert_allclose(
            PooledFeatures(model=str(convnext)).encode_images([image]), expected, atol=1e-5
        )

    def test_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="its revision must be a commit"):
            PooledFeatures(model="facebook/convnext-tiny-224", revision="main").weights()
        with pytest.raises(UserError, match=r"holds no \.safetensors file"):
            PooledFeatures(model=str(tmp_path)).encode_images([noise(64)])
        (tmp_path / "model.safetensors").write_bytes(b"no")
        with pytest.raises(UserError, match=r"the image network .* can't be loaded"):
            PooledFeatures(model=str(tmp_path)).encode_images([noise(64)])


class TestMobileNetFeatures:
    def test_feeds_the_classifier(self) -> None:
        """The small NIMA's own rating is its classifier on these features."""
        from safetensors.numpy import load_file

        from promptroute.scorers.nima import Nima

        images = [noise(64).resize((64, 64)), Image.new("RGB", (64, 64), "red")]
        rows = MobileNetFeatures(checkpoint=str(NIMA), side=64).encode_images(images)
        state = load_file(NIMA)
        logits = rows @ state["classifier.weight"].astype(np.float32).T + state["classifier.bias"]
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected = Nima(checkpoint=str(NIMA), side=64).distributions(images)
        np.testing.assert_allclose(share, expected, atol=1e-4)

    def test_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.safetensors: no such file"):
            MobileNetFeatures(checkpoint=str(tmp_path / "none.safetensors")).weights()
        (tmp_path / "it.safetensors").write_bytes(b"no")
        with pytest.raises(UserError, match="no state of timm's mobilenetv1_100"):
            MobileNetFeatures(checkpoint=str(tmp_path / "it.safetensors")).encode_images([noise(64)])


def test_pixels() -> None:
    rows = Pixels(side=16).encode_images([Image.new("RGB", (40, 20), (1, 2, 3)), noise(64)])
    assert rows.shape == (2, 16 * 16 * 3) and rows[0].reshape(16, 16, 3)[3, 4].tolist() == [1, 2, 3]


class ByHue(Hues):
    """Hues, and a text as the colours that it names.

    Args:
        name: of nothing.
    """

    def encode_texts(self, texts: Any) -> np.ndarray:
        return np.array([np.sum([COLOURS[name] for name in COLOURS if name in text] or [[1, 1, 1]], axis=0) for text in texts], np.float32)  # fmt: skip


class TestInterrogator:
    @pytest.fixture
    def phrases(self, tmp_path: Path) -> Path:
        (tmp_path / "phrases.txt").write_text(
            "# colours\nred\ngreen\nblue\n\n# things\na red wall\na blue wall\n"
        )
        return tmp_path / "phrases.txt"

    def test_nearest_of_each_list(self, phrases: Path) -> None:
        encoder = Interrogator(clip=ByHue(), text=Named(), phrases=str(phrases))
        images = [Image.new("RGB", (9, 9), COLOURS[name]) for name in ("blue", "green")]
        blue, green = encoder.texts(images)
        assert set(blue.split(", ")) == {"blue", "a blue wall"} and green.startswith("green, ")
        np.testing.assert_array_equal(encoder.encode_images(images), Named().encode([blue, green]))
        np.testing.assert_array_equal(
            encoder.encode_texts(["red", "blue", "red"]), Named().encode(["red", "blue", "red"])
        )
        two = Interrogator(clip=ByHue(), text=Named(), phrases=str(phrases), best=2).texts(images)[0]
        assert len(two.split(", ")) == 4

    def test_fingerprint(self, phrases: Path) -> None:
        encoder = Interrogator(clip=ByHue(), text=Named(), phrases=str(phrases))
        before = encoder.fingerprint()
        assert build(encoder.to_section(), "it", ImageEncoder) == encoder
        phrases.write_text("red\nblue\n")
        assert Interrogator(clip=ByHue(), text=Named(), phrases=str(phrases)).fingerprint() != before
        assert Interrogator(clip=ByHue(scale=2.0), text=Named(), phrases=str(phrases)).fingerprint() != before

    def test_caption(self, blip: Path, phrases: Path) -> None:
        caption = Blip(model=str(blip), tokens=5)
        images = [noise(40), noise(50, 1)]
        found = caption.captions(images)
        assert len(found) == 2 and caption.captions(images[1:]) == found[1:]
        texts = Interrogator(clip=ByHue(), text=Named(), phrases=str(phrases), caption=caption).texts(images)
        assert all(
            text.startswith(one) and len(text) > len(one) for text, one in zip(texts, found, strict=True)
        )


class TestPhrases:
    def test_own_lists(self) -> None:
        lists = read_phrases()
        assert {"subjects", "mediums", "styles"} <= set(lists) and sum(map(len, lists.values())) > 100

    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / "it.txt"
        path.write_text("\ufeffone\n\ntwo\none\n# more things\n three \n", encoding="utf-8")
        assert read_phrases(path) == {"phrases": ["one", "two"], "more things": ["three"]}

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "holds no phrase"),
            (b"# a\n# b\nx", "the list 'a' has no phrase"),
            (b"\xff\xfe\x00", "no readable list"),
        ],
    )
    def test_refuses(self, tmp_path: Path, content: bytes, said: str) -> None:
        (tmp_path / "it.txt").write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_phrases(tmp_path / "it.txt")


def test_six_real_images(convnext: Path, blip: Path) -> None:
    """Six images of DiffusionDB through the real code, by tiny random networks: shapes and repeatability, no quality."""
    if not SHARED.is_dir():
        pytest.skip(f"the six real images are not at {SHARED}")
    images = [Image.open(path) for path in sorted(SHARED.glob("*.png"))]
    words = Interrogator(clip=ByHue(), text=Named(), caption=Blip(model=str(blip), tokens=5))
    for encoder, width in ((PooledFeatures(model=str(convnext)), 24), (words, 5), (Pixels(side=32), 3072)):
        rows = encoder.encode_images(images)
        assert rows.shape == (6, width) and np.isfinite(rows).all()
        if encoder is not words:  # hues know few of our phrases
            assert len(np.unique(rows.round(4), axis=0)) == 6
