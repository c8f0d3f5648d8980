"""What holds for all kinds: saving, independence of order, and clear refusals."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Predictor
from promptroute.predictors.cems import Cems
from promptroute.predictors.cems_frozen import CemsFrozen
from promptroute.predictors.ensemble import Ensemble
from promptroute.predictors.factorisation import Factorisation
from promptroute.predictors.features import Features
from promptroute.predictors.folder import KINDS, load_predictor, save_predictor
from promptroute.predictors.gbm import Gbm
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.knn import Knn
from promptroute.predictors.mean import Mean
from promptroute.predictors.mlp import Mlp
from promptroute.predictors.ridge import Ridge
from promptroute.predictors.svm import Svm

Fitted = tuple[Any, PromptBatch, np.ndarray]

MAKERS: dict[str, Callable[[Path], Any]] = {
    "mean": lambda _: Mean(),
    "ridge": lambda _: Ridge(features=Features(characters=True)),
    "knn": lambda _: Knn(),
    "mlp": lambda _: Mlp(networks=2, epochs=5, hidden=[8, 4]),
    "gbm": lambda _: Gbm(rounds=10, min_leaf=5, threads=1),
    "svm": lambda _: Svm(),
    "factorisation": lambda _: Factorisation(),
    "kernel": lambda _: Kernel(encoder="one", width=2, components=3, min_count=2),
    "ensemble": lambda _: Ensemble(
        {"ridge": Ridge(), "null": Mean(), "votes": CemsFrozen(epochs=1)}, "fitted"
    ),
    "cems": lambda clip: Cems(str(clip), epochs=1, learning_rate=1e-3),
    "cems-frozen": lambda _: CemsFrozen(epochs=2),
}
WITH_EMBEDDINGS = ["ridge", "knn", "mlp", "gbm", "svm", "factorisation", "kernel", "ensemble", "cems-frozen"]


@pytest.fixture(scope="module")
def fitted(problem: Any, tiny_clip: Path) -> Callable[[str], Fitted]:
    """kind → (fitted predictor, its training prompts, quality); each fitted once."""
    known: dict[str, Fitted] = {}

    def get(kind: str) -> Fitted:
        if kind not in known:
            prompts, quality = problem(60)
            known[kind] = MAKERS[kind](tiny_clip).fit(prompts, quality, problem(30, seed=1)), prompts, quality
        return known[kind]

    return get


def test_every_kind_is_tested_and_is_a_predictor(tiny_clip: Path) -> None:
    assert set(MAKERS) == set(KINDS)
    for kind, make in MAKERS.items():
        predictor = make(tiny_clip)
        assert isinstance(predictor, Predictor) and predictor.kind == kind


@pytest.mark.parametrize("kind", MAKERS)
def test_what_was_saved_predicts_bit_equal(fitted: Any, problem: Any, tmp_path: Path, kind: str) -> None:
    predictor, _, _ = fitted(kind)
    test, _ = problem(25, seed=2)
    before = predictor.predict(test)
    assert before.shape == (25, 3) and before.dtype == np.float64 and np.isfinite(before).all()
    save_predictor(predictor, tmp_path / "saved")
    loaded = load_predictor(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(test), before)
    save_predictor(loaded, tmp_path / "again")  # and what was loaded can be saved
    np.testing.assert_array_equal(load_predictor(tmp_path / "again").predict(test), before)
    endings = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert endings <= {".json", ".safetensors"}
    if kind not in ("ensemble", "cems"):
        assert dataclasses.asdict(loaded) == json.loads(json.dumps(dataclasses.asdict(predictor)))  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_row_depends_on_its_own_prompt_alone(fitted: Any, problem: Any, kind: str) -> None:
    predictor, _, _ = fitted(kind)
    test, _ = problem(25, seed=2)
    whole = predictor.predict(test)
    order = np.random.default_rng(0).permutation(25)
    # The last bits may differ: products of other shapes are summed in another order (some in float32).
    tolerance = 1e-5 if kind in ("cems", "kernel") else 1e-9
    np.testing.assert_allclose(predictor.predict(test.take(order)), whole[order], atol=tolerance)
    for i in (0, 7):
        np.testing.assert_allclose(predictor.predict(test.take(np.array([i])))[0], whole[i], atol=tolerance)


@pytest.mark.parametrize("kind", MAKERS)
def test_fit_is_deterministic(fitted: Any, problem: Any, tiny_clip: Path, kind: str) -> None:
    predictor, prompts, quality = fitted(kind)
    again = MAKERS[kind](tiny_clip).fit(prompts, quality, problem(30, seed=1))
    np.testing.assert_array_equal(again.predict(prompts), predictor.predict(prompts))


@pytest.mark.parametrize("kind", [k for k in MAKERS if k not in ("mean", "cems", "kernel")])
def test_it_works_without_embeddings(problem: Any, tiny_clip: Path, kind: str) -> None:
    prompts, quality = problem(60)
    held, held_quality = problem(30, seed=1)
    predictor = MAKERS[kind](tiny_clip).fit(
        PromptBatch(prompts.texts), quality, (PromptBatch(held.texts), held_quality)
    )
    predicted = predictor.predict(PromptBatch(held.texts))
    assert np.ptp(predicted, axis=0).max() > 0


@pytest.mark.parametrize("kind", ["cems", "cems-frozen"])
def test_classifiers_predict_probabilities_and_need_validation(
    fitted: Any, problem: Any, tiny_clip: Path, kind: str
) -> None:
    predictor, prompts, quality = fitted(kind)
    predicted = predictor.predict(prompts)
    np.testing.assert_allclose(predicted.sum(1), 1)
    assert (predicted >= 0).all()
    with pytest.raises(UserError, match=r"macro F1 on validation prompts, and none were given"):
        MAKERS[kind](tiny_clip).fit(prompts, quality)
    with pytest.raises(UserError, match=r"model 1 is the best for every training prompt"):
        MAKERS[kind](tiny_clip).fit(prompts, np.tile([0.0, 1.0], (60, 1)), problem(30, seed=1, m=2))


@pytest.mark.parametrize("kind", MAKERS)
def test_bad_fits_are_refused(problem: Any, tiny_clip: Path, kind: str) -> None:
    prompts, quality = problem(20)
    new = lambda: MAKERS[kind](tiny_clip)  # noqa: E731
    with pytest.raises(UserError, match=f"{kind} predictor is not fitted yet; call fit"):
        new().predict(prompts)
    with pytest.raises(UserError, match="nothing to save"):
        new().save("never-written")
    with pytest.raises(UserError, match="no prompts"):
        new().fit(PromptBatch([]), np.ones((0, 3)))
    with pytest.raises(UserError, match=r"quality is \(19, 3\) for 20 prompts"):
        new().fit(prompts, quality[1:])
    with pytest.raises(UserError, match=r"quality is \(20,\) for 20 prompts"):
        new().fit(prompts, quality[:, 0])
    broken = quality.copy()
    broken[4, 2] = np.nan
    with pytest.raises(
        UserError, match=rf"quality of prompt 4 \('{prompts.texts[4][:10]}.*under model 2 is nan"
    ):
        new().fit(prompts, broken)
    with pytest.raises(UserError, match="validation quality of prompt 4"):
        new().fit(prompts, quality, (prompts, broken))
    with pytest.raises(UserError, match="validation quality has 2 models, training quality 3"):
        new().fit(prompts, quality, (prompts, quality[:, :2]))
    assert not Path("never-written").exists()


@pytest.mark.parametrize("kind", MAKERS)
def test_bad_batches_are_refused(fitted: Any, kind: str) -> None:
    predictor, prompts, _ = fitted(kind)
    with pytest.raises(UserError, match="no prompts"):
        predictor.predict(PromptBatch([]))
    if kind in WITH_EMBEDDINGS:
        with pytest.raises(UserError, match="no embeddings 'one', this batch has: two"):
            predictor.predict(PromptBatch(prompts.texts, {"two": prompts.embeddings["two"]}))
        with pytest.raises(UserError, match="'one' are 4 wide, but the predictor was fitted on 6"):
            predictor.predict(
                PromptBatch(prompts.texts, dict.fromkeys(("one", "two"), prompts.embeddings["two"]))
            )


@pytest.mark.parametrize("kind", MAKERS)
def test_torn_folders_are_refused(fitted: Any, tmp_path: Path, kind: str) -> None:
    import shutil

    folder = tmp_path / "saved"
    save_predictor(fitted(kind)[0], folder)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    optional = {"encoder/tokenizer_config.json"}  # the tokenizer's defaults are CLIP's
    for name in names:
        for tear in ("missing", "half", "empty"):
            if name in optional:
                continue
            torn = tmp_path / "torn"
            shutil.copytree(folder, torn)
            content = (torn / name).read_bytes()
            if tear == "missing":
                (torn / name).unlink()
            else:
                (torn / name).write_bytes(content[: len(content) // 2] if tear == "half" else b"")
            with pytest.raises(UserError, match=r"torn.*(train it again|`dvc repro`)"):
                load_predictor(torn)
            shutil.rmtree(torn)


@pytest.mark.parametrize("kind", MAKERS)
def test_arrays_that_do_not_fit_together_are_refused(fitted: Any, tmp_path: Path, kind: str) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "saved"
    save_predictor(fitted(kind)[0], folder)
    whole = load_file(folder / "arrays.safetensors")
    refused = 0
    for name, values in whole.items():
        if values.ndim and values.size > 1:
            save_file({**whole, name: np.ascontiguousarray(values[:-1])}, folder / "arrays.safetensors")
            with pytest.raises(UserError, match=r"train it again"):
                load_predictor(folder)
            refused += 1
    assert refused


def test_foreign_folders_are_refused(fitted: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such predictor folder; `dvc repro`"):
        load_predictor(tmp_path / "absent")
    folder = tmp_path / "saved"
    save_predictor(fitted("mean")[0], folder)
    with pytest.raises(UserError, match="holds a 'mean' predictor, not 'ridge'"):
        Ridge.load(folder)
    facts = json.loads((folder / "predictor.json").read_text())
    for change, message in [
        ({"kind": "os.system"}, r"kind 'os.system' is unknown; known: mean, ridge"),
        ({"kind": ["mean"]}, "unknown"),
        ({"format": 99}, "not a predictor of format 1"),
        ({"settings": {"_target_": "os.system", "command": "true"}}, "train it again"),
        ({"models": 4}, "predicts"),
        ({"models": "three"}, "train it again"),
    ]:
        (folder / "predictor.json").write_text(json.dumps(facts | change))
        with pytest.raises(UserError, match=message):
            load_predictor(folder)
    (folder / "predictor.json").write_text("[]")
    with pytest.raises(UserError, match="not a predictor of format 1"):
        load_predictor(folder)


def test_an_ensemble_never_leaves_its_folder(fitted: Any, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    save_predictor(fitted("ensemble")[0], folder)
    facts = json.loads((folder / "predictor.json").read_text())
    facts["state"]["members"][0] = "../../elsewhere"
    (folder / "predictor.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="ensemble member"):
        load_predictor(folder)


def test_saving_replaces_a_folder_whole_or_not_at_all(fitted: Any, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    save_predictor(fitted("ensemble")[0], folder)
    with pytest.raises(UserError, match="nothing to save"):
        save_predictor(Mean(), folder)
    assert load_predictor(folder).kind == "ensemble"
    save_predictor(fitted("mean")[0], folder)
    assert not (folder / "members").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
