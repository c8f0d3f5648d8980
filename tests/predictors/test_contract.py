"""What holds for every predictor: the classes of the room, the options of conf/, and a class from elsewhere."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.predictors.base import Predictor
from promptroute.predictors.classifier import Classifier
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.folder import load_predictor, save_predictor
from promptroute.predictors.gbm import Gbm
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.kernel_statistics import KernelStatistics
from promptroute.predictors.knn import Knn
from promptroute.predictors.mean import Mean
from promptroute.predictors.ridge import Ridge
from tests.components import concrete, undocumented

CLASSES = concrete("promptroute.predictors", Predictor)
CLASSIFIERS = [found for found in CLASSES if issubclass(found, Classifier)]
OPTIONS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "predictor").glob("*.yaml"))
ROOM = "promptroute.predictors."
QUICK: dict[str, dict[str, Any]] = {
    "Ridge": {"features": {"characters": True}},
    "Mlp": {"networks": 2, "epochs": 5, "hidden": [8, 4]},
    "Gbm": {"rounds": 10, "min_leaf": 5},
    "Kernel": {"encoder": "one", "width": 2, "components": 3, "min_count": 2},
    "SharedKernel": {"encoder": "one", "width": 2, "components": 3, "min_count": 2},
    "KernelStatistics": {
        "members": {
            "kernel": {"_target_": f"{ROOM}kernel.Kernel", "encoder": "one", "width": 2, "min_count": 2}
        }
    },
    "Ensemble": {
        "members": {
            "ridge": {"_target_": f"{ROOM}ridge.Ridge"},
            "null": {"_target_": f"{ROOM}mean.Mean"},
            "votes": {"_target_": f"{ROOM}cems_frozen.CemsFrozen", "epochs": 1},
        },
        "weighting": "fitted",
    },
    "Cems": {"epochs": 1, "learning_rate": 1e-3},
    "CemsFrozen": {"epochs": 2},
}
"""Settings that make a class quick, where its defaults aren't."""
Fitted = tuple[Predictor, PromptBatch, np.ndarray]
every = pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)


@pytest.fixture(scope="module")
def make(tiny_clip: Path) -> Callable[[type[Predictor]], Predictor]:
    """Build a class as a configuration does."""

    def made(found: type[Predictor]) -> Predictor:
        section = {"_target_": found.class_path(), **QUICK.get(found.__name__, {})}
        if found.__name__ == "Cems":
            section["encoder"] = str(tiny_clip)
        return build(section, "predictor", Predictor)

    return made


@pytest.fixture(scope="module")
def fitted(problem: Any, make: Any) -> Callable[[type[Predictor]], Fitted]:
    """Give a fitted predictor, its training prompts and quality; each class is fitted once."""
    known: dict[type[Predictor], Fitted] = {}

    def get(found: type[Predictor]) -> Fitted:
        if found not in known:
            prompts, quality = problem(60)
            known[found] = make(found).fit(prompts, quality, problem(30, seed=1)), prompts, quality
        return known[found]

    return get


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@every
class TestClass:
    def test_settings_round_trip(self, make: Any, found: type[Predictor]) -> None:
        predictor = make(found)
        section = json.loads(json.dumps(predictor.to_section()))
        again = build(section, "predictor", Predictor)
        assert again.fingerprint() == predictor.fingerprint() and again.to_section() == section
        json.dumps(predictor.fingerprint())

    def test_documents_settings(self, found: type[Predictor]) -> None:
        assert undocumented(found) == []

    def test_refuses_unknown_setting(self, make: Any, found: type[Predictor]) -> None:
        section = make(found).to_section()
        with pytest.raises(UserError, match=r"^predictor\.colour is no setting of"):
            build({**section, "colour": "red"}, "predictor", Predictor)
        for name in found.model_fields:
            with pytest.raises(UserError, match=rf"^predictor\.{name}"):
                build({**section, name: object()}, "predictor", Predictor)


