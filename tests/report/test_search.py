"""What the report tells of a search: never its score's gain without what is left on fresh images."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.report import frontier
from promptroute.report.page import headline
from promptroute.report.result import Result, read_result
from promptroute.report.search import Shot, ending, shots
from promptroute.routing.search_policy import Search
from tests.report.conftest import write_result
from tests.report.made import SCORES, Report


def result_of(metrics: Path) -> Result:
    data = metrics.parent / "data" / "evaluation"
    return read_result(metrics / "evaluate.json", data, scores=SCORES, data="toy scores")


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search over scores of which only means are known; its folder of metrics."""
    return write_result(tmp_path_factory.mktemp("means"), n=40, sets=("A",), search=Search(target="cost"))


@pytest.fixture
def copied(means: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    shutil.copytree(means.parent, tmp_path / "copy")
    return tmp_path / "copy" / "metrics"


class TestFigures:
    def test_paid_and_got(self, searched: Report) -> None:
        """Worked again from the strips: dollars of all images, the score of the best one."""
        result = searched.result
        for place in range(0, len(result.prompt_ids), 7):
            made = [shot for shot in shots(result, str(result.prompt_ids[place])) if shot.score is not None]
            assert result.paid[place] == pytest.approx(sum(result.cost[shot.model] + 1e-6 for shot in made))
            best = max(made, key=lambda shot: shot.score or 0)
            assert best.kept and sum(shot.kept for shot in made) == 1
            assert result.got[place] == pytest.approx(best.score) and result.chosen[place] == best.model
        assert len({shot.model for shot in made}) == len(made)

    def test_strips_follow_the_rule(self, searched: Report) -> None:
        """Each image's reservation value was above the best before it; the last one's, not made, was not."""
        for prompt_id in searched.result.prompt_ids[:40]:
            hand = -np.inf
            for shot in shots(searched.result, str(prompt_id)):
                assert shot.reservation is not None and (shot.reservation > hand) == (shot.score is not None)
                hand = max(hand, shot.score or hand)

    def test_same_as_evaluation(self, searched: Report) -> None:
        """Strips are the first of three replays; their means are near those of all."""
        row = searched.result.values.strategies["router"]
        assert searched.result.paid.mean() == pytest.approx(row.cost, rel=0.1)
        assert searched.result.got.mean() == pytest.approx(row.quality, abs=0.1)
        assert row.fresh_quality is not None and row.fresh_quality < row.quality

    def test_examples(self, searched: Report) -> None:
        result = searched.result
        for example in searched.examples:
            place = result.prompt_ids.tolist().index(example.prompt_id)
            single = result.cost[result.best_single]
            assert example.saving == pytest.approx(result.paid[place] / single - 1)


class TestWords:
    def test_never_alone(self, searched: Report) -> None:
        """Every sentence with a gain by the score says what is left on fresh images."""
        lines = headline(searched.result)
        assert (
            lines[0].startswith("Against Model")
            and "by the score that it looks at; on fresh images by " in lines[0]
        )
        fresh = searched.result.values.searched
        assert fresh is not None and fresh.fresh is not None
        assert f"{abs(fresh.fresh.quality_gain.estimate or 0):.3f}" in lines[0]
        read_off = [line for line in lines if line.startswith("Read off the search's frontier")]
        assert len(read_off) == 2 and all(line.count("on fresh images") == 2 for line in read_off)
        assert "with at most two images" in read_off[1]
        assert "on fresh images" in searched.figures["frontier"].title
        rows = re.findall(r'<th scope="row">search[^<]*<span class="note">([^<]*)', searched.source)
        assert len(rows) == 2 and all("on fresh images" in row for row in rows)

    def test_took(self, searched: Report) -> None:
        (line,) = [line for line in headline(searched.result) if line.startswith("A prompt takes")]
        found = searched.result.values.searched
        assert found is not None and f"{found.mean_images:.2f} images on average (1 for " in line
        assert "at the 95th percentile; a look costs $0.001 per 1,000 images" in line
        assert re.search(r"90\u00a0% intervals \d+\u00a0% after no images, \d+\u00a0% after 1 image, ", line)

    def test_no_single_images(self, means: Path) -> None:
        result = result_of(means)
        first, second, *rest = headline(result)
        assert "what of it is left on fresh images is not known" in first
        assert second.endswith("this study has no scores of single images to judge on.")
        assert "on fresh images not known" in " ".join(rest)
        assert frontier.headline(result).endswith("on fresh images not known")

    def test_page(self, searched: Report) -> None:
        source = searched.source
        assert source.count('<ol class="strip">') == len(searched.examples)
        assert source.count('<li class="kept">') == len(searched.examples)
        shot = shots(searched.result, searched.examples[0].prompt_id)[0]
        assert (
            f"reservation value {shot.reservation:.2f}" in source and f"score <b>{shot.score:.2f}" in source
        )
        assert 'alt="Model 0, seed 0"' in source and "all 4 models&#39; images, for comparison" in source

    def test_others_say_nothing(self, report: Report) -> None:
        assert shots(report.result, str(report.result.prompt_ids[0])) == ()
        assert "fresh" not in report.source and 'class="strip"' not in report.source


class TestEnding:
    @pytest.mark.parametrize(
        ("last", "said"),
        [
            (
                Shot(1, 0, None, 5.2, 1e-5, False),
                "not asked: Model 1, reservation value 5.20 against 5.50 in hand",
            ),
            (Shot(1, 0, None, 5.8, 1e-5, False), "no more images may be made"),
            (Shot(1, 0, None, None, 1e-5, False), "no more images may be made"),
            (Shot(1, 0, 5.1, 5.8, 1e-5, False), "no model was left"),
        ],
    )
    def test_by_hand(self, searched: Report, last: Shot, said: str) -> None:
        assert ending(searched.result, [Shot(0, 0, 5.5, 6.0, 1e-5, True), last]) == said


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "edit", "message"),
        [
            ("search", lambda table: table.drop(columns="kept"), "search.csv: no column 'kept'|search.csv: .*kept"),
            ("search", lambda table: table[table["prompt_id"] != "A0"], "prompt A0 is not in both this file and"),
            ("search", lambda table: table.assign(model="<b>"), "model '<b>' is invalid; expected one of"),
            ("search", lambda table: table.assign(price="much"), "price 'much' is not a number"),
            ("search", lambda table: table.assign(reservation="inf"), "reservation 'inf' is not a number"),
            ("search_frontier", lambda table: table.assign(cost=""), "search_frontier.csv: line 2: cost '' is not"),
        ],
    )  # fmt: skip
    def test_refused(self, copied: Path, name: str, edit, message: str) -> None:  # type: ignore[no-untyped-def]
        path = copied.parent / "data" / "evaluation" / f"{name}.csv"
        edit(pd.read_csv(path)).to_csv(path, index=False)
        with pytest.raises(UserError, match=message):
            result_of(copied)

    def test_missing(self, copied: Path) -> None:
        (copied.parent / "data" / "evaluation" / "search.csv").unlink()
        with pytest.raises(UserError, match=r"search\.csv: no such file; evaluate the router again"):
            result_of(copied)
        values = json.loads((copied / "evaluate.json").read_text())
        values["searched"] = None
        (copied / "evaluate.json").write_text(json.dumps(values))
        assert result_of(copied).strips is None
