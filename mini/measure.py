"""Evaluate the trained models: params `measure`, mini/pipeline/data/weights/ → mini/pipeline/data/report.*."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mini import finetune_diffusion, train_clip, train_masked, train_nima, train_student, train_tiny
from mini.captions import PROMPT_SETS, Statement, sample_captions
from mini.checker import check, read_scene
from mini.degradations import DEGRADATIONS, degrade
from mini.scenes import render
from mini.settings import DATA, WEIGHTS, load_settings
from mini.training import compute_device, to_images, to_tensor
from mini.write_prompts import read_prompts
from promptroute.io.files import atomic_path, write_json
from promptroute.runtime.stage import run_stage

FILES = (DATA / "report.json", DATA / "report.md")
Images = NDArray[np.uint8]


def load_model(name: str, device: str, weights: Path = WEIGHTS) -> Any:
    """Load one of the four models as its pipeline, float32."""
    from diffusers import AutoencoderTiny, DiffusionPipeline, UNet2DConditionModel

    folder = train_masked.FOLDER if name == "masked" else finetune_diffusion.FOLDER
    parts = {}
    if name == "tiny":
        parts["vae"] = AutoencoderTiny.from_pretrained(weights / train_tiny.FOLDER.name, dtype=torch.float32)
    if name == "student":
        place = weights / train_student.FOLDER.name
        parts["unet"] = UNet2DConditionModel.from_pretrained(place, dtype=torch.float32)
    pipe: Any = DiffusionPipeline.from_pretrained(weights / folder.name, dtype=torch.float32, **parts).to(
        device
    )
    if name == "student":
        pipe.scheduler = train_student.new_scheduler(pipe.scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(pipe: Any, prompts: Sequence[str], seed: int, steps: int, guidance: float, batch: int) -> Images:
    """Generate an image of each prompt, uint8 [n, 64, 64, 3], each from its own torch.Generator."""
    made = []
    single = type(pipe).__name__ == "AmusedPipeline"  # it takes a single torch.Generator
    for start in range(0, len(prompts), 1 if single else batch):
        part = list(prompts[start : start + (1 if single else batch)])
        seeds = [torch.Generator("cpu").manual_seed(seed) for _ in part]
        out = pipe(
            prompt=part,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds[0] if single else seeds,
            output_type="pil",
        )
        made += [np.asarray(image.convert("RGB")) for image in out.images]
    return np.stack(made)


def attribute_accuracy(images: Images, statements: Sequence[Statement]) -> dict[str, float]:
    """Return the share of stated attributes that images show, 0 to 1, higher is better: "all" and by kind."""
    correct = defaultdict(list)
    for image, statement in zip(images, statements, strict=True):
        for claim in check(statement, read_scene(image)):
            correct[claim.kind].append(claim.correct)
    every = [value for values in correct.values() for value in values]
    return {
        "all": float(np.mean(every)),
        **{kind: float(np.mean(values)) for kind, values in sorted(correct.items())},
    }


@torch.no_grad()
def retrieval(images: Images, texts: Sequence[str], device: str) -> dict[str, float]:
    """Measure CLIP retrieval among n pairs: recall at 1 and at 5, text to image and image to text, 0 to 1."""
    import open_clip

    where = f"local-dir:{train_clip.FOLDER}"
    model = open_clip.create_model_and_transforms(where, device=device)[0].eval()
    tokens = open_clip.get_tokenizer(where)(list(texts)).to(device)
    seen = torch.nn.functional.normalize(model.encode_image(to_tensor(images, device)), dim=1)
    meant = torch.nn.functional.normalize(model.encode_text(tokens), dim=1)
    similarity = (meant @ seen.T).cpu().numpy()
    found: dict[str, float] = {}
    for name, table in (("text_to_image", similarity), ("image_to_text", similarity.T)):
        rank = (table > np.diag(table)[:, None]).sum(axis=1)
        found |= {f"{name}_at_1": float((rank < 1).mean()), f"{name}_at_5": float((rank < 5).mean())}
    return found


@torch.no_grad()
def nima_correlation(images: Images, seed: int, device: str) -> dict[str, float]:
    """Return Spearman's correlation of NIMA's mean score with the known quality of degraded images: "all", and by kind."""
    from scipy.stats import spearmanr

    nima, rng = train_nima.load_nima().to(device), np.random.default_rng(seed)
    levels = rng.random(len(images))
    kinds = rng.choice(list(DEGRADATIONS), len(images))
    degraded = np.stack([degrade(*row, rng) for row in zip(images, kinds, levels, strict=True)])
    scores = train_nima.mean_score(nima(to_tensor(degraded, device))).cpu().numpy()
    by_kind = {
        name: float(spearmanr(scores[kinds == name], -levels[kinds == name])[0]) for name in DEGRADATIONS
    }
    return {"all": float(spearmanr(scores, -levels)[0]), **by_kind}


@torch.no_grad()
def reconstructed(images: Images, device: str) -> dict[str, Images]:
    """Reconstruct ground-truth images with the three autoencoders: an upper bound of each model."""
    from diffusers import AutoencoderKL, AutoencoderTiny, VQModel

    batch = to_tensor(images, device)
    vae = AutoencoderKL.from_pretrained(finetune_diffusion.FOLDER, subfolder="vae", dtype=torch.float32).to(
        device
    )
    tiny = AutoencoderTiny.from_pretrained(train_tiny.FOLDER, dtype=torch.float32).to(device)
    vq = VQModel.from_pretrained(train_masked.FOLDER, subfolder="vqvae", dtype=torch.float32).to(device)
    latents = vae.encode(batch).latent_dist.mean
    tokens = vq.quantize(vq.encode(batch).latents)[0]
    return {
        "vae": to_images(vae.decode(latents).sample),
        "tiny": to_images(tiny.decode(latents * vae.config.scaling_factor).sample),
        "vq": to_images(vq.decoder(vq.post_quant_conv(tokens)) * 2 - 1),
    }


def megabytes(folder: Path) -> float:
    """Return the size of a folder's files in units of 10⁶ bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def as_markdown(report: dict[str, Any]) -> str:
    """Format the report as Markdown."""
    lines = [
        "# Evaluation of the small models",
        "",
        "Written by `python -m mini.measure`; do not edit.",
        "",
    ]
    lines += ["Stated attributes that the images show, in percent:", ""]
    lines += ["| model | " + " | ".join(PROMPT_SETS) + " |", "|---" * (len(PROMPT_SETS) + 1) + "|"]
    row: Callable[[str, dict[str, Any]], str] = lambda name, sets: (  # noqa: E731
        f"| {name} | " + " | ".join(f"{100 * sets[key]['all']:.1f}" for key in PROMPT_SETS) + " |"
    )
    lines += [row(name, sets) for name, sets in report["models"].items()]
    lines += [row(f"ground truth through {name}", sets) for name, sets in report["autoencoders"].items()]
    lines += ["", f"CLIP retrieval among {report['n']['retrieval']} unseen pairs, in percent:", ""]
    lines += [f"- {name.replace('_', ' ')}: {100 * value:.1f}" for name, value in report["clip"].items()]
    lines += ["", "NIMA: Spearman's correlation with the known quality of degraded images:", ""]
    lines += [f"- {name}: {value:.3f}" for name, value in report["nima"].items()]
    lines += ["", f"Weights: {report['megabytes']:.1f} MB in total.", ""]
    return "\n".join(lines)


