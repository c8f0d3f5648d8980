"""Train the small feedback network: params `feedback` → mini/pipeline/data/weights/feedback/.

Auxiliary heads, dropped after training, make so small a training sufficient: they tell from each of the ViT's patches
which thing covers it, which of its pixels (from its first layer on, so that shapes don't hide behind colours), and how
implausible it is; and from each word's place in the text what the image shows there. The ViT is trained alone first,
then it may stay as it is while T5 learns the words, then everything is trained. Maps and scores are learnt by
cross-entropy: its minimum is the mean squared error's, and it reaches that sooner. A part of each batch are images that the
small models generated, of which only the words, their map and the alignment are known.
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
from mini.feedback.render import (
    ARRAYS,
    GENERATED_TRAIN,
    GENERATED_VALIDATION,
    TRAIN,
    VALIDATION,
    Examples,
    read_examples,
)
from mini.feedback.targets import CLASSES, GRID, PATCH, UNSEEN
from mini.feedback.tokens import train_tokenizer, word_ends
from mini.scenes import PLACES, SIDE
from mini.settings import WEIGHTS, load_settings
from mini.training import Step, checkpoint_path, compute_device, finish, fit
from promptroute.feedback.checkpoint import TOKENIZER, save
from promptroute.feedback.evaluation import evaluate
from promptroute.feedback.examples import ArrayExamples
from promptroute.feedback.network import FeedbackNetwork, token_loss
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens, labelled, pad, prompt_words
from promptroute.feedback.writing import best_threshold
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

FOLDER = WEIGHTS / "feedback"
SCORE_WEIGHTS = {"alignment": 1.0}
IGNORED = -100  # a class that torch's cross-entropy leaves out
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
        vit_width=144, vit_layers=5, vit_heads=6, vit_mlp=512,
        width=128, mlp=512, layers=4, decoder_layers=1, heads=4, head_width=32, vocabulary=vocabulary,
        heatmap_widths=[32, 24], doubling_widths=[16, 8],
        score_widths=[16, 8], score_layers=[64, 32], dropout=0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Examples as the network and its auxiliary heads take them, row for row.

    Attributes:
        tensors: on the device, by name:
            images uint8 [n, 64, 64, 3], maps uint8 [n, 2, 64, 64], patches uint8 [n, 4, 64] and covers uint8 [n, 64, 64],
            as the examples' files; ids and targets int64 [n, t] and [n, l], padded with 0: prompts and labelled prompts;
            lengths int64 [n], of the prompts; scores float32 [n, 4], NaN where unknown; ends int64 [n, w], position of
            each word's last piece, 0 beyond the last word; missed int64 [n, w], 1 for a missed word, `IGNORED` beyond the
            last; shown int64 [n, w], number in `SHOWN`, `IGNORED` for a word that states nothing; grounds int64 [n, 2],
            number of background and pattern.
        sizes: int64 [n, 3]: pieces of the prompt and of the labelled one, words.
        rendered: how many of the rows, the first ones, are rendered scenes; the others are images that were generated.
    """

    tensors: dict[str, Tensor]
    sizes: NDArray[np.int64]
    rendered: int

    def rows(self, rng: np.random.Generator, batch: int, generated: float) -> NDArray[np.int64]:
        """Sample rows, of which a share were generated; sorted, so that a file is read in order."""
        others = round(batch * generated) if self.rendered < len(self.sizes) else 0
        picked = [
            rng.integers(0, self.rendered, batch - others),
            rng.integers(self.rendered, len(self.sizes), others) if others else np.zeros(0, np.int64),
        ]
        return np.sort(np.concatenate(picked))


