"""Looking judged by a checker that it never asked, and on fresh images: the small world.

    python -m benchmarks.world [--prompts 1000] [--scores nima,clip,mixed,verdicts] [--seeds 0]
    python -m benchmarks.world --table                    only print the table of benchmarks/results/world.csv

Small models of our own on synthetic scenes: no verdict on real ones. Two images a prompt by each model of the default
study are generated, embedded, scored and checked once, and kept in cache/ (about a CPU second a prompt); a killed run goes
on where it was. Folds by text: every prompt is judged by a router that learnt from the other folds alone; λ, and trust
where it is set, come from out-of-fold predictions there, a mean cost being asked. A search looks at the scores of one
seed's images; the other seed's are fresh. Policies are compared at equal cost on the
judged prompts: what each reaches there is read off between its budgets. 95 % bootstrap intervals over prompts.

A look is at the scores nima, clip or mixed as they are; or, with `verdicts`, at what the image is worth by both scores and
the prompt, as learnt from the checker's verdicts on the training prompts, where these stand for people's votes. Choosing
before then predicts those verdicts themselves. The checker is asked nothing about any prompt that it judges.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import study, tables
from benchmarks.recovery import pixels, statements
from benchmarks.reporting import RESULTS, markdown, names, numbers, options, run
from mini.captions import Statement
from mini.checker import check, read_scene
from promptroute.core.batch import PromptBatch
from promptroute.core.component import build
from promptroute.encoders.base import ImageEncoder, TextEncoder
from promptroute.encoders.embed import EmbedImages, ImageShard, embed_prompts, encode_prompts
from promptroute.evaluation import bootstrap
from promptroute.evaluation.search import fresh_values
from promptroute.generators.base import build_generator
from promptroute.generators.run import generate_images
from promptroute.generators.study import Generation
from promptroute.io.cache import CacheFile
from promptroute.io.embeddings import read_embeddings
from promptroute.io.images import ImageCache, read_shard
from promptroute.predictors.targets import text_folds
from promptroute.prompts.sampling import sample
from promptroute.prompts.source import PromptSource
from promptroute.router.packing import look_of
from promptroute.routing import choices
from promptroute.routing.base import Training
from promptroute.routing.costs import CostRule, Facts
from promptroute.routing.quality import Quality, fit_quality, flat_weights
from promptroute.routing.search import Replayed
from promptroute.routing.search_policy import Search
from promptroute.runtime.executors import InProcess
from promptroute.runtime.params import study_outputs
from promptroute.runtime.shards import TableWork
from promptroute.runtime.shards import run as run_shards
from promptroute.runtime.stage import run_stage
from promptroute.scorers.base import build_scorer
from promptroute.scorers.clip_score import clip_score
from promptroute.scorers.run import ImageScoring

CSV = RESULTS / "world.csv"
SEEDS = (0, 1)
"""Of the images of each prompt."""
FOLDS = 5
SHARES = (0.5, 0.75, 1.0)
"""Mean costs that are compared, as parts of what the most expensive model's image costs."""
POINTS = 9
"""Budgets between the cheapest and 1.3 times the most expensive model's price, between which figures are read off."""
TRUSTS = (0.0, 0.5, 1.0)
RESAMPLES = 2000
JUDGES = ("score", "fresh", "right", "fresh_right")
"""The score of the kept image; the same of another image by its model; the checker's verdict on either."""
VERDICTS = "verdicts"
"""Instead of an option of conf/score/: what an image is worth, learnt from the checker's verdicts on other prompts."""
BEFORE, SEARCH, TRUSTED = "choose before", "search", "search, trust set"


class CheckImages(TableWork[ImageShard]):
    """Checks shards of images: the share of what its prompt states that each image shows, 0 to 1."""

    def __init__(self, said: Mapping[str, Statement]) -> None:
        self.said = said

    def file(self, shard: ImageShard) -> CacheFile:
        """Name the cache's file of a shard's verdicts."""
        return CacheFile.of("checks", "benchmarks.world 1", shard.sha256)

    def make(self, shard: ImageShard) -> Any:
        """Check a shard's images."""
        import pyarrow as pa

        rows = [row for row in read_shard(shard.path) if row.image is not None]
        right = [
            float(
                np.mean([one.correct for one in check(self.said[row.prompt], read_scene(pixels(row.image)))])
            )
            for row in rows
            if row.image is not None
        ]
        return pa.table(
            {"prompt_id": [row.prompt_id for row in rows], "seed": [row.seed for row in rows], "right": right}
        )


