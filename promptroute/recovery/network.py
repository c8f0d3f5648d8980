"""The ensemble: attention over several embeddings of an image. Imports torch, so it is imported where it is used."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from promptroute.core.errors import UserError
from promptroute.recovery.vectors import check_views

PUBLISHED = {"clip": 512, "convnext": 768, "interrogator": 384}
"""The published ensemble's views and their widths, in its order."""


class EnsembleNetwork(nn.Module):
    """Several embeddings of an image → one sentence embedding.

    Each view becomes a token: ELU(linear); the tokens go through post-norm transformer blocks (Vaswani et al. 2017,
    arXiv 1706.03762), and a linear layer gives the answer from the first token.

    Args:
        widths: view → its width, in the tokens' order.
        width: of a token.
        blocks, heads: how many; each head is width / heads wide.
        feed_forward: width of the blocks' inner layer.
        out: width of the answer.
        dropout: share of each block's values that training drops.
        as_it_is: views of the tokens' own width that go in without a linear layer, as the published ensemble's first.
        position: add a learned vector per view, so that attention knows which token is which; the published ensemble
            has none.
        batch_axis: attend over the images of a batch, view by view, as the published code does by mistake: an image's
            answer then depends on its neighbours, and its own views never meet.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        width: int = 512,
        blocks: int = 3,
        heads: int = 8,
        feed_forward: int = 2048,
        out: int = 384,
        dropout: float = 0.1,
        as_it_is: tuple[str, ...] = (),
        position: bool = True,
        batch_axis: bool = False,
    ) -> None:
        super().__init__()
        self.widths, self.batch_axis = dict(widths), batch_axis
        # By number: a view may bear a name that a module can't.
        self.project = nn.ModuleList(
            nn.Identity() if name in as_it_is else nn.Sequential(nn.Linear(size, width), nn.ELU())
            for name, size in widths.items()
        )
        self.position = nn.Parameter(0.02 * torch.randn(len(widths), width)) if position else None
        block = nn.TransformerEncoderLayer(
            width, heads, feed_forward, dropout, activation="relu", batch_first=not batch_axis
        )
        self.blocks = nn.TransformerEncoder(block, blocks, enable_nested_tensor=False)
        self.out = nn.Linear(width, out)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Answer for float32 [n, d] of each view, in order: float32 [n, out], not normalised."""
        tokens = torch.stack(
            [layer(rows) for layer, rows in zip(self.project, views, strict=True)], dim=1
        )  # [n, views, width]
        if self.position is not None:
            tokens = tokens + self.position
        answer: Tensor = self.out(self.blocks(tokens)[:, 0])
        return answer

    def answers(self, views: Mapping[str, np.ndarray], batch_size: int | None = None) -> np.ndarray:
        """Answer for numpy arrays, on the network's device: view → [n, d] gives float32 [n, out], not normalised.

        Args:
            views: of n images.
            batch_size: images at once; all where None. With `batch_axis` it is part of the result.

        Raises:
            UserError: as `check_views`.
        """
        n = check_views(views, self.widths)
        rows = [
            torch.from_numpy(np.ascontiguousarray(views[name], np.float32)).to(self.out.weight.device)
            for name in self.widths
        ]
        step = batch_size or n
        with torch.inference_mode():
            parts = [self([part[start : start + step] for part in rows]) for start in range(0, n, step)]
        return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)

    def predict(self, clip: np.ndarray, convnext: np.ndarray, interrogator: np.ndarray) -> np.ndarray:
        """Answer as the published ensemble does, from its three views in its order; see `answers`.

        Args:
            clip: [n, 512] of CLIP ViT-B/32.
            convnext: [n, 768] pooled features of ConvNeXt-tiny.
            interrogator: [n, 384] all-MiniLM-L6-v2 of the interrogator's text.
        """
        given = (clip, convnext, interrogator)
        if len(self.widths) != len(given):
            raise UserError(f"this ensemble takes {', '.join(self.widths)}; call answers with these views")
        return self.answers({name: np.asarray(rows) for name, rows in zip(self.widths, given, strict=True)})
