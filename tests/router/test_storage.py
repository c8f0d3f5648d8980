"""The router folder: what it holds, and what is refused of one that comes from anywhere."""

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.io.files import sha256
from promptroute.router import parts as module
from promptroute.router.card import model_card
from promptroute.router.router import Router
from promptroute.router.seen import digests, seen
from promptroute.router.types import ModelInfo
from promptroute.routing.search_policy import SearchFacts

from .made import (
    AXES,
    MODELS,
    PRICED,
    UNIT,
    Axes,
    guaranteed,
    policies,
    router,
    saved_router,
    search,
    training,
    with_fallback,
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Router, Path]:
    return saved_router(tmp_path, seen=digests(["A robot ", "a sheep"]))


def list_again(folder: Path) -> None:
    """Write the manifest as whoever forges a folder would."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"]
    listed = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    (folder / "manifest.json").write_text(json.dumps(listed))


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((folder / "router.json").read_text())
    edit(facts)
    (folder / "router.json").write_text(json.dumps(facts))
    list_again(folder)


def drop(*path: str) -> Callable[[dict[str, Any]], Any]:
    def edit(facts: dict[str, Any]) -> None:
        for key in path[:-1]:
            facts = facts[key]
        del facts[path[-1]]

    return edit


def refused(folder: Path, match: str) -> None:
    with pytest.raises(UserError, match=match):
        Router.load(folder)


class TestSaving:
    def test_bit_equal(self, saved: tuple[Router, Path]) -> None:
        own, folder = saved
        loaded = Router.load(folder)
        prompts = list(training()[0].texts)
        np.testing.assert_array_equal(loaded.predict(prompts), own.predict(prompts))
        for name in ("models", "quality", "encoders", "policy", "compared", "about"):
            assert getattr(loaded, name) == getattr(own, name), name
        assert loaded.route(prompts) == own.route(prompts)
        raw = {"nima": np.random.default_rng(1).normal(size=(4, 3)), "clip": np.ones((4, 3))}
        np.testing.assert_array_equal(loaded.quality.of(raw), own.quality.of(raw))

    @pytest.mark.parametrize("policy", sorted(policies()))
    def test_every_policy_decides_alike(self, saved: tuple[Router, Path], policy: str) -> None:
        own = dataclasses.replace(saved[0], policy=policies()[policy])
        own.save(saved[1], predictor=saved[1].parent / "predictor")
        loaded = Router.load(saved[1])
        assert loaded.policy == own.policy
        prompts = list(training()[0].texts)
        assert loaded.route(prompts) == own.route(prompts)

    def test_json_and_safetensors_alone(self, saved: tuple[Router, Path], tmp_path: Path) -> None:
        own, folder = saved
        suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert suffixes == {".json", ".safetensors", ".md"}
        assert str(tmp_path) not in (folder / "router.json").read_text()
        (tmp_path / "predictor").rename(tmp_path / "gone")
        moved = folder.rename(tmp_path / "elsewhere")
        assert Router.load(moved).route(["a robot"]) == own.route(["a robot"])

    def test_whole_or_not_at_all(self, saved: tuple[Router, Path], tmp_path: Path) -> None:
        own, folder = saved
        with pytest.raises(FileNotFoundError):
            own.save(folder, predictor=tmp_path / "absent")
        assert Router.load(folder).route(["a robot"])
        (folder / "left-over.json").write_text("{}")
        own.save(folder, predictor=tmp_path / "predictor")
        assert sorted(path.name for path in folder.iterdir()) == [
            "README.md", "arrays.safetensors", "manifest.json", "predictor", "router.json",
        ]  # fmt: skip
        assert sorted(path.name for path in tmp_path.iterdir()) == ["predictor", "router"]

    def test_full_disk(
        self, saved: tuple[Router, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space") as caught:
            saved[0].save(tmp_path / "full", saved[1] / "predictor")
        assert caught.value.errno == errno.ENOSPC and not (tmp_path / "full").exists()

    def test_seen_texts(self, saved: tuple[Router, Path]) -> None:
        known = Router.load(saved[1]).seen
        assert seen(["a robot", "A SHEEP", "a dog"], known).tolist() == [True, True, False]

    def test_fallback(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "build_encoders", lambda *_: {"axes": Axes()})
        own, folder = saved_router(tmp_path, with_fallback(policies()["cost_aware"]), encoders=AXES)
        loaded = Router.load(folder)
        assert loaded.policy == own.policy
        np.testing.assert_array_equal(loaded.policy.arrays()["rows"], UNIT[:1])
        assert loaded.assess(["odd", "hard"]).ood.tolist() == [True, False]
        assert "all but 5.0% of the validation prompts" in (folder / "README.md").read_text()
        for edit in (
            drop("policy", "threshold"),
            drop("policy", "encoder"),
            drop("policy", "policy", "calibration"),
            lambda facts: facts["policy"].update(encoder="other"),
            lambda facts: facts["policy"].update(neighbours=0),
            lambda facts: facts["policy"].update(threshold="far"),
            lambda facts: facts["policy"]["policy"]["calibration"].update(single=3),
        ):
            own.save(folder, predictor=tmp_path / "predictor")
            change(folder, edit)
            refused(folder, r"router\.json: ")


class TestCard:
    @pytest.mark.parametrize("threshold", [-0.15, None])
    def test_guarantee(self, saved: tuple[Router, Path], threshold: float | None) -> None:
        policy = guaranteed(threshold)
        assert policy.guarantee is not None
        own = dataclasses.replace(saved[0], policy=policy)
        own.save(saved[1], predictor=saved[1].parent / "predictor")
        card = (saved[1] / "README.md").read_text()
        assert f"Guarantee, against Expensive: {policy.guarantee.statement}." in card
        assert ("conformal risk control" in card) == (threshold is not None)
        assert "It decides by: guaranteed, against Expensive" in card

    def test_search(self) -> None:
        """Independent models of sd 0.5, first images 50 and 50 %, 1.25 images: as they were made."""
        told = {"searched": {"quality": 5.2, "fresh": 5.05}}
        card = model_card(router(search(), models=PRICED, about=told), {}, {})
        assert "Images are judged by 1 · nima, the same score" in card
        assert (
            "the kept images' quality is 5.2000; the best single model's is 5.0000. On fresh images" in card
        )
        assert "it is 5.0500" in card and "A prompt takes 1.25 images on average." in card
        assert "First images, of the prompts: Middle 50 %, Cheap 50 %." in card
        assert "| model | sd | Expensive | Middle | Cheap |\n| --- | --- | --- | --- | --- |\n" in card
        assert "| Middle | 0.5 | 0.00 | 1.00 | 0.00 |\n" in card
        assert "Scoring an image costs $0.01 per 1000" in card and "90.0% lie within" in card
        told["searched"]["fresh"] = None  # type: ignore[assignment]
        card = model_card(router(search(), models=PRICED, about=told), {}, {})
        assert "is not known: there are no scores of single images to judge on." in card
        assert "### Search" not in model_card(router(), {}, {})

    def test_search_of_many(self) -> None:
        """24 models: no matrix of 24 columns, and no line that a page can't show."""
        facts = SearchFacts(prompts=90, coverage=0.9, single_images=False, first=[1 / 24] * 24, images=[1.0])
        many = [ModelInfo(f"m{k}", f"Model | {k}", 1e-4, 5.0) for k in range(24)]
        covariance = np.diag(np.arange(1.0, 25.0))
        covariance[3, 7] = covariance[7, 3] = np.sqrt(4.0 * 8.0) / 2
        own = router(search(covariance, facts=facts), models=many)
        card = model_card(own, {}, {})
        assert "| Model \\| 3 | Model \\| 7 | 0.50 |" in card and card.count("| 0.00 |") == 9
        assert "Model \\| 7 4 % and 16 more models." in card
        assert max(map(len, card.splitlines())) < 800

    def test_every_section(self, saved: tuple[Router, Path]) -> None:
        card = (saved[1] / "README.md").read_text()
        heads = [line for line in card.splitlines() if line.startswith("## ")]
        assert heads == [
            f"## {name}" for name in ("Models", "Quality", "Choice", "Predictor", "Data", "Limits")
        ]
        assert "| expensive | Expensive | 1.0000 | 5.0000 |" in card
        assert "| within | cheapest within, to keep cost: ε = " in card
        assert '`{"rule": "by hand"}`' in card and "Not recorded." in card

    def test_other_peoples_text(self, saved: tuple[Router, Path]) -> None:
        own = dataclasses.replace(
            saved[0],
            models=[ModelInfo("expensive", "a | b", 1e-3, 5.0), *MODELS[1:]],
            about={"note": "one\n# two", "cost": "`x`"},
        )
        own.save(saved[1], predictor=saved[1].parent / "predictor")
        card = (saved[1] / "README.md").read_text()
        assert r"| a \| b |" in card and "Note: one # two." in card and "\"'x'\"" in card