@dataclass(frozen=True, eq=False)
class World:
    """n prompts of the small world, with k images of each by m models.

    Attributes:
        batch: the prompts, with their text embeddings.
        sets: [n].
        cost: dollars an image [m].
        images: full name of a score → [n, m, k].
        right: share of what the prompt states that the checker finds [n, m, k].
        vectors: the images' CLIP embeddings, float32 [n, m, k, d].
        meant: the prompts', float32 [n, d].
    """

    batch: PromptBatch
    sets: np.ndarray
    cost: np.ndarray
    images: Mapping[str, np.ndarray]
    right: np.ndarray
    vectors: np.ndarray
    meant: np.ndarray

    def quality(self, score: str, learn: np.ndarray) -> tuple[np.ndarray, Quality]:
        """Return quality of single images [n, m, k], its scaling fitted on the positions `learn`."""
        params = settings(f"score={score}")
        meaning = {**params["score"], "weights": flat_weights(params["score"]["weights"])}
        higher = {name: one.higher_is_better for name, one in study_outputs(params).items()}
        raw = {name: values.mean(axis=2) for name, values in self.images.items()}
        quality = fit_quality(
            {name: values[learn] for name, values in raw.items()}, **meaning, higher_is_better=higher
        )
        images = quality.of_images(self.images, raw)
        assert images is not None
        return images, quality


@cache
def settings(*overrides: str) -> Any:
    """Compose the default study's parameters with `overrides`."""
    return study.settings(*overrides, base=("compute=cpu",))


def by_key(frame: pd.DataFrame, column: str, ids: Sequence[str]) -> np.ndarray:
    """Lay out a column of values a (prompt_id, seed), [n, k] or [n, k, d]."""
    at = frame.set_index(["prompt_id", "seed"])[column]
    keys = pd.MultiIndex.from_product([ids, SEEDS])
    values = np.stack(list(at.reindex(keys)))
    return values.reshape(len(ids), len(SEEDS), *values.shape[1:])