@every
class TestPredict:
    def test_shape(self, fitted: Any, problem: Any, found: type[Predictor]) -> None:
        predicted = fitted(found)[0].predict(problem(25, seed=2)[0])
        assert predicted.shape == (25, 3) and predicted.dtype == np.float64 and np.isfinite(predicted).all()

    def test_rows_are_independent(self, fitted: Any, problem: Any, found: type[Predictor]) -> None:
        predictor, _, _ = fitted(found)
        test, _ = problem(25, seed=2)
        whole = predictor.predict(test)
        order = np.random.default_rng(0).permutation(25)
        # The last bits may differ: products of other shapes are summed in another order (some in float32).
        tolerance = (
            1e-5 if found.__name__ in ("Cems", "Kernel", "KernelStatistics", "TextStatistics") else 1e-9
        )
        np.testing.assert_allclose(predictor.predict(test.take(order)), whole[order], atol=tolerance)
        for i in (0, 7):
            np.testing.assert_allclose(
                predictor.predict(test.take(np.array([i])))[0], whole[i], atol=tolerance
            )

    def test_deterministic(self, fitted: Any, make: Any, problem: Any, found: type[Predictor]) -> None:
        predictor, prompts, quality = fitted(found)
        again = make(found).fit(prompts, quality, problem(30, seed=1))
        np.testing.assert_array_equal(again.predict(prompts), predictor.predict(prompts))

    def test_without_embeddings(self, make: Any, problem: Any, found: type[Predictor]) -> None:
        predictor = make(found)
        if getattr(predictor, "encoder", None) == "one":
            predictor = found(**{**dict(predictor), "encoder": None})
        if found is KernelStatistics:  # as it is by default, for a single encoder or none
            predictor = found()
        prompts, quality = problem(60)
        held, held_quality = problem(30, seed=1)
        predictor.fit(PromptBatch(prompts.texts), quality, (PromptBatch(held.texts), held_quality))
        predicted = predictor.predict(PromptBatch(held.texts))
        assert found is Mean or np.ptp(predicted, axis=0).max() > 0

    def test_refuses_bad_batches(self, fitted: Any, found: type[Predictor]) -> None:
        predictor, prompts, _ = fitted(found)
        with pytest.raises(UserError, match="no prompts"):
            predictor.predict(PromptBatch([]))
        if "one" in predictor.embedding_widths:
            with pytest.raises(UserError, match="no embeddings 'one', this batch has: two"):
                predictor.predict(PromptBatch(prompts.texts, {"two": prompts.embeddings["two"]}))
            with pytest.raises(UserError, match="'one' are 4 wide, but the predictor was fitted on 6"):
                predictor.predict(
                    PromptBatch(prompts.texts, dict.fromkeys(("one", "two"), prompts.embeddings["two"]))
                )


@every
def test_refuses_bad_fits(make: Any, problem: Any, tmp_path: Path, found: type[Predictor]) -> None:
    prompts, quality = problem(20)
    with pytest.raises(UserError, match=f"{found.__name__} is not fitted yet; call fit"):
        make(found).predict(prompts)
    with pytest.raises(UserError, match="nothing to save"):
        make(found).save(tmp_path / "never-written")
    with pytest.raises(UserError, match="no prompts"):
        make(found).fit(PromptBatch([]), np.ones((0, 3)))
    with pytest.raises(UserError, match=r"quality is \(19, 3\) for 20 prompts"):
        make(found).fit(prompts, quality[1:])
    with pytest.raises(UserError, match=r"quality is \(20,\) for 20 prompts"):
        make(found).fit(prompts, quality[:, 0])
    broken = quality.copy()
    broken[4, 2] = np.nan
    said = rf"quality of prompt 4 \('{prompts.texts[4][:10]}.*under model 2 is nan"
    with pytest.raises(UserError, match=said):
        make(found).fit(prompts, broken)
    with pytest.raises(UserError, match="validation quality of prompt 4"):
        make(found).fit(prompts, quality, (prompts, broken))
    with pytest.raises(UserError, match="validation quality has 2 models, training quality 3"):
        make(found).fit(prompts, quality, (prompts, quality[:, :2]))
    assert not (tmp_path / "never-written").exists()


