"""Train the small CLIP and with it the text encoder of every model: params `clip` → data/mini/weights/clip/.

The loss is CLIP's, with two helpers that make so small a training enough: from a caption's features one has to
say back what the caption states, and from a picture's what its scene holds. The text side learns to say it back by
itself first: what it loses, no model that reads it can draw.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mini.captions import Caption, Statement
from mini.draw_scenes import UNTIDY, read_scenes
from mini.scenes import BACKGROUNDS, COLOURS, PATTERNS, PLACES, SHAPES, SIZES, TEXTURES, Scene, place_of
from mini.settings import WEIGHTS, load_settings
from mini.tokens import CONTEXT, encode, train_tokenizer
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.io.files import write_json
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "clip"
WIDTH = 96  # of the text encoder
ALONE = 0.7  # share of the steps in which the text side learns by itself, on batches `TEXTS` times as large
TEXTS = 2
MOST_GROUPS = 3
# the parts of a group that a caption may state, and what each may be
PARTS: dict[str, Sequence[Any]] = {
    "count": (1, 2, 3, 4),
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "texture": TEXTURES,
    "place": tuple(PLACES),
}
WHOLE: dict[str, Sequence[Any]] = {
    "relation": ("left of", "right of", "above", "below"),
    "background": tuple(BACKGROUNDS),
    "pattern": PATTERNS,
}
CLASSES = [len(options) + 1 for options in (*(MOST_GROUPS * [*PARTS.values()]), *WHOLE.values())]


def stated(statement: Statement) -> list[int]:
    """What a caption states as numbers, in the order of `CLASSES`; 0: it doesn't say."""
    numbers = []
    for index in range(MOST_GROUPS):
        group = statement.groups[index] if index < len(statement.groups) else None
        for name, options in PARTS.items():
            value = getattr(group, name, None)
            numbers.append(0 if value is None else options.index(value) + 1)
    for name, options in WHOLE.items():
        value = getattr(statement, name)
        numbers.append(0 if value is None else options.index(value) + 1)
    return numbers


def held(scene: Scene) -> NDArray[np.float32]:
    """What a scene holds, as zeros and ones: coloured shapes, places taken, sizes, textures, count, background."""
    pairs = np.zeros((len(SHAPES), len(COLOURS)))
    parts = {"place": np.zeros(9), "size": np.zeros(3), "texture": np.zeros(3)}
    for thing in scene.things:
        pairs[list(SHAPES).index(thing.shape), list(COLOURS).index(thing.colour)] = 1
        parts["place"][list(PLACES).index(place_of(thing.x, thing.y))] = 1
        parts["size"][list(SIZES).index(thing.size)] = 1
        parts["texture"][TEXTURES.index(thing.texture)] = 1
    count = np.arange(1, 5) == len(scene.things)
    ground = np.array([name == scene.background for name in BACKGROUNDS])
    pattern = np.array([name == scene.pattern for name in PATTERNS])
    return np.concatenate([pairs.ravel(), *parts.values(), count, ground, pattern]).astype(np.float32)


HELD = len(SHAPES) * len(COLOURS) + 9 + 3 + 3 + 4 + len(BACKGROUNDS) + len(PATTERNS)


def model_config(vocabulary: int) -> dict[str, Any]:
    """Our configuration of open_clip's `CLIP`: a narrow ResNet for pictures, a three-layer transformer for text."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 12, "image_size": 64, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": WIDTH,
            "heads": 3,
            "layers": 3,
            "hf_tokenizer_name": "local",  # the tokenizer's files lie beside this configuration
        },
    }


class Learner(nn.Module):
    """The CLIP model with the two helpers, which are thrown away after training."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        from open_clip.model import CLIP

        config = model_config(vocabulary)
        config["text_cfg"] = {
            key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"
        }
        self.clip = CLIP(**config)
        self.says = nn.Linear(config["embed_dim"], sum(CLASSES))
        self.holds = nn.Linear(config["embed_dim"], HELD)

    def loss(self, images: Tensor, tokens: Tensor, states: Tensor, holds: Tensor) -> Tensor:
        """CLIP's loss and both helpers'.

        Args:
            images: float32 [b, 3, 64, 64].
            tokens: int64 [b, CONTEXT].
            states: int64 [b, len(CLASSES)], as `stated`.
            holds: float32 [b, HELD], as `held`.
        """
        pooled = self.pooled(tokens)
        seen = self.clip.encode_image(images)
        meant = pooled @ self.clip.text_projection
        similarity = (
            self.clip.logit_scale.exp().clamp(max=50) * F.normalize(seen, dim=1) @ F.normalize(meant, dim=1).T
        )
        same = torch.arange(len(images), device=images.device)
        loss = (F.cross_entropy(similarity, same) + F.cross_entropy(similarity.T, same)) / 2
        return (
            loss
            + self.says_loss(meant, states)
            + 5 * F.binary_cross_entropy_with_logits(self.holds(seen), holds)
        )

    def says_loss(self, meant: Tensor, states: Tensor) -> Tensor:
        """How badly a caption's embedding [b, embed_dim] says back what it states, int64 [b, len(CLASSES)]."""
        parts = self.says(meant).split(CLASSES, dim=1)
        return torch.stack(
            [F.cross_entropy(part, states[:, index]) for index, part in enumerate(parts)]
        ).mean()

    def pooled(self, tokens: Tensor) -> Tensor:
        """The text encoder's state at the end mark, float32 [b, WIDTH]."""
        return self.text_states(tokens)[torch.arange(len(tokens)), tokens.argmax(dim=1)]

    def text_states(self, tokens: Tensor) -> Tensor:
        """The text encoder's last states, float32 [b, CONTEXT, WIDTH]."""
        model = self.clip
        states = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
        length = tokens.shape[1]
        states = model.transformer(states, attn_mask=model.attn_mask[:length, :length])
        last: Tensor = model.ln_final(states)
        return last