@cache
def world(prompts: int, text: str) -> World:
    """Generate, embed, score and check what the cache lacks of so many prompts, with text embeddings of an encoder."""
    params = settings(f"text_encoder={text}")
    rows = sample(
        [
            build(section, f"prompts.{name}", PromptSource)
            for name, section in params["prompts"]["sources"].items()
        ],
        n=prompts,
    )
    ids, texts = list(rows["prompt_id"]), list(rows["prompt"])
    clip: ImageEncoder = build(
        params["image_encoder"]["clip"], "image_encoder.clip", ImageEncoder, device="cpu"
    )
    nima = build_scorer(params["scorers"]["nima"], "scorers.nima", "cpu")
    check_images, found = CheckImages(statements()), []
    for name, model in params["models"].items():
        paths = generated(name, model["generator"], ids, texts)
        shards = [ImageShard.of(path) for path in paths]
        embed, score = EmbedImages(clip, name), ImageScoring(nima, name)
        for work in (embed, check_images):
            run_shards(work, shards, InProcess(), f"{type(work).__name__} {name}")
        run_shards(score, paths, InProcess(), f"NIMA {name}")
        scores = pd.concat([score.scores(path) for path in paths])
        vectors, right = (
            pd.concat([work.file(shard).read().to_pandas() for shard in shards])  # type: ignore[union-attr]
            for work in (embed, check_images)
        )
        found.append(
            (
                by_key(scores[scores["output"] == "mean"], "value", ids),
                by_key(right, "right", ids),
                by_key(vectors, "embedding", ids).astype(np.float32),
            )
        )
    means, right, vectors = (np.stack(part, axis=1) for part in zip(*found, strict=True))
    meant = np.stack(list(read_embeddings(embed_prompts(clip, ids, texts))["embedding"]))
    flat = vectors.reshape(-1, vectors.shape[-1])
    clips = clip_score(flat, np.repeat(meant, flat.shape[0] // len(meant), axis=0)).reshape(means.shape)
    encoded = {
        name: np.stack(
            list(
                read_embeddings(encode_prompts(build(section, name, TextEncoder, device="cpu"), ids, texts))[
                    "embedding"
                ]
            )
        ).astype(np.float32)
        for name, section in params["text_encoder"].items()
    }
    rule: CostRule = build(params["cost"], "cost", CostRule)
    cost = rule.cost({name: Facts.of(model["profile"]) for name, model in params["models"].items()})
    scores = {"nima.mean": means, "clip.score": clips}
    return World(PromptBatch(texts, encoded), rows["set"].to_numpy(), cost, scores, right, vectors, meant)


def generated(name: str, section: Any, ids: Sequence[str], texts: Sequence[str]) -> list[Any]:
    """Return the shards of a model's images, generating what the cache lacks."""
    generator = build_generator(section, name, "cpu")
    images = ImageCache.of(generator.fingerprint())
    shards = Generation(seeds=list(SEEDS)).shards(ids, texts)
    with images.in_use() as finished:
        made = generate_images(generator, name, shards, images)
        finished += made.shards
    return made.shards


@dataclass(frozen=True, eq=False)
class Searched:
    """A search's outcome of n prompts, each prompt's mean over the seeds that it may look at: `JUDGES` → [n]; dollars [n]."""

    cost: np.ndarray
    judged: Mapping[str, np.ndarray]


def judged(replayed: Sequence[Replayed], images: np.ndarray, right: np.ndarray) -> Searched:
    """Judge the images that replays kept: by their score, by fresh images, by the checker; [n, m, k] each."""
    n = np.arange(len(right))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in JUDGES}
    for turn, one in enumerate(replayed):
        parts["score"].append(one.quality)
        parts["right"].append(right[n, one.kept, turn])
        for name, values in (("fresh", images), ("fresh_right", right)):
            left = fresh_values(values, one, turn)
            assert left is not None  # one image a model is looked at, and there are several
            parts[name].append(left)
    return Searched(
        np.mean([one.cost for one in replayed], axis=0),
        {name: np.mean(values, axis=0) for name, values in parts.items()},
    )


def chosen_before(
    predicted: np.ndarray, cost: np.ndarray, images: np.ndarray, right: np.ndarray, tradeoff: float
) -> Searched:
    """Choose before generating; every image of the chosen model is as good a judge as another."""
    choice, n = choices.cost_aware(predicted, cost, tradeoff=tradeoff), np.arange(len(predicted))
    score, truth = images[n, choice].mean(axis=1), right[n, choice].mean(axis=1)
    return Searched(cost[choice], {"score": score, "fresh": score, "right": truth, "fresh_right": truth})


def at_budget(tradeoffs: np.ndarray, spent: np.ndarray, budget: float) -> float:
    """Return λ at which a mean cost is `budget`, between those tried (falling, [k]) in ln λ; the nearest one beyond."""
    rising = np.maximum.accumulate(spent)
    return float(np.exp(np.interp(budget, rising + 1e-12 * np.arange(len(rising)), np.log(tradeoffs))))


@dataclass(frozen=True, eq=False)
class Learnt:
    """What is known of all n prompts once some have been learnt from.

    Attributes:
        images: quality of each image [n, m, k].
        predicted: quality of the test prompts [t, m].
        own, at: out-of-fold predictions of prompts that were learnt from [l, m], and their positions [l].
        scores: names of the scores that a look pays for.
    """

    images: np.ndarray
    predicted: np.ndarray
    own: np.ndarray
    at: np.ndarray
    scores: tuple[str, ...]


def scored(world: World, section: Any, score: str, learn: np.ndarray, test: np.ndarray) -> Learnt:
    """Learn to predict a score of conf/score/."""
    images, quality = world.quality(score, learn)
    return Learnt(
        images, *tables.predicted(section, world.batch, images.mean(axis=2), learn, test), quality.scores
    )


def valued(world: World, section: Any, learn: np.ndarray, test: np.ndarray) -> Learnt:
    """Learn what an image is worth from the checker's verdicts on the prompts `learn`, as from people's votes.

    Its value is the verdict that is expected given prompt, model and scores: linear, for each model, in the verdict
    predicted of the prompt and in what each score is above its prediction. Values of the prompts `learn` are
    out-of-fold: belief and λ are to see what new prompts will show.
    """
    n, m, k = world.right.shape
    predictions, columns = [], []
    for values in (world.right, *world.images.values()):
        found, own, at = tables.predicted(section, world.batch, values.mean(axis=2), learn, test)
        guess = np.full((n, m), np.nan)
        guess[test], guess[at] = found, own
        predictions.append(guess)
        above = values - guess[:, :, None] if columns else np.broadcast_to(guess[:, :, None], values.shape)
        columns.append(above)
    images = np.full((n, m, k), np.nan)
    inner = text_folds([world.batch.texts[place] for place in at], FOLDS, 0)
    for place in range(FOLDS + 1):  # the last: learnt from all, for the test prompts
        known, asked = (at[inner != place], at[inner == place]) if place < FOLDS else (at, test)
        for model in range(m):
            x = np.stack([np.ones((n, k)), *(column[:, model] for column in columns)], axis=2)
            weights = np.linalg.lstsq(x[known].reshape(-1, x.shape[2]), world.right[known, model].ravel())[0]
            images[asked, model] = x[asked] @ weights
    return Learnt(images, predictions[0][test], predictions[0][at], at, tuple(world.images))


def fold(
    world: World, section: Any, score: str, learn: np.ndarray, test: np.ndarray
) -> dict[str, list[Searched]]:
    """Return, for each policy, what it comes to on the test prompts at each of the budgets."""
    known = (
        valued(world, section, learn, test)
        if score == VERDICTS
        else scored(world, section, score, learn, test)
    )
    params, cost, at = settings(), world.cost, known.at
    images, observed = known.images, known.images.mean(axis=2)
    look = look_of(params["scorers"], known.scores, build(params["cost"], "cost", CostRule)).dollars
    budgets = np.linspace(cost.min(), 1.3 * cost.max(), POINTS)
    tried = np.std(observed[at]) / cost.max() * np.logspace(1.5, -3, 181)
    spent = np.array([cost[choices.cost_aware(known.own, cost, tradeoff=value)].mean() for value in tried])
    result: dict[str, list[Searched]] = {BEFORE: [], SEARCH: [], TRUSTED: []}
    for budget in budgets:
        tradeoff = at_budget(tried, spent, budget)
        result[BEFORE].append(chosen_before(known.predicted, cost, images[test], world.right[test], tradeoff))
    policies, curves = [], []
    for trust in TRUSTS:
        policy = Search(tradeoff=1.0, trust=trust).calibrate(
            known.own, observed[at], cost, Training(look=look, images=images[at])
        )
        assert isinstance(policy, Search)
        tried, swept = policy.sweep(known.own, observed[at], cost, images[at])
        held = [judged(replayed, images[at], world.right[at]) for replayed in zip(*swept, strict=True)]
        curves.append((tried, *np.array([(one.cost.mean(), one.judged["fresh"].mean()) for one in held]).T))
        policies.append(policy)
    for budget in budgets:
        left = [np.interp(budget, np.maximum.accumulate(paid), fresh) for _, paid, fresh in curves]
        for name, place in ((SEARCH, TRUSTS.index(1.0)), (TRUSTED, int(np.argmax(left)))):
            tried, paid, _ = curves[place]
            own_point = policies[place].model_copy(update={"tradeoff": at_budget(tried, paid, budget)})
            replayed = own_point.replays(known.predicted, observed[test], cost, images[test])
            result[name].append(judged(replayed, images[test], world.right[test]))
    return result


def judge(world: World, predictor: str, score: str, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Return rows: at each mean cost, what each policy comes to, and a search's lead over choosing before at equal cost."""
    section, n = settings(*study.overrides_of(predictor))["predictor"], len(world.sets)
    width = 1 + len(JUDGES)
    total = {name: np.zeros((n, POINTS, width)) for name in (BEFORE, SEARCH, TRUSTED)}
    for seed in seeds:
        side = text_folds(world.batch.texts, FOLDS, seed)
        for held in range(FOLDS):
            learn, test = np.flatnonzero(side != held), np.flatnonzero(side == held)
            for name, points in fold(world, study.with_seed(section, seed), score, learn, test).items():
                for place, one in enumerate(points):
                    columns = [one.cost, *(one.judged[judge] for judge in JUDGES)]
                    total[name][test, place] += np.column_stack(columns) / len(seeds)
    for name, share, figure, value in compared(total, world.cost):
        ends = {"estimate": value.estimate, "low": value.low, "high": value.high}
        yield {"policy": name, "share": share, "figure": figure, **ends}


def compared(
    total: Mapping[str, np.ndarray], cost: np.ndarray
) -> Iterator[tuple[str, float, str, bootstrap.Interval]]:
    """Compare policies at equal mean cost, for outcomes [n, budgets, dollars and judges] of each."""
    order = list(total)
    flat = np.concatenate([total[name].reshape(len(total[name]), -1) for name in order], axis=1)
    width = 1 + len(JUDGES)

    def statistic(means: np.ndarray) -> dict[str, np.ndarray]:
        parts = dict(
            zip(order, np.moveaxis(means.reshape(len(means), len(order), -1, width), 1, 0), strict=True)
        )
        found: dict[str, np.ndarray] = {}
        for share in SHARES:
            dollars = share * cost.max()
            for name, curves in parts.items():
                for place, judge in enumerate(JUDGES, 1):
                    key = f"{name}|{share}|{judge}"
                    found[key] = np.array(
                        [
                            np.interp(dollars, np.maximum.accumulate(one[:, 0]), one[:, place])
                            for one in curves
                        ]
                    )
                    if name != BEFORE:
                        found[f"{key} lead"] = found[key] - found[f"{BEFORE}|{share}|{judge}"]
        return found

    for key, value in bootstrap.intervals(flat, statistic, seed=0, resamples=RESAMPLES).items():
        name, share, figure = key.split("|")
        yield name, float(share), figure, value


def measure(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure what the command line asks for: a row a score, policy, mean cost and figure."""
    from tqdm import tqdm

    found = world(chosen.prompts, study.text_of(chosen.predictor))
    about = {"predictor": chosen.predictor, "prompts": len(found.sets), "seeds": len(chosen.seeds)}
    for score in tqdm(chosen.scores, desc="judge", unit="score"):
        for row in judge(found, chosen.predictor, score, chosen.seeds):
            yield {**about, "score": score, **row}


def table(rows: pd.DataFrame) -> str:
    """Format the tables in Markdown."""
    lines = []
    for (score, share, policy), own in rows.groupby(["score", "share", "policy"], sort=False):
        at = own.set_index("figure")

        def shown(judge: str, at: pd.DataFrame = at) -> str:
            digits = 1 if "right" in judge else 3
            unit = 100 if "right" in judge else 1
            text = f"{unit * at.loc[judge, 'estimate']:.{digits}f}"
            if f"{judge} lead" in at.index:
                lead = at.loc[f"{judge} lead"]
                low, high = (f"{unit * lead[end]:+.{digits}f}" for end in ("low", "high"))
                text += f" ({unit * lead['estimate']:+.{digits}f} [{low}, {high}])"
            return text

        lines.append([f"{score}: {policy}", f"{100 * share:.0f}", *(shown(judge) for judge in JUDGES)])
    first = rows.iloc[0]
    return (
        f"Small world, {first['prompts']} prompts, {FOLDS} folds, predictor {first['predictor']}; in brackets the lead over "
        f"choosing before at equal cost and its 95 % interval.\n\n"
        + markdown(
            "policy | mean cost, % of the most expensive model's | score of the kept image | score of a fresh image by its "
            "model | attributes right, % | of the fresh image, %",
            lines,
        )
    )


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("world", __doc__)
    parser.add_argument("--prompts", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument(
        "--scores", type=names, default=["nima", "clip", "mixed"], help="options of conf/score/"
    )
    parser.add_argument(
        "--predictor", default="kernel", help="option of conf/predictor/ (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=numbers, default=[0], help="of the folds (default: 0)")
    return run(parser, arguments, CSV, measure, table)


if __name__ == "__main__":
    run_stage(main)