@pytest.mark.parametrize("found", CLASSIFIERS, ids=lambda found: found.__name__)
def test_classifier_probabilities(fitted: Any, make: Any, problem: Any, found: type[Predictor]) -> None:
    predictor, prompts, quality = fitted(found)
    predicted = predictor.predict(prompts)
    np.testing.assert_allclose(predicted.sum(1), 1)
    assert (predicted >= 0).all() and found.unit == "probability"
    assert "batch_size" in predictor.fingerprint()["settings"], "the size of a batch decides what is learned"
    with pytest.raises(UserError, match=r"macro F1 on validation prompts, and none were given"):
        make(found).fit(prompts, quality)
    with pytest.raises(UserError, match=r"model 1 is the best for every training prompt"):
        make(found).fit(prompts, np.tile([0.0, 1.0], (60, 1)), problem(30, seed=1, m=2))


@every
class TestFolder:
    def test_bit_equal(self, fitted: Any, problem: Any, tmp_path: Path, found: type[Predictor]) -> None:
        predictor, _, _ = fitted(found)
        test, _ = problem(25, seed=2)
        before = predictor.predict(test)
        save_predictor(predictor, tmp_path / "saved")
        loaded = load_predictor(tmp_path / "saved")
        assert type(loaded) is found and loaded.fingerprint() == predictor.fingerprint()
        np.testing.assert_array_equal(loaded.predict(test), before)
        save_predictor(loaded, tmp_path / "again")  # and what was loaded can be saved
        np.testing.assert_array_equal(load_predictor(tmp_path / "again").predict(test), before)
        assert {Path(name).suffix for name in files(tmp_path / "saved")} <= {".json", ".safetensors"}

    def test_outlives_defaults(self, fitted: Any, tmp_path: Path, found: type[Predictor]) -> None:
        predictor, _, _ = fitted(found)
        save_predictor(predictor, tmp_path / "saved")
        facts = json.loads((tmp_path / "saved" / "predictor.json").read_text())
        assert set(facts["predictor"]) - {"_target_"} == set(found.model_fields) - {"device"}

    def test_refuses_corrupt(self, fitted: Any, tmp_path: Path, found: type[Predictor]) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(found)[0], folder)
        optional = {"encoder/tokenizer_config.json"}  # the tokenizer's defaults are CLIP's
        for name in set(files(folder)) - optional:
            for harm in ("missing", "half", "empty"):
                corrupt = tmp_path / "corrupt"
                shutil.copytree(folder, corrupt)
                content = (corrupt / name).read_bytes()
                if harm == "missing":
                    (corrupt / name).unlink()
                else:
                    (corrupt / name).write_bytes(content[: len(content) // 2] if harm == "half" else b"")
                with pytest.raises(UserError, match=str(corrupt)):
                    load_predictor(corrupt)
                shutil.rmtree(corrupt)

    def test_refuses_a_flipped_bit(self, fitted: Any, tmp_path: Path, found: type[Predictor]) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(found)[0], folder)
        for file in {folder / name for name in files(folder)} - {folder / "predictor.json"}:
            content = bytearray(whole := file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
            with pytest.raises(UserError, match=rf"{file.name}: changed since the predictor was saved"):
                load_predictor(folder)
            file.write_bytes(whole)

    def test_full_disk(
        self, fitted: Any, tmp_path: Path, found: type[Predictor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "no space")

        if found.__name__ in ("Ensemble", "Cems"):
            pytest.skip("saves parts of its own first")
        predictor = fitted(found)[0]
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space") as caught:
            save_predictor(predictor, tmp_path / "saved")
        assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())

    def test_refuses_misfits(self, fitted: Any, tmp_path: Path, found: type[Predictor]) -> None:
        from safetensors.numpy import load_file, save_file

        folder = tmp_path / "saved"
        save_predictor(fitted(found)[0], folder)
        whole = load_file(folder / "arrays.safetensors")
        facts = json.loads((folder / "predictor.json").read_text())
        (folder / "predictor.json").write_text(json.dumps({**facts, "files": {}}))  # a stranger's fit theirs
        refused = 0
        for name, values in whole.items():
            if np.issubdtype(values.dtype, np.floating):
                save_file({**whole, name: np.full_like(values, np.nan)}, folder / "arrays.safetensors")
                with pytest.raises(UserError, match=rf"{name} holds NaN\); train it again"):
                    load_predictor(folder)
            if values.ndim and values.size > 1:
                save_file({**whole, name: np.ascontiguousarray(values[:-1])}, folder / "arrays.safetensors")
                with pytest.raises(UserError, match=r"train it again"):
                    load_predictor(folder)
                refused += 1
        assert refused


class TestForeignFolder:
    @pytest.fixture
    def folder(self, fitted: Any, tmp_path: Path) -> Path:
        save_predictor(fitted(Mean)[0], tmp_path / "saved")
        return tmp_path / "saved"

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such predictor folder"):
            load_predictor(tmp_path / "absent")

    def test_another_class(self, folder: Path) -> None:
        assert isinstance(Mean.load(folder), Mean)
        with pytest.raises(UserError, match=r"predictor: promptroute\.predictors\.mean\.Mean is no Ridge"):
            Ridge.load(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"predictor": {"_target_": "os.system", "command": "true"}},
                "os.system, which this may not name",
            ),
            ({"predictor": {"_target_": ["mean"]}}, "expected the dotted path"),
            ({"predictor": {"_target_": f"{ROOM}features.Features"}}, "is no Predictor"),
            ({"predictor": {"_target_": f"{ROOM}nowhere.Mean"}}, "can't be imported"),
            ({"predictor": {"_target_": f"{ROOM}mean.Mean", "colour": 1}}, "colour is no setting of Mean"),
            ({"predictor": None}, "has no _target_"),
            ({"format": 99}, r"a predictor of format 99, .*reads format 2\); train it again"),
            ({"version": 0}, "made by version 0 of Mean, which is now at version 1; train it again"),
            ({"models": 4}, "predicts"),
            ({"models": "three"}, "train it again"),
            ({"state": None, "models": None}, "train it again"),
        ],
    )
    def test_changed_facts(self, folder: Path, change: dict[str, Any], message: str) -> None:
        facts = json.loads((folder / "predictor.json").read_text())
        (folder / "predictor.json").write_text(json.dumps(facts | change))
        with pytest.raises(UserError, match=message):
            load_predictor(folder)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("[]", "not a predictor; train it again"),
            (
                '{"format": 1, "kind": "mean", "settings": {}, "models": 3, "state": {}}',
                "a predictor of format 1, ",
            ),
        ],
    )
    def test_other_facts(self, folder: Path, content: str, message: str) -> None:
        (folder / "predictor.json").write_text(content)
        with pytest.raises(UserError, match=message):
            load_predictor(folder)

    def test_member_outside(self, fitted: Any, tmp_path: Path) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(Ensemble)[0], folder)
        text = (folder / "predictor.json").read_text()
        (folder / "predictor.json").write_text(text.replace('"ridge"', '"../../elsewhere"'))
        with pytest.raises(UserError, match="ensemble member"):
            load_predictor(folder)

    def test_nested_class(self, fitted: Any, tmp_path: Path) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(Ensemble)[0], folder)
        text = (folder / "predictor.json").read_text()
        (folder / "predictor.json").write_text(text.replace(f"{ROOM}features.Features", "os.path.Features"))
        with pytest.raises(UserError, match=r"os\.path\.Features, which this may not name"):
            load_predictor(folder)

    def test_the_kind_itself(self, fitted: Any, tmp_path: Path) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(Ensemble)[0], folder)
        facts = json.loads((folder / "predictor.json").read_text())
        for member in ({}, {"_target_": f"{ROOM}base.Predictor"}):
            facts["predictor"]["members"]["ridge"] = member
            (folder / "predictor.json").write_text(json.dumps(facts))
            with pytest.raises(UserError, match=r"names a class by _target_|is the kind itself"):
                load_predictor(folder)

    @pytest.mark.parametrize("wide", [2**31, 2**70])
    def test_more_than_memory(self, fitted: Any, tmp_path: Path, wide: int) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(Knn)[0], folder)
        facts = json.loads((folder / "predictor.json").read_text())
        facts["state"]["features"]["widths"]["two"] = wide
        (folder / "predictor.json").write_text(json.dumps(facts))
        with pytest.raises(UserError, match="embeddings are wider than"):
            load_predictor(folder)

    def test_indices_beyond(self, fitted: Any, tmp_path: Path) -> None:
        from safetensors.numpy import load_file, save_file

        folder = tmp_path / "saved"
        save_predictor(fitted(Kernel)[0], folder)
        whole = load_file(folder / "arrays.safetensors")
        whole["c.columns"][-1] = 10**6  # scipy would read there
        save_file(whole, folder / "arrays.safetensors")
        facts = json.loads((folder / "predictor.json").read_text())
        (folder / "predictor.json").write_text(json.dumps({**facts, "files": {}}))
        with pytest.raises(UserError, match="not a whole Kernel"):
            load_predictor(folder)

    def test_other_widths(self, fitted: Any, tmp_path: Path) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(Gbm)[0], folder)
        facts = json.loads((folder / "predictor.json").read_text())
        del facts["state"]["features"]["widths"]["two"]
        (folder / "predictor.json").write_text(json.dumps(facts))
        with pytest.raises(UserError, match="not a whole Gbm"):
            load_predictor(folder)

    def test_never_ends(self, folder: Path) -> None:
        for name, says in (("predictor.json", "no file"), ("arrays.safetensors", "is no file")):
            content = (folder / name).read_bytes()
            (folder / name).unlink()
            os.mkfifo(folder / name)
            if name == "arrays.safetensors":
                facts = json.loads((folder / "predictor.json").read_text())
                (folder / "predictor.json").write_text(json.dumps({**facts, "files": {}}))
            with pytest.raises(UserError, match=says):
                load_predictor(folder)
            (folder / name).unlink()
            (folder / name).write_bytes(content)

    def test_replaced_whole(self, fitted: Any, tmp_path: Path) -> None:
        folder = tmp_path / "saved"
        save_predictor(fitted(Ensemble)[0], folder)
        with pytest.raises(UserError, match="nothing to save"):
            save_predictor(Mean(), folder)
        assert isinstance(load_predictor(folder), Ensemble)
        save_predictor(fitted(Mean)[0], folder)
        assert not (folder / "members").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["saved"]