def train(
    images: Any, captions: Sequence[Caption], settings: dict[str, Any], device: str
) -> tuple[Learner, Any, list[float]]:
    """Train on captioned pictures; returns the learner, the tokenizer and the loss of each step."""
    tokenizer = train_tokenizer(caption.text for caption in captions)
    tokens = encode(tokenizer, [caption.text for caption in captions])
    states = torch.tensor([stated(caption.statement) for caption in captions])
    holds = torch.from_numpy(np.stack([held(caption.scene) for caption in captions]))
    torch.manual_seed(settings["seed"])
    learner = Learner(len(tokenizer)).to(device)

    by_length = np.argsort(tokens.argmax(dim=1).numpy(), kind="stable")

    def loss_of(step: Step) -> Tensor:
        alone = step.progress < ALONE
        rows = step.rows(len(images), settings["batch"])
        if alone:  # captions of about one length, so that few are padded
            n = TEXTS * settings["batch"]
            first = step.rng.integers(0, max(1, len(by_length) - 4 * n))
            rows = step.rng.choice(by_length[first : first + 4 * n], min(n, len(by_length)), replace=False)
        batch = tokens[rows]
        length = int((batch.argmax(dim=1) + 1).max())  # what follows the end mark changes nothing before it
        batch = batch[:, :length].to(device)
        if alone:
            meant = learner.pooled(batch) @ learner.clip.text_projection
            return learner.says_loss(meant, states[rows].to(device))
        return learner.loss(
            to_tensor(images[rows], device), batch, states[rows].to(device), holds[rows].to(device)
        )

    losses = fit("clip", learner, loss_of, settings)
    return learner, tokenizer, losses


def save(folder: Path, learner: Learner, tokenizer: Any) -> None:
    """Write a folder that `open_clip.create_model_and_transforms("local-dir:…")` loads; half precision."""
    from safetensors.torch import save_file

    weights = {
        key: value.half().cpu().contiguous() if value.is_floating_point() else value.cpu()
        for key, value in learner.clip.state_dict().items()
    }
    save_file(weights, folder / "open_clip_model.safetensors", {"format": "pt"})
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    write_json(
        folder / "open_clip_config.json",
        {"model_cfg": model_config(len(tokenizer)), "preprocess_cfg": preprocess},
    )
    tokenizer.save_pretrained(folder)


def text_encoder(folder: Path | str = FOLDER) -> tuple[Any, Any]:
    """The trained text encoder as transformers' `CLIPTextModelWithProjection`, and its tokenizer."""
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    folder = Path(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    ours = {key: value.float() for key, value in load_file(folder / "open_clip_model.safetensors").items()}
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    text = config["text_cfg"]
    model = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=text["vocab_size"],
            hidden_size=text["width"],
            intermediate_size=4 * text["width"],
            num_hidden_layers=text["layers"],
            num_attention_heads=text["heads"],
            max_position_embeddings=text["context_length"],
            projection_dim=config["embed_dim"],
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    theirs = {
        "text_model.embeddings.token_embedding.weight": ours["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": ours["positional_embedding"],
        "text_model.final_layer_norm.weight": ours["ln_final.weight"],
        "text_model.final_layer_norm.bias": ours["ln_final.bias"],
        "text_projection.weight": ours["text_projection"].T.contiguous(),
    }
    renamed = {
        "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }  # fmt: skip
    for layer in range(text["layers"]):
        source, target = f"transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            for mine, other in renamed.items():
                theirs[f"{target}.{other}.{kind}"] = ours[f"{source}.{mine}.{kind}"]
            for part, name in zip(ours[f"{source}.attn.in_proj_{kind}"].chunk(3), "qkv", strict=True):
                theirs[f"{target}.self_attn.{name}_proj.{kind}"] = part
    missing, unexpected = model.load_state_dict(theirs, strict=False)
    if unexpected or any("position_ids" not in key for key in missing):
        raise ValueError(f"{folder}: text encoder doesn't fit transformers' layout: {missing} {unexpected}")
    return model.eval(), tokenizer


def main() -> str:
    settings = load_settings("clip")
    images, captions = read_scenes(UNTIDY)
    learner, tokenizer, losses = train(images, captions, settings, compute_device())
    return finish("clip", settings, FOLDER, lambda folder: save(folder, learner, tokenizer), losses)


if __name__ == "__main__":
    run_stage(main)
