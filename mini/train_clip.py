"""Train the small CLIP and its text encoder, which every generator uses: params `clip` → mini/pipeline/data/weights/clip/.

Two auxiliary losses make so small a training sufficient: a head on the caption's embedding predicts what the caption
states, and a head on the image's embedding what the scene contains. The text encoder is trained alone first: what it
loses, no generator that reads it can show.
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
from mini.render_scenes import FREE, read_scenes
from mini.scenes import BACKGROUNDS, COLOURS, PATTERNS, PLACES, SHAPES, SIZES, TEXTURES, Scene, place_of
from mini.settings import WEIGHTS, load_settings
from mini.tokens import CONTEXT, encode, train_tokenizer
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.io.files import write_json
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "clip"
WIDTH = 96  # of the text encoder
TEXT_ONLY = 0.7  # share of the steps that train the text encoder alone, on batches `TEXTS` times as large
TEXTS = 2
MAX_GROUPS = 3
# attribute of a group that a caption may state → its values
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
CLASSES = [len(options) + 1 for options in (*(MAX_GROUPS * [*PARTS.values()]), *WHOLE.values())]


def statement_targets(statement: Statement) -> list[int]:
    """Encode what a caption states as class numbers, in the order of `CLASSES`; 0: not stated."""
    numbers = []
    for index in range(MAX_GROUPS):
        group = statement.groups[index] if index < len(statement.groups) else None
        for name, options in PARTS.items():
            value = getattr(group, name, None)
            numbers.append(0 if value is None else options.index(value) + 1)
    for name, options in WHOLE.items():
        value = getattr(statement, name)
        numbers.append(0 if value is None else options.index(value) + 1)
    return numbers


def scene_targets(scene: Scene) -> NDArray[np.float32]:
    """Encode a scene as zeros and ones, float32 [SCENE_TARGETS]: coloured shapes, places, sizes, textures, count, background."""
    pairs = np.zeros((len(SHAPES), len(COLOURS)))
    parts = {"place": np.zeros(9), "size": np.zeros(3), "texture": np.zeros(3)}
    for item in scene.objects:
        pairs[list(SHAPES).index(item.shape), list(COLOURS).index(item.colour)] = 1
        parts["place"][list(PLACES).index(place_of(item.x, item.y))] = 1
        parts["size"][list(SIZES).index(item.size)] = 1
        parts["texture"][TEXTURES.index(item.texture)] = 1
    count = np.arange(1, 5) == len(scene.objects)
    ground = np.array([name == scene.background for name in BACKGROUNDS])
    pattern = np.array([name == scene.pattern for name in PATTERNS])
    return np.concatenate([pairs.ravel(), *parts.values(), count, ground, pattern]).astype(np.float32)


SCENE_TARGETS = len(SHAPES) * len(COLOURS) + 9 + 3 + 3 + 4 + len(BACKGROUNDS) + len(PATTERNS)


def model_config(vocabulary: int) -> dict[str, Any]:
    """Return the configuration of open_clip's `CLIP`: a narrow ResNet for images, a three-layer transformer for text."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 12, "image_size": 64, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": WIDTH,
            "heads": 3,
            "layers": 3,
            "hf_tokenizer_name": "local",  # the tokenizer's files are beside this configuration
        },
    }


