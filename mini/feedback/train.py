"""Train the small feedback network: params `feedback` → mini/pipeline/data/weights/feedback/.

Auxiliary heads, dropped after training, make so small a training sufficient: they tell from each of the ViT's patches
which thing covers it, which of its pixels (from its first layer on, so that shapes don't hide behind colours), and how
implausible it is; and from each word's place in the text what the image shows there. The ViT is trained alone first,
then it stays as it is while T5 learns the words, then everything is trained. Maps and scores are learnt by cross-entropy:
its minimum is the mean squared error's, and it reaches that sooner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mini.captions import NUMBERS, OPPOSITE
from mini.feedback.examples import MAPS, SCORES, VALUES
from mini.feedback.render import TRAIN, VALIDATION, Examples, read_examples
from mini.feedback.tokens import train_tokenizer, word_ends
from mini.scenes import PLACES, SIDE, SIZES, mask
from mini.settings import WEIGHTS, load_settings
from mini.training import Step, compute_device, finish, fit, to_tensor
from promptroute.feedback.checkpoint import TOKENIZER, save
from promptroute.feedback.evaluation import evaluate
from promptroute.feedback.examples import ArrayExamples
from promptroute.feedback.network import FeedbackNetwork, token_loss
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens, labelled, pad, prompt_words
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "feedback"
PATCH = 8
GRID = SIDE // PATCH
IGNORED = -100  # a class that torch's cross-entropy leaves out
THING = ("colour", "shape", "size", "texture")
CLASSES = [1 + len(VALUES[part]) for part in THING]
GROUND = [len(VALUES[part]) for part in ("background", "pattern")]
SHOWN: list[tuple[str, Any]] = [
    (part, value)
    for part, values in {
        **VALUES, "place": tuple(PLACES), "relation": tuple(OPPOSITE), "count": (0, *NUMBERS, 5, 6),
    }.items()
    for value in values
]  # fmt: skip
"""What an image may show at a word: part and value."""


def network_settings(vocabulary: int) -> NetworkSettings:
    """Return the small network's sizes: the published one's classes, a thousandth as large."""
    return NetworkSettings(
        image_side=SIDE, patch_side=PATCH,
        vit_width=64, vit_layers=3, vit_heads=4, vit_mlp=256,
        width=64, mlp=256, layers=2, decoder_layers=1, heads=4, head_width=16, vocabulary=vocabulary,
        heatmap_widths=[24, 16], doubling_widths=[16, 8],
        score_widths=[16, 8], score_layers=[64, 32], dropout=0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Examples as the network and its auxiliary heads take them, row for row.

    Attributes:
        images: uint8 [n, 64, 64, 3].
        maps: uint8 [n, 2, 64, 64].
        ids, targets: int64 [n, t] and [n, l], padded with 0; prompts and labelled prompts.
        lengths: int64 [n], of the prompts.
        scores: float32 [n, 4].
        ends: int64 [n, w], position of each word's last piece; 0 beyond the last word.
        missed: int64 [n, w], 1 for a missed word, `IGNORED` beyond the last.
        shown: int64 [n, w], number in `SHOWN`; `IGNORED` for a word that states nothing.
        patches: int64 [n, 4, 64], number of each `THING`'s value, 0 for the ground.
        covers: uint8 [n, 64, 64], how much of each of a patch's pixels things cover, 255 for 1.
        grounds: int64 [n, 2], number of background and pattern.
    """

    images: NDArray[np.uint8]
    maps: NDArray[np.uint8]
    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    scores: NDArray[np.float32]
    ends: NDArray[np.int64]
    missed: NDArray[np.int64]
    shown: NDArray[np.int64]
    patches: NDArray[np.int64]
    covers: NDArray[np.uint8]
    grounds: NDArray[np.int64]


def in_patches(pixels: NDArray[Any]) -> NDArray[Any]:
    """Cut [..., 64, 64] into patches, row after row: [..., 64, 64], the last axis a patch's pixels."""
    *n, _, _ = pixels.shape
    cut = pixels.reshape(*n, GRID, PATCH, GRID, PATCH)
    return np.moveaxis(cut, -3, -2).reshape(*n, GRID * GRID, PATCH * PATCH)