def main() -> str:
    settings, device = load_settings("measure"), compute_device()
    report: dict[str, Any] = {"models": {}, "autoencoders": defaultdict(dict)}
    sets = {name: read_prompts(name)[: settings["prompts"]] for name in PROMPT_SETS}
    for model, call in settings["models"].items():
        pipe, report["models"][model] = load_model(model, device), {}
        for name, rows in sets.items():
            texts, statements = zip(*rows, strict=True)
            generated = np.concatenate(
                [generate(pipe, texts, seed, **call, batch=32) for seed in settings["seeds"]]
            )
            repeated = list(statements) * len(settings["seeds"])
            report["models"][model][name] = attribute_accuracy(generated, repeated)
            print(f"{model} {name} {report['models'][model][name]['all']:.3f}", flush=True)
    for name in PROMPT_SETS:
        captions = sample_captions(name, settings["prompts"], settings["seed"])
        true = np.stack([render(caption.scene) for caption in captions])
        for part, images in reconstructed(true, device).items():
            report["autoencoders"][part][name] = attribute_accuracy(
                images, [caption.statement for caption in captions]
            )
    unseen = [
        caption
        for name in PROMPT_SETS
        for caption in sample_captions(name, settings["retrieval"] // 5, settings["seed"], arranged=False)
    ]
    true = np.stack([render(caption.scene) for caption in unseen])
    report["clip"] = retrieval(true, [caption.text for caption in unseen], device)
    report["nima"] = nima_correlation(true, settings["seed"], device)
    report["megabytes"] = megabytes(WEIGHTS)
    report["n"] = {
        "prompts": settings["prompts"],
        "seeds": len(settings["seeds"]),
        "retrieval": len(unseen),
    }
    write_json(FILES[0], report, digits=4)
    with atomic_path(FILES[1]) as temporary:
        temporary.write_text(as_markdown(report), encoding="utf-8")
    return f"measure: {FILES[1]}"


if __name__ == "__main__":
    run_stage(main)
