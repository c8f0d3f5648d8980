"""The network against reference values of the published one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptroute import feedback
from promptroute.core.errors import UserError
from tests.feedback.conftest import AUGMENTED, GOLDEN, golden

CLOSE = {"rtol": 0, "atol": 1e-4}
HEADS = ("score_plausibility", "score_alignment", "score_aesthetics", "score_overall", "heatmap_implausibility",
         "heatmap_misalignment")  # fmt: skip


class Golden:
    """A network by recipe, with its inputs and outputs."""

    def __init__(self, name: str, checkpoints: Any, suffix: str = ".safetensors") -> None:
        self.config = json.loads(golden(GOLDEN / f"{name}_config.json").read_text())
        self.path = checkpoints(GOLDEN / f"{name}_state_recipe.json", suffix)
        self.inputs = dict(np.load(GOLDEN / f"{name}_inputs.npz"))
        self.expected = dict(np.load(GOLDEN / f"{name}_outputs.npz"))

        self.made: Any = None

    def network(self, mask: bool) -> Any:
        self.made = self.made or feedback.from_checkpoint(self.path, self.config)
        self.made.attention_mask = mask
        return self.made

    def batch(self) -> tuple[np.ndarray, ...]:
        return self.inputs["pixel_values"], self.inputs["input_ids"], self.inputs["input_lengths"]


@pytest.fixture(scope="module", params=["rahf_tiny", "rahf_tiny128"])
def tiny(request: pytest.FixtureRequest, checkpoints: Any) -> Golden:
    return Golden(request.param, checkpoints)


@pytest.fixture(scope="module")
def augmented(checkpoints: Any) -> tuple[Path, dict[str, Any], dict[str, Any], dict[str, Any]]:
    path = checkpoints(golden(AUGMENTED / "state_recipe.json"))
    config = json.loads((AUGMENTED / "config.json").read_text())
    inputs, expected = (dict(np.load(AUGMENTED / f"{name}.npz")) for name in ("inputs", "outputs"))
    return path, config, inputs, expected


class TestWithoutMask:
    """As the public network computes."""

    def test_outputs(self, tiny: Golden) -> None:
        given = tiny.network(False).outputs(*tiny.batch(), tiny.inputs["target_ids"])
        for name in (*HEADS, "encoder_last_hidden_state", "target_logits", "target_loss"):
            assert given[name].shape == tiny.expected[name].shape
            np.testing.assert_allclose(given[name], tiny.expected[name], err_msg=name, **CLOSE)

    def test_generated_ids(self, tiny: Golden) -> None:
        np.testing.assert_array_equal(
            tiny.network(False).generate_ids(*tiny.batch(), 12), tiny.expected["generated_ids"]
        )

    def test_torch_file_with_tied_names(self, checkpoints: Any) -> None:
        case = Golden("rahf_tiny", checkpoints, ".pt")
        given = case.network(False).outputs(*case.batch())
        np.testing.assert_allclose(given["score_overall"], case.expected["score_overall"], **CLOSE)


class TestMasked:
    """Whatever stands in the batch, an image has the values that it has alone."""

    def test_heads(self, tiny: Golden) -> None:
        given = tiny.network(True).outputs(*tiny.batch())
        for name in HEADS:
            np.testing.assert_allclose(given[name], tiny.expected[f"alone_{name}"], err_msg=name, **CLOSE)

    def test_more_padding(self, tiny: Golden) -> None:
        network, (pixels, ids, lengths) = tiny.network(True), tiny.batch()
        padded = np.pad(ids, ((0, 0), (0, 5)))
        first, second = (
            network.outputs(pixels, ids, lengths),
            network.outputs(pixels[::-1].copy(), padded[::-1].copy(), lengths[::-1].copy()),
        )
        for name in HEADS:
            np.testing.assert_allclose(first[name], second[name][::-1], rtol=0, atol=1e-5)

    def test_states_texts_and_loss(self, tiny: Golden) -> None:
        network, (pixels, ids, lengths) = tiny.network(True), tiny.batch()
        given, written = network.outputs(pixels, ids, lengths), network.generate_ids(pixels, ids, lengths, 12)
        for row, _length in enumerate(lengths):
            alone = tiny.expected[f"alone{row}_encoder_last_hidden_state"]
            np.testing.assert_allclose(
                given["encoder_last_hidden_state"][row, : alone.shape[1]], alone[0], **CLOSE
            )
            text = tiny.expected[f"alone{row}_generated_ids"][0]
            np.testing.assert_array_equal(written[row, : len(text)], text)
            assert not written[row, len(text) :].any()
            target = tiny.inputs["target_ids"][row : row + 1, : tiny.inputs["target_lengths"][row]]
            rows = slice(row, row + 1)
            loss = network.outputs(pixels[rows], ids[rows], lengths[rows], np.pad(target, ((0, 0), (0, 3))))[
                "target_loss"
            ]
            np.testing.assert_allclose(loss, tiny.expected[f"alone{row}_target_loss"], **CLOSE)


class TestAugmented:
    """One head of each kind; the task stands before the prompt."""

    def parts(self, augmented: Any, mask: bool) -> Any:
        path, config, inputs, expected = augmented
        network = feedback.from_checkpoint(path, config, attention_mask=mask)
        tasks = {
            f"{kind.lower()}_{name}": inputs[f"ids_{kind}_{name}"]
            for kind, names in (("SCORE", config["score_types"]), ("HEATMAP", config["heatmap_types"]))
            for name in names
        }
        lengths = (inputs["caption_ids"] != 0).sum(axis=1)
        return (
            network,
            (inputs["pixel_values"], inputs["caption_ids"], lengths),
            inputs["target_ids"],
            tasks,
            expected,
        )

    def test_without_mask(self, augmented: Any) -> None:
        network, batch, targets, tasks, expected = self.parts(augmented, False)
        given = network.outputs(*batch, targets, task_ids=tasks)
        for name in (*HEADS, "target_loss"):
            np.testing.assert_allclose(given[name], expected[name], err_msg=name, **CLOSE)
        np.testing.assert_array_equal(network.generate_ids(*batch, 12), expected["generated_ids"])

    def test_masked(self, augmented: Any) -> None:
        network, batch, _, tasks, expected = self.parts(augmented, True)
        given = network.outputs(*batch, task_ids=tasks)
        for name in HEADS:
            np.testing.assert_allclose(given[name], expected[f"alone_{name}"], err_msg=name, **CLOSE)

    def test_variant_from_keys(self, augmented: Any) -> None:
        path, config, _, _ = augmented
        unsaid = {key: value for key, value in config.items() if key != "multi_heads"}
        assert feedback.from_checkpoint(path, unsaid).settings.variant == "augmented"

    def test_tasks_are_asked_for(self, augmented: Any) -> None:
        network, batch, _, tasks, _ = self.parts(augmented, True)
        del tasks["score_overall"]
        with pytest.raises(UserError, match="has none for score_overall"):
            network.outputs(*batch, task_ids=tasks)

    def test_other_variant_is_refused(self, augmented: Any) -> None:
        path, config, _, _ = augmented
        with pytest.raises(UserError, match="not weights of this multi-head network: lacks"):
            feedback.from_checkpoint(path, config | {"multi_heads": True})