OUTSIDE = '''
from typing import ClassVar

import numpy as np
from pydantic import Field

from promptroute.predictors.base import Array, Predictor


class Quantile(Predictor):
    """Predicts a quantile of each model's quality."""

    share: float = Field(0.5, ge=0, le=1)

    learned: ClassVar[tuple[str, ...]] = ("value", "prompts")
    _value: Array
    _prompts: int

    def _fit(self, prompts, quality, validation):
        self._value, self._prompts = np.quantile(quality, self.share, axis=0), len(prompts)

    def _predict(self, prompts):
        return np.tile(self._value, (len(prompts), 1))
'''


def test_outside_class(problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of another package needs its dotted path alone; a folder that names it, its reader's leave."""
    package = tmp_path / "somebodys_predictors"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "quantile.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    path = "somebodys_predictors.quantile.Quantile"
    prompts, quality = problem(40)
    predictor = build({"_target_": path, "share": 0.25}, "params.yaml: predictor", Predictor)
    predicted = predictor.fit(prompts, quality).predict(prompts)
    np.testing.assert_array_equal(predicted[0], np.quantile(quality, 0.25, axis=0))
    together = Ensemble(members={"mean": Mean(), "mine": predictor}).fit(prompts, quality)
    for name, saved in (("alone", predictor), ("together", together)):
        save_predictor(saved, tmp_path / name)
        with pytest.raises(UserError, match=rf"{path}, which this may not name; allowed: promptroute\."):
            load_predictor(tmp_path / name)
        for allow in ([path], ["somebodys_predictors."]):
            loaded = load_predictor(tmp_path / name, allow)
            np.testing.assert_array_equal(loaded.predict(prompts), saved.predict(prompts))
    with pytest.raises(
        UserError, match=r"^params.yaml: predictor\.share is 2; expected less than or equal to 1"
    ):
        build({"_target_": path, "share": 2}, "params.yaml: predictor", Predictor)


Compose = Callable[..., dict[str, Any]]


def section(compose: Compose, option: str, *overrides: str) -> dict[str, Any]:
    # `text_encoder` comes before `predictor`, as in conf/config.yaml: an option may bring its own encoder.
    return compose("+text_encoder=minilm", f"+predictor={option}", "+seed=7", *overrides)["predictor"]  # type: ignore[no-any-return]


class TestConf:
    @pytest.mark.parametrize("option", OPTIONS)
    def test_builds(self, compose: Compose, option: str) -> None:
        config = section(compose, option)
        predictor = build(config, "predictor", Predictor)
        assert type(predictor) in CLASSES
        # As short as what differs from the class's own defaults, and the study's one seed.
        assert predictor.to_section() == config
        assert config.get("seed", 7) == 7 and ("seed" in config) == ("seed" in type(predictor).model_fields)

    def test_every_class_has_an_option(self, compose: Compose) -> None:
        assert {section(compose, option)["_target_"] for option in OPTIONS} == {
            found.class_path() for found in CLASSES
        }

    def test_ensemble_members(self, compose: Compose) -> None:
        built = build(
            section(
                compose,
                "ensemble",
                "+predictor.members.knn.neighbours=[3]",
                f"+predictor.members.null._target_={ROOM}mean.Mean",
            ),
            "predictor",
            Ensemble,
        )
        members = {name: type(member).__name__ for name, member in built.members.items()}
        assert members == {"ridge": "Ridge", "gbm": "Gbm", "knn": "Knn", "null": "Mean"}
        assert dict(built.members["knn"])["neighbours"] == (3,) and dict(built.members["ridge"])["seed"] == 7

    def test_names_bad_settings(self, compose: Compose) -> None:
        with pytest.raises(UserError, match=r"predictor\.alphas\.0 is -1; expected greater than 0"):
            build(section(compose, "ridge", "+predictor.alphas=[-1]"), "predictor", Predictor)
        with pytest.raises(UserError, match=r"predictor\.features .*scale is 'row'"):
            build(section(compose, "knn", "+predictor.features.scale=row"), "predictor", Predictor)

    def test_features_change_defaults(self, compose: Compose) -> None:
        built = build(section(compose, "knn", "+predictor.features.min_count=4"), "predictor", Predictor)
        expected = {**dict(type(built).model_fields["features"].default), "min_count": 4}
        assert dict(dict(built)["features"]) == expected

    def test_kernel_brings_its_encoder(self, compose: Compose) -> None:
        assert list(compose("predictor=kernel", config="config")["text_encoder"]) == ["minilm_layers"]
        assert list(compose("predictor=ridge", config="config")["text_encoder"]) == ["minilm"]