def inputs_of(parts: Sequence[Examples], tokenizer: Any, device: str = "cpu") -> Inputs:
    """Encode examples: rendered scenes, then generated images if there are any."""
    rows = [row for part in parts for row in part.rows]
    numbers = {key: index for index, key in enumerate(SHOWN)}
    texts = [prompt_words(row["text"]) for row in rows]
    encoded = tokenizer.encode_batch([" ".join(text) for text in texts])
    written = [labelled(text, row["missed"]) for text, row in zip(texts, rows, strict=True)]
    targets = tokenizer.encode_batch([" ".join(text) for text in written])
    shown = [
        [numbers.get(key, IGNORED) for key in zip(row["parts"], row["shown"], strict=True)] for row in rows
    ]
    small = {
        "ids": pad([text.ids for text in encoded])[0],
        "targets": pad([text.ids for text in targets])[0],
        "lengths": np.array([len(text.ids) for text in encoded]),
        "scores": np.array(
            [[row["scores"].get(name, np.nan) for name in SCORES] for row in rows], np.float32
        ),
        "ends": pad([word_ends(text) for text in encoded])[0],
        "missed": _filled([row["missed"] for row in rows]),
        "shown": _filled(shown),
        "grounds": np.array(
            [[VALUES[part].index(row["scene"][part]) for part in ("background", "pattern")] for row in rows]
        ),
    }
    large = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    tensors = {name: torch.from_numpy(value).to(device) for name, value in (small | large).items()}
    sizes = np.array(
        [
            [len(one.ids), len(two.ids), len(text)]
            for one, two, text in zip(encoded, targets, texts, strict=True)
        ]
    )
    return Inputs(tensors, sizes, len(parts[0].rows))


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
        *things, spoiled = self.patch_head(last[:, 1:]).float().split([*CLASSES, 1], dim=2)
        grounds = self.ground_head(last[:, 0]).float().split(GROUND, dim=1)
        covers = self.cover_head(first[:, 1:]).float()
        loss = 4 * F.binary_cross_entropy_with_logits(covers, batch["covers"])
        implausible = F.binary_cross_entropy_with_logits(
            spoiled[..., 0], batch["implausible"], reduction="none"
        ).mean(dim=1)
        loss = loss + (implausible * batch["exact"]).mean()
        for index, part in enumerate(things):
            loss = loss + F.cross_entropy(
                part.transpose(1, 2), batch["patches"][:, index], ignore_index=IGNORED
            )
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
            2 * token_loss(logits, targets, targets != 0)
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
        for index, name in enumerate(SCORES):
            truth = batch["scores"][:, index]
            known = ~truth.isnan()
            given = network.score_predictor[name](features).float()  # type: ignore[index]
            each = F.binary_cross_entropy(given, torch.where(known, truth, 0.5), reduction="none")
            loss = loss + SCORE_WEIGHTS.get(name, 0.5) * (each * known).mean()
        for index, name in enumerate(MAPS):
            given = network.heatmap_predictor[name](features).float()  # type: ignore[index]
            each = F.binary_cross_entropy(given, batch["maps"][:, index], reduction="none").mean(dim=(1, 2))
            known = batch["exact"] if name == "implausibility" else torch.ones_like(each)
            loss = loss + 2 * (each * known).mean()
        return loss


def soften(pixels: Tensor, step: Step) -> Tensor:
    """Blur half of the images a little, and add some noise, as generators do: float32 [b, 3, 64, 64] in -1…1."""
    strength = torch.from_numpy(step.rng.random((3, len(pixels), 1, 1, 1)).astype(np.float32)).to(
        pixels.device
    )
    blur, noise = strength[0] * (strength[2] < 0.5), strength[1] * (strength[2] < 0.5)
    near = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = pixels + 0.6 * blur * (near - pixels)
    generator = torch.Generator(pixels.device).manual_seed(step.seed)
    random = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    return (mixed + 0.05 * noise * random).clamp(-1, 1)


