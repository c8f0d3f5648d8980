"""From an image back to its prompt, in the small world; small models on synthetic scenes.

    python -m benchmarks.recovery attributes   what recovered texts say, part by part, against the prompt and the image
    python -m benchmarks.recovery trip         generate again from recovered prompts (minutes)
    python -m benchmarks.recovery learners     learners on scenes rendered by code, by the number of prompts (minutes)
    python -m benchmarks.recovery sizes        ridge and ensembles on folds of the study's training and validation prompts
    python -m benchmarks.recovery speed        ridge on 10,000 x 1,736; 10,000 recoveries in a bank of 50,000 prompts

The first two, and sizes, need data/ and params.yaml of a study with a recovery: `dvc exp run -S recovery=mini`.
"""

import argparse
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reporting import RESULTS
from mini.captions import PROMPT_SETS, Statement, sample_captions
from mini.checker import check, read_scene
from mini.recovery import agreement, said, said_by_phrases
from mini.scenes import render
from mini.write_prompts import read_prompts
from promptroute.core.component import build
from promptroute.encoders.base import ImageEncoder
from promptroute.encoders.features import MobileNetFeatures
from promptroute.encoders.interrogator import Interrogator
from promptroute.encoders.open_clip import OpenClip
from promptroute.encoders.sentence import SentenceEncoder
from promptroute.evaluation.recovery import read_prompts as recovery_prompts
from promptroute.generators.base import build_generator
from promptroute.io.files import read_json, write_json
from promptroute.io.images import images_of
from promptroute.recovery.learners.base import Examples, Learner
from promptroute.recovery.learners.ensemble import Ensemble
from promptroute.recovery.learners.knn import Knn
from promptroute.recovery.learners.mean import Mean
from promptroute.recovery.learners.ridge import Ridge
from promptroute.recovery.study import RecoveryStudy, cross_fitted, read_views
from promptroute.recovery.texts import Sentences
from promptroute.recovery.vectors import cosine, near_groups, nearest, unit
from promptroute.runtime.params import load_params
from promptroute.runtime.stage import run_stage

TEXTS = Path("data/recovery/texts.json")
FOLDER = RESULTS / "recovery"
KINDS = ("retrieved", "composed", "random", "true")
SEEDS = (101, 102)
"""Of the round trip: none of the study's."""
Figures = dict[str, Any]


def statements() -> dict[str, Statement]:
    """Give what each of the small world's prompts says."""
    return {text: what for name in PROMPT_SETS for text, what in read_prompts(name, Path("mini/prompts"))}


