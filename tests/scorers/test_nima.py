"""NIMA gives what the original gives, from the file to the score."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.scorers.base import ImageBatch
from promptroute.scorers.nima import SIDE, Nima, to_pixels

NAMES = ("img_a.png", "img_b.jpg", "img_c.png", "img_d.png")


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((golden / "nima_expected.json").read_text())
    return values


def weights(golden: Path) -> str:
    return str(golden / "nima_mobilenet_random.hdf5")


def mean(checkpoint: Path | str, images: list[Image.Image]) -> float:
    return float(Nima(checkpoint=str(checkpoint)).score(ImageBatch(images))["mean"][0])


@pytest.mark.parametrize("padding", ["symmetric", "asymmetric"])
def test_reproduces_the_original(golden: Path, expected: Any, padding: Any) -> None:
    nima = Nima(checkpoint=weights(golden), sha256=expected["weights"]["sha256"], padding=padding)
    images = [Image.open(golden / "nima_images" / name) for name in NAMES]
    found, means = nima.distributions(images), nima.score(ImageBatch(images))["mean"]
    for name, row, mean in zip(NAMES, found, means, strict=True):
        wanted = expected["images"][name]["results"]["nearest"][padding]
        np.testing.assert_allclose(row, wanted["probs"], atol=1e-5)
        assert mean == pytest.approx(wanted["mean"], abs=1e-4)
        assert row.sum() == pytest.approx(1)


def test_reproduces_its_pixels(golden: Path, expected: Any) -> None:
    for name in NAMES:
        pixels = to_pixels(Image.open(golden / "nima_images" / name))
        assert pixels.shape == (3, SIDE, SIDE) and pixels.dtype == np.float32
        bytes_ = np.round((pixels.transpose(1, 2, 0).astype(np.float64) + 1) * 127.5).astype(np.uint8)
        sum_ = hashlib.sha256(np.ascontiguousarray(bytes_).tobytes()).hexdigest()
        assert sum_ == expected["images"][name]["results"]["nearest"]["input_sha256"]


def test_auto_padding(golden: Path, expected: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    image = [Image.open(golden / "nima_images" / "img_a.png")]
    results = expected["images"]["img_a.png"]["results"]["nearest"]
    assert mean(weights(golden), image) == pytest.approx(results["symmetric"]["mean"], abs=1e-4)
    newer = tmp_path / "newer.hdf5"
    shutil.copy(weights(golden), newer)
    with h5py.File(newer, "r+") as file:  # as a newer Keras lists it: text, no symmetric pads, other names
        names = [name.decode() for name in file.attrs["layer_names"]]
        file.move("dense_1", "dense")
        kept = ["dense" if name == "dense_1" else name for name in names if not name.startswith("conv_pad_")]
        del file.attrs["layer_names"]
        file.attrs["layer_names"] = kept
    assert mean(newer, image) == pytest.approx(results["asymmetric"]["mean"], abs=1e-4)


def test_half_precision(golden: Path, tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model("mobilenetv1_100", pretrained=False, num_classes=10, bn_eps=1e-3).half()
    save_file(network.state_dict(), tmp_path / "nima.safetensors")
    image = Image.open(golden / "nima_images" / "img_b.jpg")
    found = Nima(checkpoint=str(tmp_path / "nima.safetensors")).distributions([image, image])
    with torch.inference_mode():
        logits = network.float().eval()(torch.from_numpy(to_pixels(image))[None])
    np.testing.assert_allclose(found[0], torch.softmax(logits, 1)[0], atol=1e-6)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_wrong_weights(golden: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torch import zeros

    image = [Image.new("RGB", (8, 8))]
    with pytest.raises(UserError, match=r"nowhere: NIMA's weights are not there.*github.com/idealo"):
        mean(tmp_path / "nowhere", image)
    with pytest.raises(UserError, match=r"SHA-256 is 08f5.*, expected 0000"):
        Nima(checkpoint=weights(golden), sha256="0000").weights()
    with pytest.raises(UserError, match="padding is 'both'; expected 'auto', 'symmetric' or 'asymmetric'"):
        Nima(checkpoint=weights(golden), padding="both")
    (tmp_path / "corrupt.hdf5").write_bytes(Path(weights(golden)).read_bytes()[:5000])
    with pytest.raises(UserError, match=r"corrupt\.hdf5: not a readable file of Keras weights"):
        mean(tmp_path / "corrupt.hdf5", image)
    save_file({"classifier.weight": zeros(10, 1024), "more": zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        UserError, match=r"lacks \['blocks.0.0.bn1.bias'.*has \['more'\] \(1\) that it does not have"
    ):
        mean(tmp_path / "other.safetensors", image)
    (tmp_path / "corrupt.safetensors").write_bytes(b"corrupt")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        mean(tmp_path / "corrupt.safetensors", image)
