"""What people marked, as examples: words by majority, discs around places, splits by text."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.core.votes import Answer, Marks, Mode, Subject
from promptroute.feedback.evaluation import evaluate
from promptroute.feedback.network import FeedbackNetwork
from promptroute.feedback.people import SPLITS, build_marked, missed_words, place_map, split_of
from promptroute.feedback.richhf import ShardExamples
from promptroute.feedback.training import TrainingSettings, train
from promptroute.io.images import write_shard
from promptroute.io.votes import Asked, Votes
from tests.feedback.made import make_tokens, settings

PROMPTS = {f"p{at}": f"a {colour} square on dark, {at}" for at, colour in enumerate(["red", "blue"] * 10)}


def vote(path: Path, values: dict[tuple[str, str], str | int | Marks], mode: Mode = "marks") -> None:
    """Write answers: (rater, prompt_id) → value."""
    subjects = {one.task("study"): one for one in (Subject(name, ("m",), (0,)) for name in PROMPTS)}
    tasks = {subject.prompt_id: task for task, subject in subjects.items()}
    with Votes(path, Asked("study", mode, "What?", 0, PROMPTS, subjects)) as votes:
        for (rater, prompt_id), value in values.items():
            again = rater.endswith("-again")
            task = tasks[prompt_id] + "-again" * again
            votes.add(Answer(task, rater.removesuffix("-again"), value, False, 10, "2026-01-31T12:00:00Z"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    data = io.BytesIO()
    Pillow.new("RGB", (64, 64), "red").save(data, "PNG")
    (tmp_path / "images/m").mkdir(parents=True)
    rows = [Image(name, text, "m", 0, "ok", None, 64, 64, data.getvalue()) for name, text in PROMPTS.items()]
    write_shard(tmp_path / "images/m/part-00000.parquet", rows)
    return tmp_path / "images"


class TestMarks:
    def test_places_by_hand(self) -> None:
        found = place_map([Marks(((0.5, 0.5),)), Marks(((0.5, 0.5), (0.9, 0.1))), Marks()], side=40)
        assert found[20, 20] == pytest.approx(2 / 3) and found[4, 36] == pytest.approx(1 / 3)
        assert found[20, 21] == found[20, 20] and found[20, 23] == 0, "a disc of 2 pixels' radius"
        assert found[0, 0] == 0 and found.max() < 1

    def test_two_places_of_one_person_count_once(self) -> None:
        assert place_map([Marks(((0.5, 0.5), (0.51, 0.5)))], side=40).max() == 1

    def test_words_by_majority(self) -> None:
        """Of the three words that white space separates, the second has two parts, the last none."""
        prompt = "a red,blue square !"
        assert missed_words(prompt, [Marks(words=(1,)), Marks(words=(1, 2)), Marks(words=(3,))]) == [
            False, True, True, False,
        ]  # fmt: skip
        assert not any(missed_words(prompt, [Marks(words=(1,)), Marks()])), "half isn't more than half"

    def test_splits(self) -> None:
        counts = np.array([[split_of(str(at)) == name for name in SPLITS] for at in range(1000)])
        assert 750 < counts[:, 0].sum() < 850 and counts[:, -1].sum() > 60


class TestShards:
    def test_rows(self, tmp_path: Path, images: Path) -> None:
        place, blank = Marks(((0.25, 0.75),), (1,)), Marks()
        given = {("ann", name): place for name in PROMPTS} | {
            ("bob", "p0"): blank,
            ("ann-again", "p1"): blank,
        }
        vote(tmp_path / "votes.sqlite", given | {("eve", "p2"): "skip"})
        counts = build_marked(tmp_path / "votes.sqlite", images, tmp_path / "shards")
        assert sum(counts.values()) == len(PROMPTS) and counts["train"] > counts["dev"]
        tokens, seen = make_tokens(), {}
        for split, count in counts.items():
            if count:
                part = ShardExamples(tmp_path / "shards" / split, split, tokens, settings())
                batch = part.batch(np.arange(len(part)))
                assert np.isnan(batch.scores).all() and np.isnan(batch.heatmaps[:, 1]).all()
                seen |= {
                    " ".join(part.words(row)): (part.labels(row), batch.heatmaps[row, 0])
                    for row in range(len(part))
                }
        labels, where = seen["a blue square on dark 1"]
        assert labels is not None and labels.tolist() == [False, True, False, False, False, False]
        assert where[12, 4] > 0.2 and where[4, 4] == 0
        highest = where.max()
        labels, where = seen["a red square on dark 0"]
        assert labels is not None and not labels.any()
        assert where.max() == pytest.approx(highest / 2, abs=0.02), "bob saw nothing"

    def test_learnt_and_judged(self, tmp_path: Path, images: Path) -> None:
        """What nobody marked teaches nothing, and has no figure."""
        vote(tmp_path / "votes.sqlite", {("ann", name): Marks(((0.25, 0.75),), (1,)) for name in PROMPTS})
        build_marked(tmp_path / "votes.sqlite", images, tmp_path / "shards")
        tokens, network = make_tokens(), FeedbackNetwork(settings())
        examples = ShardExamples(tmp_path / "shards/train", "train", tokens, network.settings)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        plan = TrainingSettings(epochs=4, batch_size=4, learning_rate=1e-3, weight_decay=0, warm_up=0)
        history = train(network, plan, examples, tmp_path / "training")
        losses = [one["loss/words"] + one["loss/heatmap_implausibility"] for one in history.epochs]
        assert losses[-1] < losses[0]
        changed = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
        heads = {name.split(".")[1] for name in changed if name.startswith(("heatmap_", "score_"))}
        assert heads == {"implausibility"}
        figures = evaluate(network, examples, tokens).figures
        assert figures["heatmap/implausibility/mse"] > 0 and "words/f1" in figures
        assert np.isnan(figures["heatmap/misalignment/mse"]) and np.isnan(figures["score/overall/plcc"])

    @pytest.mark.parametrize(
        ("values", "mode", "said"),
        [
            ({("ann", "p0"): "left"}, "pairs", "holds pairs; expected marks"),
            ({("ann", "p0"): "skip"}, "marks", "nobody has marked anything"),
            ({("ann", "p0"): Marks()}, "marks", r"lacks \(model m, prompt p0, seed 0\)"),
        ],
    )
    def test_bad_input(
        self, tmp_path: Path, images: Path, values: dict[tuple[str, str], str | Marks], mode: Mode, said: str
    ) -> None:
        rows = [Image("p1", "else", "m", 0, "ok", None, 1, 1, b"")]
        write_shard(images / "m/part-00000.parquet", rows)
        vote(tmp_path / "votes.sqlite", dict(values), mode)
        with pytest.raises(UserError, match=said):
            build_marked(tmp_path / "votes.sqlite", images, tmp_path / "shards")