def shuffled(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give each row another row's prompt at random: the floor."""
    order = np.random.default_rng(0).permutation(len(rows))
    same = [place for place in range(len(rows)) if rows[order[place]]["prompt"] == rows[place]["prompt"]]
    order[same] = (order[same] + 1) % len(rows)
    return [str(rows[place]["prompt"]) for place in order]


def interval(values: np.ndarray, prompts: Sequence[str]) -> list[float]:
    """Give the mean of values and its 95 % bootstrap interval by prompt."""
    _, own = np.unique(prompts, return_inverse=True)
    sums, counts = np.bincount(own, values), np.bincount(own)
    taken = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), 1000)
    low, high = np.quantile((taken @ sums) / (taken @ counts), [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


def attributes() -> Figures:
    """Compare what recovered texts say with what the prompt says, and with what the checker reads in the images."""
    known, rows = statements(), read_json(TEXTS)
    true = [said(known[row["prompt"]]) for row in rows]
    texts = {
        "composed": [said_by_phrases(row["phrases"]) for row in rows],
        "retrieved": [said(known[row["retrieved"]]) for row in rows],
        "random": [said(known[text]) for text in shuffled(rows)],
    }
    shown: dict[str, list[float]] = {name: [] for name in ("retrieved", "random", "true")}
    images = {model: images_of(f"data/images/{model}", {row["prompt_id"] for row in rows}) for model in {row["model"] for row in rows}}  # fmt: skip
    others = shuffled(rows)
    for row, other in zip(rows, others, strict=True):
        scenes = [
            read_scene(pixels(image.image)) for image in images[row["model"]][row["prompt_id"]] if image.image
        ]
        for name, text in (("retrieved", row["retrieved"]), ("random", other), ("true", row["prompt"])):
            found = [one.correct for scene in scenes for one in check(known[text], scene)]
            shown[name].append(float(np.mean(found)))
    prompts = [row["prompt"] for row in rows]
    return {
        "texts": len(rows),
        "against the prompt": {
            name: agreement(list(zip(found, true, strict=True))) for name, found in texts.items()
        },
        "share right in the image": {
            name: interval(np.array(found), prompts) for name, found in shown.items()
        },
    }


def pixels(data: bytes) -> np.ndarray:
    """Decode an image file's bytes: uint8 [height, width, 3]."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def trip() -> Figures:
    """Generate from recovered, true and random prompts by the model of each image, with other seeds.

    Consistency is the mean cosine, by the small CLIP, of the new images with the study's own of that prompt and model.
    """
    from PIL import Image

    params, rows, known = load_params(), read_json(TEXTS), statements()
    texts = {name: [row[name] for row in rows] for name in ("retrieved", "composed")}
    texts |= {"random": shuffled(rows), "true": [row["prompt"] for row in rows]}
    clip = build(params["image_encoder"]["clip"], "clip", ImageEncoder)
    alike: dict[str, np.ndarray] = {name: np.zeros(len(rows)) for name in texts}
    right: dict[str, np.ndarray] = {name: np.zeros(len(rows)) for name in texts}
    for model in dict.fromkeys(row["model"] for row in rows):
        generator = build_generator(params["models"][model]["generator"], model, "cpu")
        generator.load()
        own = [place for place, row in enumerate(rows) if row["model"] == model]
        images = images_of(f"data/images/{model}", {rows[place]["prompt_id"] for place in own})
        for place in own:
            before = [
                Image.fromarray(pixels(one.image)) for one in images[rows[place]["prompt_id"]] if one.image
            ]
            reference = unit(clip.encode_images(before))
            asked = [(texts[name][place], seed) for name in texts for seed in SEEDS]
            size = min(generator.batch_size, len(asked))
            made = [
                one
                for start in range(0, len(asked), size)
                for one in generator.generate(
                    *(list(part) for part in zip(*asked[start : start + size], strict=True))
                )  # type: ignore[arg-type]
            ]
            new = [np.asarray(np.clip(np.asarray(one) * 255 + 0.5, 0, 255), np.uint8) for one in made]
            near = (unit(clip.encode_images([Image.fromarray(one) for one in new])) @ reference.T).mean(
                axis=1
            )
            for number, name in enumerate(texts):
                part = slice(number * len(SEEDS), (number + 1) * len(SEEDS))
                alike[name][place] = 100 * near[part].mean()
                what = known[rows[place]["prompt"]]
                right[name][place] = np.mean(
                    [one.correct for image in new[part] for one in check(what, read_scene(image))]
                )
    prompts = [row["prompt"] for row in rows]
    return {
        "texts": len(rows),
        "consistency": {name: interval(alike[name], prompts) for name in KINDS},
        "share right of the true prompt": {name: interval(right[name], prompts) for name in KINDS},
    }


def learners(sizes: Sequence[int] = (200, 1000, 4000), judged: int = 500) -> Figures:
    """Compare learners on scenes rendered by code, one image a prompt, as the number of training prompts grows."""
    from PIL import Image

    each = (max(sizes) + judged) // len(PROMPT_SETS) + 1
    captions = [one for name in PROMPT_SETS for one in sample_captions(name, each, 7, distinct=True)]
    captions = [captions[place] for place in np.random.default_rng(0).permutation(len(captions))]
    images = [Image.fromarray(render(one.scene)) for one in captions]
    views = {}
    clip, text = OpenClip(model="mini/weights/clip"), SentenceEncoder()
    encoders = {
        "clip": clip,
        "nima": MobileNetFeatures(checkpoint="mini/weights/nima/model.safetensors", side=64),
        "words": Interrogator(clip=clip, text=text, phrases="mini/phrases.txt"),
    }
    for name, encoder in encoders.items():
        views[name] = np.concatenate(
            [encoder.encode_images(images[at : at + 64]) for at in range(0, len(images), 64)]
        )
    target = Sentences(text)([one.text for one in captions])
    groups = near_groups(target, 0.9)
    test = np.arange(len(captions)) < judged
    apart = np.flatnonzero(~np.isin(groups, groups[test]))
    found: Figures = {}
    for size in sizes:
        train = apart[:size]
        kinds: dict[str, Learner] = {"mean": Mean(), "knn": Knn(), "ridge": Ridge(), "ensemble": Ensemble()}
        for name, learner in kinds.items():
            started = time.perf_counter()
            learner.fit({key: rows[train] for key, rows in views.items()}, target[train], groups[train])
            near = cosine(learner.predict({key: rows[test] for key, rows in views.items()}), target[test])
            found[f"{name}, {len(train)} prompts"] = [
                *interval(near, [one.text for one in captions[:judged]]), time.perf_counter() - started,
            ]  # fmt: skip
    return found


def sizes() -> Figures:
    """Compare ridge and ensembles by five folds of the study's training and validation prompts: what chose their size."""
    params = load_params()
    study = build(params["recovery"], "params.yaml: recovery", RecoveryStudy)
    prompts, _ = recovery_prompts(study, Path("data"))
    images = read_views("data/embeddings", study.views, list(params["models"]))
    at = {name: row for row, name in enumerate(prompts.ids)}
    own = np.array([at[name] for name in images.prompt_id])
    known = np.flatnonzero(prompts.side[own] != "test")
    examples = Examples(images.views, prompts.vectors[own]).take(known)
    kinds = {
        "ridge": Ridge(),
        "the study's ensemble": study.beside["ensemble"],
        "two blocks, 128 wide": Ensemble(width=128, epochs=30),
    }
    found: Figures = {}
    for name, learner in kinds.items():
        predicted = cross_fitted(learner, examples, prompts.groups[own][known], 5, 11)
        found[name] = interval(cosine(predicted, examples.target), list(images.prompt_id[known]))
    return found


def speed() -> Figures:
    """Time what the issue bounds, on random numbers."""
    random = np.random.default_rng(0)
    widths = {"clip": 512, "convnext": 768, "interrogator": 456}  # 1,736 columns
    views = {name: random.normal(size=(10_000, width)).astype(np.float32) for name, width in widths.items()}
    target = unit(views["clip"][:, :384] + random.normal(size=(10_000, 384)))
    bank, queries = (unit(random.normal(size=(n, 384))) for n in (50_000, 10_000))
    found = {}
    work: dict[str, Callable[[], Any]] = {
        "ridge, 10,000 x 1,736": lambda: Ridge().fit(views, target, np.arange(len(target))),
        "10,000 recoveries of 50,000 prompts": lambda: nearest(queries, bank, 5),
    }
    for name, call in work.items():
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found[name] = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return found


PARTS: dict[str, Callable[[], Figures]] = {
    "attributes": attributes, "trip": trip, "learners": learners, "sizes": sizes, "speed": speed,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> str:
    """Measure one part, and keep its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=list(PARTS))
    part = parser.parse_args(arguments).part
    figures = PARTS[part]()
    write_json(FOLDER / f"{part}.json", figures, digits=4)
    lines = [f"{name}: {value}" for name, value in figures.items()]
    return "\n".join([*lines, f"recovery: {FOLDER / part}.json"])


if __name__ == "__main__":
    run_stage(main)
