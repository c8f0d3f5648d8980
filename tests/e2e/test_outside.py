"""One of each kind from a package outside the tree: a class and a YAML, run by the real commands."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.docs.pages import ROOT, blocks
from tests.e2e.conftest import git_clone, runner

pytestmark = pytest.mark.slow

PAIRED = '''
from collections.abc import Mapping

import numpy as np

from promptroute.core.outputs import Output
from promptroute.scorers.base import PromptedImageBatch, Scorer


class Named(Scorer):
    """Score how much of an image has the colour that its prompt names; and how bright it is."""

    inputs = PromptedImageBatch
    outputs = (Output("match", "Match", low=0.0, high=255.0), Output("light", "Light", low=0.0, high=255.0))

    def score(self, batch: PromptedImageBatch) -> Mapping[str, np.ndarray]:
        means = [np.asarray(image.convert("RGB"), float).mean(axis=(0, 1)) for image in batch.images]
        channels = [next((i for i, name in enumerate(("red", "green", "blue")) if name in prompt), 0) for prompt in batch.prompts]
        return {
            "match": np.array([mean[channel] for mean, channel in zip(means, channels, strict=True)]),
            "light": np.array([mean.mean() for mean in means]),
        }
'''
YAMLS = {
    "conf/model/plain-too.yaml": "# Another plain one.\nlabel: Plain too\ngenerator:\n  _target_: my_package.plain.Plain\n  side: 16\n"
    "profile: {seconds: 0.002, memory_gb: 0.1}\n",
    "conf/scorer/named.yaml": "# Image and prompt.\n_target_: my_package.paired.Named\n",
    "conf/score/named.yaml": "# Quality is the match.\nweights: {named: {match: 1.0}}\nscale: none\n",
}
OVERRIDES = (
    "experiment=none", "models=none", "+model@models.plain=plain", "+model@models.plain-too=plain-too",
    "scorers=none", "image_encoder=none", "+scorer@scorers.contrast=contrast", "+scorer@scorers.named=named",
    "score=named", "prompts.n=null", "~prompts.sources.mini", "+prompt_set@prompts.sources.colours=colours",
    "predictor=length", "text_encoder=none", "cost=electricity", "policy=floor", "evaluate.resamples=10",
    "split.shares=[0.5,0.2,0.3]", "compute.threads=1",
    "++prompts.sources.colours.colours=[" + ",".join(
        f"{tone} {colour}" for tone in ("light", "dark", "deep", "pale", "very pale", "rich") for colour in ("red", "green", "blue")
    ) + "]",
)  # fmt: skip


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clone with YAMLs, and the folder of the package that they name."""
    clone, elsewhere = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("elsewhere")
    git_clone(clone, without=("dvc.lock",))
    for block in blocks(ROOT / "docs" / "adding.md"):
        if block.path:
            path = (clone if block.path.startswith("conf/") else elsewhere) / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    (elsewhere / "my_package" / "paired.py").write_text(PAIRED)
    for name, text in YAMLS.items():
        (clone / name).write_text(text)
    return clone, elsewhere


def test_one_of_each(outside: tuple[Path, Path]) -> None:
    clone, elsewhere = outside
    plain = runner(clone, clone)
    run = lambda *command, **options: plain(*command, PYTHONPATH=str(elsewhere), **options)  # noqa: E731
    run("python", "-m", "promptroute", "compose", *OVERRIDES)
    run("dvc", "repro")
    result = json.loads((clone / "metrics" / "evaluate.json").read_text())
    assert result["score"] == "named.match"
    rows = pd.read_parquet(clone / "data" / "performance.parquet")
    assert set(rows["score"]) == {"contrast.std", "named.match", "named.light"}
    assert set(rows["model"]) == {"plain", "plain-too"}
    said = run("python", "-m", "promptroute", "route", "a red star", "--allow", "my_package.").stdout
    assert "Plain" in said
    refused = run("python", "-m", "promptroute", "route", "a red star", ok=False)
    assert refused.returncode == 1 and "which this may not name" in refused.stderr
    assert "Data and pipelines are up to date." in run("dvc", "repro").stdout


def test_another_class_touches_no_other(outside: tuple[Path, Path]) -> None:
    """The module of a scorer outside is watched as one of ours is."""
    clone, elsewhere = outside
    with (elsewhere / "my_package" / "contrast.py").open("a") as file:
        file.write("# changed\n")
    status = json.loads(runner(clone, clone)("dvc", "status", "--json", PYTHONPATH=str(elsewhere)).stdout)
    assert "score@contrast" in status and "score@named" not in status
