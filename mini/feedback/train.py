"""Train the small feedback network: params `feedback` → mini/pipeline/data/weights/feedback/.

Auxiliary heads, dropped after training, make so small a training sufficient: one tells from each of the ViT's patches
which thing covers it, one from each word's place in the text what the image shows there. The ViT is trained alone
first. Maps and scores are learnt by cross-entropy: its minimum is the mean squared error's, and it reaches that sooner.
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
    grounds: NDArray[np.int64]


def patch_targets(scene: Mapping[str, Any]) -> NDArray[np.int64]:
    """Number what covers a quarter or more of each of a scene's patches: int64 [4, 64], 0 for the ground."""
    numbers = np.zeros((len(THING), GRID * GRID), np.int64)
    for item in scene["objects"]:
        cover = mask(item["shape"], item["x"], item["y"], SIZES[item["size"]])
        inside = cover.reshape(GRID, PATCH, GRID, PATCH).mean(axis=(1, 3)).reshape(-1) >= 0.25
        values = [1 + list(VALUES[part]).index(item[part]) for part in THING]
        numbers[:, inside] = np.array(values)[:, None]
    return numbers


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
        patches=np.stack([patch_targets(row["scene"]) for row in rows]),
        grounds=np.array(grounds),
    )


def _filled(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return rows of classes as int64 [n, longest], `IGNORED` behind their ends."""
    table, lengths = pad(rows)
    return np.where(np.arange(table.shape[1]) < lengths[:, None], table, IGNORED)


class Learner(nn.Module):
    """The network with its auxiliary heads."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.network = FeedbackNetwork(settings)
        self.patch_head = nn.Linear(settings.vit_width, sum(CLASSES))
        self.ground_head = nn.Linear(settings.vit_width, sum(GROUND))
        self.shown_head = nn.Linear(settings.width, len(SHOWN))
        self.missed_head = nn.Linear(settings.width, 2)

    def patch_loss(self, states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropy of what covers each patch, given the ViT's states [b, 1 + 64, width]."""
        things = self.patch_head(states[:, 1:]).float().split(CLASSES, dim=2)
        losses = [
            F.cross_entropy(part.transpose(1, 2), batch["patches"][:, index])
            for index, part in enumerate(things)
        ]
        grounds = self.ground_head(states[:, 0]).float().split(GROUND, dim=1)
        losses += [
            0.2 * F.cross_entropy(part, batch["grounds"][:, index]) for index, part in enumerate(grounds)
        ]
        return torch.stack(losses).sum()

    def see_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of the ViT alone."""
        return self.patch_loss(self.network.vit(batch["pixels"]).last_hidden_state, batch)

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

    def loss(self, batch: Mapping[str, Tensor], heads: bool = True) -> Tensor:
        """Return the loss of T5 and, with `heads`, of scores and maps; the ViT stays as it is."""
        network = self.network
        with torch.no_grad():
            seen = network.vit(batch["pixels"]).last_hidden_state
        encoded, attended = network.read(
            network.visual_token_projection(seen), batch["ids"], batch["lengths"]
        )
        loss = self.word_loss(encoded, attended, batch)
        if not heads:
            return loss
        features = encoded[:, 1 : 1 + GRID * GRID].transpose(1, 2).unflatten(2, (GRID, GRID))
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
        "maps": shrunk(inputs.maps[rows]),
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
        return learner.loss(batch, heads=step.progress >= settings["words_only"])

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
