"""A recovery as a folder, from images to text, on tiny encoders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.encoders.base import ImageEncoder, TextEncoder
from promptroute.recovery import Recovery
from promptroute.recovery.learners.ridge import Ridge
from promptroute.recovery.texts import Bank

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220), "white": (230, 230, 230)}
HERE = "tests.recovery.test_recovered."


class Hues(ImageEncoder):
    """The mean colour.

    Args:
        scale: of it.
    """

    scale: float = 1.0

    def encode_images(self, images: Sequence[Any]) -> np.ndarray:
        return np.stack(
            [self.scale * np.asarray(one.convert("RGB"), np.float32).mean(axis=(0, 1)) for one in images]
        )

    def weights(self) -> dict[str, Any]:
        return {"scale": self.scale}


class Named(TextEncoder):
    """Counts the names of colours."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[0.1, *(text.count(name) for name in COLOURS)] for text in texts], np.float32)

    def weights(self) -> dict[str, Any]:
        return {"dim": 1 + len(COLOURS)}


def plain(name: str, side: int = 8) -> Image.Image:
    return Image.new("RGB", (side, side), COLOURS[name])


@pytest.fixture
def trained() -> Recovery:
    text = Named()
    names = [name for name in COLOURS for _ in range(3)]
    random = np.random.default_rng(0)
    images = [Image.fromarray(np.uint8(np.clip(np.array(COLOURS[name]) + random.normal(0, 9, (8, 8, 3)), 0, 255))) for name in names]  # fmt: skip
    views = {"hues": Hues().encode_images(images)}
    target = text.encode([f"a {name} wall" for name in names])
    learner = Ridge(penalty=(0.01,)).fit(views, target)
    texts = [f"{name} paper" for name in COLOURS]
    return Recovery(
        learner, {"hues": Hues()}, text, Bank(texts, text.encode(texts)), {"colours": list(COLOURS)}
    )


class TestPrompts:
    def test_from_images(self, trained: Recovery) -> None:
        found = trained.prompts([plain("red"), plain("blue", side=30)], k=3)
        assert [some[0].text.split()[0] for some in found] == ["red", "blue"]
        assert all(len(some) == 3 and some[0].cosine >= some[1].cosine >= some[2].cosine for some in found)
        assert {"retrieve", "compose"} == {one.how for some in found for one in some}

    def test_no_images(self, trained: Recovery) -> None:
        with pytest.raises(UserError, match="there are no images"):
            trained.prompts([])


class TestFolder:
    def test_saved(self, trained: Recovery, tmp_path: Path) -> None:
        trained.save(tmp_path / "it")
        again = Recovery.load(tmp_path / "it", allow=[HERE])
        images = [plain(name) for name in COLOURS]
        assert again.prompts(images) == trained.prompts(images)
        assert {path.suffix for path in (tmp_path / "it").iterdir()} == {".json", ".safetensors"}

    def test_stranger_names_a_class(self, trained: Recovery, tmp_path: Path) -> None:
        trained.save(tmp_path / "it")
        with pytest.raises(UserError, match=r"views\.hues: .*Hues, which this may not name"):
            Recovery.load(tmp_path / "it")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"format": 7}, "a recovery of format 7, expected 1"),
            ({"views": {}}, "not a whole recovery"),
            ({"bank": ["one"]}, "the bank has 1 prompts and embeddings"),
            ({"bank": []}, "the bank holds no prompts"),
            ({"state": {"version": 0, "views": {"hues": 3}}}, "made by version 0 of Ridge"),
            ({"state": {"version": 1, "views": {"hues": 5}}}, "not a whole recovery"),
        ],
    )
    def test_spoiled(self, trained: Recovery, tmp_path: Path, change: dict[str, Any], said: str) -> None:
        trained.save(tmp_path / "it")
        facts = json.loads((tmp_path / "it" / "recovery.json").read_text())
        (tmp_path / "it" / "recovery.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(UserError, match=said):
            Recovery.load(tmp_path / "it", allow=[HERE])

    def test_absent_or_corrupt(self, trained: Recovery, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no recovery there; train one first"):
            Recovery.load(tmp_path / "none")
        trained.save(tmp_path / "it")
        (tmp_path / "it" / "arrays.safetensors").write_bytes(b"no")
        with pytest.raises(UserError, match="not a whole recovery"):
            Recovery.load(tmp_path / "it", allow=[HERE])
        (tmp_path / "it" / "recovery.json").write_text("[1]")
        with pytest.raises(UserError, match="a recovery of format None, expected 1"):
            Recovery.load(tmp_path / "it")

    def test_other_weights(self, trained: Recovery, tmp_path: Path) -> None:
        trained.save(tmp_path / "it")
        facts = json.loads((tmp_path / "it" / "recovery.json").read_text())
        facts["views"]["hues"]["scale"] = 2.0
        (tmp_path / "it" / "recovery.json").write_text(json.dumps(facts))
        with pytest.raises(UserError, match="the encoder hues has other weights on this machine"):
            Recovery.load(tmp_path / "it", allow=[HERE]).prompts([plain("red")])


class TestCommand:
    def test_prints(self, trained: Recovery, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from promptroute.cli.main import main

        trained.save(tmp_path / "it")
        plain("green").save(tmp_path / "a.png")
        command = ["recover", str(tmp_path / "a.png"), "-r", str(tmp_path / "it"), "--allow", HERE]
        with pytest.raises(SystemExit) as done:
            main([*command, "--k", "2"])
        lines = capsys.readouterr().out.splitlines()
        assert done.value.code == 0 and lines[0].endswith("a.png") and len(lines) == 3 and "green" in lines[1]
        with pytest.raises(SystemExit):
            main([*command, "--json"])
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["prompts"][0]["prompt"].startswith("green")

    def test_no_image(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from promptroute.cli.main import main

        (tmp_path / "a.png").write_text("words")
        for name, said in (("a.png", "can't be read as an image"), ("none.png", "no such file")):
            with pytest.raises(SystemExit) as done:
                main(["recover", str(tmp_path / name)])
            error = capsys.readouterr().err
            assert done.value.code == 1 and said in error and len(error.splitlines()) == 1