def patch_targets(scene: Mapping[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Say what covers a scene's patches.

    Returns:
        int64 [4, 64], the number of each `THING`'s value where a thing covers a quarter or more of a patch, else 0; and
        how much of each pixel things cover, uint8 [64, 64] as `in_patches`.
    """
    numbers, covers = np.zeros((len(THING), GRID * GRID), np.int64), np.zeros((SIDE, SIDE))
    for item in scene["objects"]:
        cover = mask(item["shape"], item["x"], item["y"], SIZES[item["size"]])
        values = [1 + list(VALUES[part]).index(item[part]) for part in THING]
        numbers[:, in_patches(cover).mean(axis=1) >= 0.25] = np.array(values)[:, None]
        covers = np.maximum(covers, cover)
    return numbers, in_patches(np.round(255 * covers).astype(np.uint8))


def inputs_of(examples: Examples, tokenizer: Any) -> Inputs:
    """Encode examples."""
    rows = examples.rows
    numbers = {key: index for index, key in enumerate(SHOWN)}
    texts = [prompt_words(row["text"]) for row in rows]
    encoded = tokenizer.encode_batch([" ".join(text) for text in texts])
    written = [labelled(text, row["missed"]) for text, row in zip(texts, rows, strict=True)]
    targets = tokenizer.encode_batch([" ".join(text) for text in written])
    shown = [
        [numbers.get(key, IGNORED) for key in zip(row["parts"], row["shown"], strict=True)] for row in rows
    ]
    grounds = [[VALUES[part].index(row["scene"][part]) for part in ("background", "pattern")] for row in rows]
    patches, covers = zip(*(patch_targets(row["scene"]) for row in rows), strict=True)
    return Inputs(
        images=examples.images,
        maps=examples.maps,
        ids=pad([text.ids for text in encoded])[0],
        targets=pad([text.ids for text in targets])[0],
        lengths=np.array([len(text.ids) for text in encoded]),
        scores=np.array([[row["scores"][name] for name in SCORES] for row in rows], np.float32),
        ends=pad([word_ends(text) for text in encoded])[0],
        missed=_filled([row["missed"] for row in rows]),
        shown=_filled(shown),
        patches=np.stack(patches),
        covers=np.stack(covers),
        grounds=np.array(grounds),
    )


def _filled(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return rows of classes as int64 [n, longest], `IGNORED` behind their ends."""
    table, lengths = pad(rows)
    return np.where(np.arange(table.shape[1]) < lengths[:, None], table, IGNORED)


def grid_waves(width: int) -> Tensor:
    """Return sines and cosines of the patches' rows and columns, float32 [64, width], for the ViT to begin with."""
    rows, columns = np.mgrid[:GRID, :GRID].reshape(2, -1, 1)
    frequencies = 100.0 ** -(np.arange(width // 4) / (width // 4))
    angles = (rows * frequencies, columns * frequencies)
    waves = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return torch.from_numpy(waves.astype(np.float32))


class Learner(nn.Module):
    """The network with its auxiliary heads."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.network = FeedbackNetwork(settings)
        width = settings.vit_width
        self.patch_head = nn.Linear(width, sum(CLASSES) + 1)
        self.cover_head = nn.Linear(width, PATCH * PATCH)
        self.ground_head = nn.Linear(width, sum(GROUND))
        self.shown_head = nn.Linear(settings.width, len(SHOWN))
        self.missed_head = nn.Linear(settings.width, 2)
        with torch.no_grad():
            self.network.vit.embeddings.position_embeddings[0, 1:] = 0.5 * grid_waves(width)

    def patch_loss(self, seen: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of what is told of each patch, given the ViT's output with hidden states."""
        last, first = seen.last_hidden_state, seen.hidden_states[1]
        *things, implausible = self.patch_head(last[:, 1:]).float().split([*CLASSES, 1], dim=2)
        grounds = self.ground_head(last[:, 0]).float().split(GROUND, dim=1)
        covers = self.cover_head(first[:, 1:]).float()
        loss = 4 * F.binary_cross_entropy_with_logits(covers, batch["covers"])
        loss = loss + F.binary_cross_entropy_with_logits(implausible[..., 0], batch["implausible"])
        for index, part in enumerate(things):
            loss = loss + F.cross_entropy(part.transpose(1, 2), batch["patches"][:, index])
        for index, part in enumerate(grounds):
            loss = loss + 0.2 * F.cross_entropy(part, batch["grounds"][:, index])
        return loss

    def see_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of the ViT alone."""
        return self.patch_loss(self.network.vit(batch["pixels"], output_hidden_states=True), batch)

    def word_loss(self, encoded: Tensor, attended: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of what is told of the words: the written text, and the auxiliary heads.

        Args:
            encoded: of T5's encoder, [b, 1 + 64 + t, width].
            attended: int64 [b, 1 + 64 + t].
            batch: as `batch_of`.
        """
        t, targets = batch["ids"].shape[1], batch["targets"]
        text = encoded[:, -t:]
        started = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
        logits = self.network.token_logits(self.network.decode(text, attended[:, -t:], started))
        at_words = text.gather(1, batch["ends"][..., None].expand(-1, -1, text.shape[2]))
        shown = self.shown_head(at_words).float().transpose(1, 2)
        missed = self.missed_head(at_words).float().transpose(1, 2)
        return (
            token_loss(logits, targets, targets != 0)
            + 0.5 * F.cross_entropy(shown, batch["shown"], ignore_index=IGNORED)
            + F.cross_entropy(missed, batch["missed"], ignore_index=IGNORED)
        )

    def loss(self, batch: Mapping[str, Tensor], words_only: bool = False) -> Tensor:
        """Return the loss of everything; with `words_only`, of T5 without the heads, and the ViT stays as it is."""
        network = self.network
        with torch.set_grad_enabled(torch.is_grad_enabled() and not words_only):
            seen = network.vit(batch["pixels"], output_hidden_states=True)
        projected = network.visual_token_projection(seen.last_hidden_state)
        encoded, attended = network.read(projected, batch["ids"], batch["lengths"])
        loss = self.word_loss(encoded, attended, batch)
        if words_only:
            return loss
        loss = loss + 0.3 * self.patch_loss(seen, batch)
        features = encoded[:, 1 : 1 + GRID * GRID].transpose(1, 2).reshape(len(encoded), -1, GRID, GRID)
        for predictors, names, weight, truth in (
            (network.score_predictor, SCORES, 0.5, batch["scores"]),
            (network.heatmap_predictor, MAPS, 2.0, batch["maps"]),
        ):
            for index, name in enumerate(names):
                given = predictors[name](features).float()  # type: ignore[index]
                loss = loss + weight * F.binary_cross_entropy(given, truth[:, index])
        return loss


def soften(pixels: Tensor, step: Step) -> Tensor:
    """Blur half of the images a little, and add some noise, as generators do: float32 [b, 3, 64, 64] in -1…1."""
    strength = torch.from_numpy(step.rng.random((3, len(pixels), 1, 1, 1)).astype(np.float32))
    blur, noise = strength[0] * (strength[2] < 0.5), strength[1] * (strength[2] < 0.5)
    near = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = pixels + 0.6 * blur * (near - pixels)
    return (mixed + 0.05 * noise * step.normal(pixels.shape, "cpu")).clamp(-1, 1)


def shrunk(maps: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the means of 2 × 2 pixels: uint8 [..., 64, 64] → float32 [..., 32, 32] in 0…1, as the network's maps."""
    return (
        maps.reshape(*maps.shape[:-2], SIDE // 2, 2, SIDE // 2, 2).mean(axis=(-3, -1), dtype=np.float32) / 255
    )


def batch_of(inputs: Inputs, rows: Sequence[int] | NDArray[np.int64], device: str) -> dict[str, Tensor]:
    """Take some rows as tensors; texts no longer than their longest."""
    t, w = inputs.lengths[rows].max(), (inputs.missed[rows] != IGNORED).sum(axis=1).max()
    length = (inputs.targets[rows] != 0).sum(axis=1).max()
    arrays = {
        "ids": inputs.ids[rows, :t], "lengths": inputs.lengths[rows], "targets": inputs.targets[rows, :length],
        "scores": inputs.scores[rows], "ends": inputs.ends[rows, :w], "missed": inputs.missed[rows, :w],
        "shown": inputs.shown[rows, :w], "patches": inputs.patches[rows], "grounds": inputs.grounds[rows],
        "maps": shrunk(inputs.maps[rows]), "covers": inputs.covers[rows].astype(np.float32) / 255,
        "implausible": in_patches(inputs.maps[rows, 0]).mean(axis=2, dtype=np.float32) / 255,
    }  # fmt: skip
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return tensors | {"pixels": to_tensor(inputs.images[rows], device)}


def train(
    inputs: Inputs, vocabulary: int, settings: Mapping[str, Any], device: str
) -> tuple[Learner, list[float]]:
    """Train on examples; return the learner and the loss of each step."""
    torch.manual_seed(settings["seed"])
    learner = Learner(network_settings(vocabulary)).to(device)

    def loss_of(step: Step) -> Tensor:
        alone = step.progress < settings["see_only"]
        rows = step.rows(len(inputs.ids), 4 * settings["batch"])
        if alone:
            rows = rows[: 2 * settings["batch"]]
        else:  # texts of about one length, so that little is padded
            start = int(step.rng.integers(0, 3 * settings["batch"]))
            rows = rows[np.argsort(inputs.lengths[rows], kind="stable")][start : start + settings["batch"]]
        batch = batch_of(inputs, rows, device)
        batch["pixels"] = soften(batch["pixels"].cpu(), step).to(device)
        if alone:
            return learner.see_loss(batch)
        return learner.loss(batch, words_only=step.progress < settings["words_only"])

    return learner, fit("feedback", learner, loss_of, settings)


def choose_threshold(network: FeedbackNetwork, examples: Examples, tokenizer: Any) -> float:
    """Choose the probability from which a word counts as missed, by F1 on a validation set."""
    judged = evaluate(
        network, as_arrays(examples, WordTokens(tokenizer), network.settings), WordTokens(tokenizer)
    )
    return judged.threshold


def as_arrays(examples: Examples, tokens: WordTokens, settings: NetworkSettings) -> ArrayExamples:
    """Give examples as the network's own evaluation takes them, maps at the network's side."""
    return ArrayExamples(
        examples.images,
        [prompt_words(row["text"]) for row in examples.rows],
        [np.array(row["missed"], bool) for row in examples.rows],
        np.array([[row["scores"][name] for name in SCORES] for row in examples.rows]),
        shrunk(examples.maps),
        tokens,
        settings,
    )


def write(folder: Path, network: FeedbackNetwork, tokenizer: Any, threshold: float) -> None:
    """Write the network in half precision, with its tokenizer."""
    place = folder.parent / f"{folder.name}.{TOKENIZER}"
    tokenizer.save(str(place))
    save(network, folder, place, half=True, threshold=threshold)
    place.unlink()


def main() -> str:
    settings, device = load_settings("feedback"), compute_device()
    examples = read_examples(TRAIN)
    tokenizer = train_tokenizer(row["text"] for row in examples.rows)
    inputs = inputs_of(examples, tokenizer)
    learner, losses = train(inputs, tokenizer.get_vocab_size(), settings, device)
    network = learner.network.cpu().eval()
    threshold = choose_threshold(network, read_examples(VALIDATION), tokenizer)
    return finish(
        "feedback", settings, FOLDER, lambda folder: write(folder, network, tokenizer, threshold), losses
    )


if __name__ == "__main__":
    run_stage(main)