class TestRefused:
    def test_missing_and_foreign(self, saved: tuple[Router, Path], tmp_path: Path) -> None:
        refused(tmp_path / "absent", "absent: no such router folder; train a router")
        refused(tmp_path / "predictor", r"router\.json: no such file; train it again")
        (saved[1] / "router.json").write_text("[1]")
        refused(saved[1], "a router of format None, not 2")

    @pytest.mark.parametrize(
        ("number", "why"), [(1, "an older version wrote it, whose policies"), (99, "reads format 2")]
    )
    def test_other_formats(self, saved: tuple[Router, Path], number: int, why: str) -> None:
        change(saved[1], lambda facts: facts.update(format=number))
        (saved[1] / "manifest.json").unlink()
        refused(saved[1], rf"a router of format {number}, not 2: .*{why}.*train it again")

    @pytest.mark.parametrize(
        "name",
        ["router.json", "manifest.json", "arrays.safetensors", "README.md", "predictor/predictor.json", "predictor/arrays.safetensors"],
    )  # fmt: skip
    @pytest.mark.parametrize("fault", ["missing", "half", "empty", "bit"])
    def test_corrupt(self, saved: tuple[Router, Path], name: str, fault: str) -> None:
        file = saved[1] / name
        content = file.read_bytes()
        if fault == "missing":
            file.unlink()
        elif fault == "bit":
            middle = len(content) // 2
            file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        else:
            file.write_bytes(content[: len(content) // 2] if fault == "half" else b"")
        refused(saved[1], rf"{'.*' if name == 'manifest.json' else name}.*train it again")

    def test_foreign_file(self, saved: tuple[Router, Path]) -> None:
        (saved[1] / "predictor" / "run.py").write_text("print()")
        refused(saved[1], r"predictor/run\.py: no file of this router")

    def test_link(self, saved: tuple[Router, Path], tmp_path: Path) -> None:
        """DVC puts links for files where `cache.type` says so; what they name is checked as any file."""
        file, content = saved[1] / "README.md", tmp_path / "README.md"
        file.rename(content)
        file.symlink_to(content)
        Router.load(saved[1])
        content.write_text("another")
        refused(saved[1], r"README\.md: changed since")
        for target in ("/dev/zero", "/proc/self/status", tmp_path, tmp_path / "absent", "README.md"):
            file.unlink()
            file.symlink_to(target)
            refused(saved[1], r"README\.md: no file of this router")

    @pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "a\\b", ""])
    def test_path_out_of_the_folder(self, saved: tuple[Router, Path], path: str) -> None:
        listed = json.loads((saved[1] / "manifest.json").read_text())
        (saved[1] / "manifest.json").write_text(json.dumps({**listed, path: "0" * 64}))
        refused(saved[1], r"manifest\.json: path .* may leave the folder")

    @pytest.mark.parametrize("name", ["../up", "a/b", "A", ""])
    def test_encoder_names(self, saved: tuple[Router, Path], name: str) -> None:
        section = {"_target_": "promptroute.encoders.clip_text.ClipTextEncoder"}
        change(saved[1], lambda facts: facts.update(encoders={name: section}))
        refused(saved[1], r"router\.json: not a whole router \(encoders\.")

    @pytest.mark.parametrize("name", ["router.json", "manifest.json"])
    def test_no_file(self, saved: tuple[Router, Path], name: str) -> None:
        file = saved[1] / name
        content = file.read_text()
        file.unlink()
        file.mkdir()
        refused(saved[1], rf"{name}: not readable as JSON \(IsADirectoryError\)")
        file.rmdir()
        file.symlink_to(name)
        refused(saved[1], rf"{name}: not readable as JSON \(OSError\)")
        file.unlink()
        file.write_text(content.rstrip()[:-1] + ", " + content.lstrip()[1:])  # every key twice
        refused(saved[1], rf"{name}: not readable as JSON \(ValueError\)")

    def test_what_never_ends(self, saved: tuple[Router, Path]) -> None:
        for name in ("router.json", "manifest.json"):
            content = (saved[1] / name).read_bytes()
            (saved[1] / name).unlink()
            os.mkfifo(saved[1] / name)
            refused(saved[1], rf"{name}: no file")
            (saved[1] / name).unlink()
            (saved[1] / name).symlink_to("/dev/zero")
            refused(saved[1], rf"{name}: no file")
            (saved[1] / name).unlink()
            (saved[1] / name).write_bytes(content)

    def test_encoder_elsewhere(self, saved: tuple[Router, Path], tmp_path: Path) -> None:
        section = {**AXES["axes"], "folder": str(tmp_path)}
        change(saved[1], lambda facts: facts.update(encoders={"axes": section}))
        with pytest.raises(UserError, match="folder names a place outside of the router's"):
            Router.load(saved[1]).route(["a robot"])

    def test_large_and_deep_json(self, saved: tuple[Router, Path]) -> None:
        file = saved[1] / "router.json"
        content = file.read_text()
        file.write_text(content.rstrip()[:-1] + ', "about2": ' + "[" * 60 + "]" * 60 + "}")
        refused(saved[1], "nested deeper than 40 levels")
        file.write_text("[" * 200_000)
        refused(saved[1], "not readable as JSON")
        file.write_text(" " * 5_000_000 + content)
        refused(saved[1], "larger than 4000000 bytes")

    @pytest.mark.parametrize("label", ["a\x1b[31m", "a\u202eb", "a\nb", "\x00"])
    def test_control_characters_in_labels(self, saved: tuple[Router, Path], label: str) -> None:
        change(saved[1], lambda facts: facts["models"][1].update(label=label))
        refused(saved[1], r"not a whole router \(models\.1\.label: .*control character")

    @pytest.mark.parametrize(
        "edit",
        [
            *(drop(key) for key in ("models", "quality", "encoders", "fingerprints", "policy", "compared", "about")),
            drop("quality", "spread", "clip"),
            drop("policy", "calibration", "single"),
            lambda facts: facts["models"].pop(),
            lambda facts: facts["models"].append(facts["models"][0]),
            lambda facts: facts["models"][1].update(name="expensive"),
            lambda facts: facts["models"][1].update(name="../expensive"),
            lambda facts: facts["models"][1].update(cost="expensive"),
            lambda facts: facts["models"][1].update(cost=-1.0),
            lambda facts: facts["models"][1].update(cost=float("nan")),
            lambda facts: facts["models"][1].update(colour="red"),
            lambda facts: facts["quality"]["spread"].update(clip=None),
            lambda facts: facts.update(models=None),
            lambda facts: facts.update(encoders=[]),
            lambda facts: facts.update(colour="red"),
            lambda facts: facts["policy"].update(calibration=None, _target_="promptroute.routing.wrappers.WithMargin", policy={"_target_": "promptroute.routing.policies.CostAware", "tradeoff": 1.0}, tradeoff=None),
        ],
    )  # fmt: skip
    def test_parts_that_do_not_fit(
        self, saved: tuple[Router, Path], edit: Callable[[dict[str, Any]], Any]
    ) -> None:
        change(saved[1], edit)
        refused(saved[1], r"router\.json: ")

    @pytest.mark.parametrize(
        "edit",
        [
            drop("_target_"),
            lambda policy: policy.update(_target_="os.system"),
            lambda policy: policy.update(_target_="promptroute.routing.costs.Serverless"),
            lambda policy: policy.update(_target_="promptroute.routing.policies.Greedy"),
            lambda policy: policy.update(_target_="promptroute.routing.policies.Oracle", tradeoff=None),
            lambda policy: policy.update(_target_=None),
            lambda policy: policy.update(tradeoff="much"),
            lambda policy: policy.update(tradeoff=-1.0),
            lambda policy: policy.update(tradeoff=None),
            lambda policy: policy.update(target="speed"),
            lambda policy: policy.update(colour="red"),
            lambda policy: policy["calibration"].update(mean_quality=[1.0]),
        ],
    )
    @pytest.mark.parametrize("place", ["policy", "compared"])
    def test_policies(
        self, saved: tuple[Router, Path], edit: Callable[[dict[str, Any]], Any], place: str
    ) -> None:
        def inside(facts: dict[str, Any]) -> None:
            if place == "compared":
                facts["compared"]["own"] = json.loads(json.dumps(facts["policy"]))
            edit(facts["policy"] if place == "policy" else facts["compared"]["own"])

        change(saved[1], inside)
        refused(saved[1], r"router\.json")

    @pytest.mark.parametrize(
        "edit",
        [
            drop("guarantee"),
            drop("guarantee", "alpha"),
            lambda policy: policy["guarantee"].update(single=3),
            lambda policy: policy["guarantee"].update(threshold="low"),
            lambda policy: policy["guarantee"].update(threshold=None),
            lambda policy: policy["guarantee"].update(given=False),
        ],
    )
    def test_guarantees(self, saved: tuple[Router, Path], edit: Callable[[dict[str, Any]], Any]) -> None:
        own = dataclasses.replace(saved[0], policy=guaranteed())
        own.save(saved[1], predictor=saved[1].parent / "predictor")
        change(saved[1], lambda facts: edit(facts["policy"]))
        refused(saved[1], r"router\.json")

    @pytest.mark.parametrize("target", ["os.system", "builtins.eval", "promptroute.io.Source", None])
    def test_encoder_classes(self, saved: tuple[Router, Path], target: Any) -> None:
        section = {"_target_": target, "command": "true"}
        change(saved[1], lambda facts: facts.update(encoders={"own": section}))
        refused(saved[1], r"router\.json: encoder own: _target_ is ")

    def test_unknown_encoder_setting(self, saved: tuple[Router, Path]) -> None:
        section = {
            "_target_": "promptroute.encoders.clip_text.ClipTextEncoder",
            "model": "x",
            "colour": "red",
        }
        change(saved[1], lambda facts: facts.update(encoders={"clip": section}))
        with pytest.raises(UserError, match=r"encoder clip.*colour"):
            Router.load(saved[1]).route(["a robot"])

    def test_encoders_load_lazily(self, saved: tuple[Router, Path], tmp_path: Path) -> None:
        section = {
            "_target_": "promptroute.encoders.clip_text.ClipTextEncoder",
            "model": str(tmp_path / "no-model"),
        }
        change(saved[1], lambda facts: facts.update(encoders={"clip": section}))
        loaded = Router.load(saved[1])
        with pytest.raises(UserError, match=r"the CLIP text encoder .*no-model can't be loaded on cpu"):
            loaded.route(["a robot"])