def shrunk(maps: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the means of 2 × 2 pixels: uint8 [..., 64, 64] → float32 [..., 32, 32] in 0…1, as the network's maps."""
    return (
        maps.reshape(*maps.shape[:-2], SIDE // 2, 2, SIDE // 2, 2).mean(axis=(-3, -1), dtype=np.float32) / 255
    )


def batch_of(inputs: Inputs, rows: NDArray[np.int64]) -> dict[str, Tensor]:
    """Take some rows, on their device; texts no longer than their longest."""
    at = torch.from_numpy(rows).to(inputs.tensors["ids"].device)
    taken = {name: value[at] for name, value in inputs.tensors.items()}
    t, length, w = inputs.sizes[rows].max(axis=0).tolist()
    patches = taken["patches"].long()
    maps = taken.pop("maps").float() / 255
    return taken | {
        "ids": taken["ids"][:, :t],
        "targets": taken["targets"][:, :length],
        **{name: taken[name][:, :w] for name in ("ends", "missed", "shown")},
        "exact": (~taken["scores"][:, 0].isnan()).float(),
        "patches": torch.where(patches == UNSEEN, IGNORED, patches),
        "covers": taken["covers"].float() / 255,
        "maps": F.avg_pool2d(maps, 2),
        "implausible": F.avg_pool2d(maps[:, 0], PATCH).flatten(1),
        "pixels": taken.pop("images").permute(0, 3, 1, 2).float() / 127.5 - 1,
    }


def train(
    inputs: Inputs, tokenizer: Any, settings: Mapping[str, Any], device: str
) -> tuple[Learner, list[float]]:
    """Train on examples; return the learner and the loss of each step.

    Whenever a checkpoint is saved, the network as it is by then stands in a
    folder beside it.
    """
    torch.manual_seed(settings["seed"])
    torch.set_float32_matmul_precision("high")  # on a GPU, products of 10 bits are exact enough here
    learner = Learner(network_settings(tokenizer.get_vocab_size())).to(device)
    pool, size = settings["pool"], settings["batch"]

    def loss_of(step: Step) -> Tensor:
        rows = inputs.rows(step.rng, pool * size, settings["generated"])
        alone = step.progress < settings["see_only"]
        if pool > 1:  # texts of about one length, so that little is padded
            start = int(step.rng.integers(0, (pool - 1) * size))
            rows = rows[np.argsort(inputs.sizes[rows, 0], kind="stable")][start : start + size]
        batch = batch_of(inputs, rows)
        batch["pixels"] = soften(batch["pixels"], step)
        if alone:
            return learner.see_loss(batch)
        return learner.loss(batch, words_only=step.progress < settings["words_only"])

    def keep(average: Mapping[str, Tensor]) -> None:
        prefix = "network."
        unfinished = FeedbackNetwork(learner.network.settings)
        unfinished.load_state_dict(
            learner.network.state_dict()
            | {key.removeprefix(prefix): value for key, value in average.items() if key.startswith(prefix)}
        )
        with atomic_path(checkpoint_path("feedback", settings).parent / "feedback") as temporary:
            temporary.mkdir(parents=True)
            write(temporary, unfinished, tokenizer, 0.5)

    losses = fit("feedback", learner, loss_of, settings, keep=keep)
    keep(learner.state_dict())
    return learner, losses


def choose_threshold(network: FeedbackNetwork, parts: Sequence[Examples], tokenizer: Any) -> float:
    """Choose the probability from which a word counts as missed, by F1 on validation sets together."""
    tokens = WordTokens(tokenizer)
    judged = [
        image
        for part in parts
        for image in evaluate(network, as_arrays(part, tokens, network.settings), tokens).images
    ]
    probabilities, labels = (
        np.concatenate([image[key] for image in judged]) for key in ("probabilities", "labels")
    )
    return best_threshold(probabilities, labels.astype(bool))


def as_arrays(examples: Examples, tokens: WordTokens, settings: NetworkSettings) -> ArrayExamples:
    """Give examples as the network's own evaluation takes them, maps at the network's side."""
    return ArrayExamples(
        examples.images,
        [prompt_words(row["text"]) for row in examples.rows],
        [np.array(row["missed"], bool) for row in examples.rows],
        np.array([[row["scores"].get(name, np.nan) for name in SCORES] for row in examples.rows]),
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
    parts = [read_examples(TRAIN), read_examples(GENERATED_TRAIN)]
    tokenizer = train_tokenizer(row["text"] for row in parts[0].rows)
    learner, losses = train(inputs_of(parts, tokenizer, device), tokenizer, settings, device)
    network = learner.network.eval()
    threshold = choose_threshold(
        network, [read_examples(VALIDATION), read_examples(GENERATED_VALIDATION)], tokenizer
    )
    return finish(
        "feedback",
        settings,
        FOLDER,
        lambda folder: write(folder, network.cpu(), tokenizer, threshold),
        losses,
    )


if __name__ == "__main__":
    run_stage(main)