class Learner(nn.Module):
    """The CLIP model with the two auxiliary heads, which are dropped after training."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        from open_clip.model import CLIP

        config = model_config(vocabulary)
        config["text_cfg"] = {
            key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"
        }
        self.clip = CLIP(**config)
        self.statement_head = nn.Linear(config["embed_dim"], sum(CLASSES))
        self.scene_head = nn.Linear(config["embed_dim"], SCENE_TARGETS)

    def loss(self, images: Tensor, tokens: Tensor, statements: Tensor, scenes: Tensor) -> Tensor:
        """Return CLIP's loss plus both auxiliary ones.

        Args:
            images: float32 [b, 3, 64, 64].
            tokens: int64 [b, CONTEXT].
            statements: int64 [b, len(CLASSES)], as `statement_targets`.
            scenes: float32 [b, SCENE_TARGETS], as `scene_targets`.
        """
        pooled = self.pooled(tokens)
        image = self.clip.encode_image(images)
        text = pooled @ self.clip.text_projection
        similarity = (
            self.clip.logit_scale.exp().clamp(max=50) * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
        )
        same = torch.arange(len(images), device=images.device)
        loss = (F.cross_entropy(similarity, same) + F.cross_entropy(similarity.T, same)) / 2
        return (
            loss
            + self.statement_loss(text, statements)
            + 5 * F.binary_cross_entropy_with_logits(self.scene_head(image), scenes)
        )

    def statement_loss(self, text: Tensor, statements: Tensor) -> Tensor:
        """Return the cross-entropy of what captions state, int64 [b, len(CLASSES)], given their embeddings [b, embed_dim]."""
        parts = self.statement_head(text).split(CLASSES, dim=1)
        return torch.stack(
            [F.cross_entropy(part, statements[:, index]) for index, part in enumerate(parts)]
        ).mean()

    def pooled(self, tokens: Tensor) -> Tensor:
        """Return the text encoder's state at the end token, float32 [b, WIDTH]."""
        return self.text_states(tokens)[torch.arange(len(tokens)), tokens.argmax(dim=1)]

    def text_states(self, tokens: Tensor) -> Tensor:
        """Return the text encoder's last states, float32 [b, CONTEXT, WIDTH]."""
        model = self.clip
        states = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
        length = tokens.shape[1]
        states = model.transformer(states, attn_mask=model.attn_mask[:length, :length])
        last: Tensor = model.ln_final(states)
        return last


def train(
    images: Any, captions: Sequence[Caption], settings: dict[str, Any], device: str
) -> tuple[Learner, Any, list[float]]:
    """Train on captioned images; return the learner, the tokenizer and the loss of each step."""
    tokenizer = train_tokenizer(caption.text for caption in captions)
    tokens = encode(tokenizer, [caption.text for caption in captions])
    statements = torch.tensor([statement_targets(caption.statement) for caption in captions])
    scenes = torch.from_numpy(np.stack([scene_targets(caption.scene) for caption in captions]))
    torch.manual_seed(settings["seed"])
    learner = Learner(len(tokenizer)).to(device)

    by_length = np.argsort(tokens.argmax(dim=1).numpy(), kind="stable")

    def loss_of(step: Step) -> Tensor:
        text_only = step.progress < TEXT_ONLY
        rows = step.rows(len(images), settings["batch"])
        if text_only:  # captions of similar length, so that few tokens are padding
            n = TEXTS * settings["batch"]
            first = step.rng.integers(0, max(1, len(by_length) - 4 * n))
            rows = step.rng.choice(by_length[first : first + 4 * n], min(n, len(by_length)), replace=False)
        batch = tokens[rows]
        length = int(
            (batch.argmax(dim=1) + 1).max()
        )  # attention is causal: what follows the end token has no effect
        batch = batch[:, :length].to(device)
        if text_only:
            text = learner.pooled(batch) @ learner.clip.text_projection
            return learner.statement_loss(text, statements[rows].to(device))
        return learner.loss(
            to_tensor(images[rows], device), batch, statements[rows].to(device), scenes[rows].to(device)
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
    """Load the trained text encoder as transformers' `CLIPTextModelWithProjection`, and its tokenizer."""
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
        raise ValueError(
            f"{folder}: the text encoder does not fit transformers' layout: {missing} {unexpected}"
        )
    return model.eval(), tokenizer


def main() -> str:
    settings = load_settings("clip")
    images, captions = read_scenes(FREE)
    learner, tokenizer, losses = train(images, captions, settings, compute_device())
    return finish("clip", settings, FOLDER, lambda folder: save(folder, learner, tokenizer), losses)


if __name__ == "__main__":
    run_stage(main)
