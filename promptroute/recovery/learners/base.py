"""What every learner is: views of images in, the sentence embeddings of their prompts out."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import numpy as np
from pydantic import PrivateAttr

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.recovery.vectors import Views, check_views, cosine, finite_rows, folds, unit

Arrays = dict[str, np.ndarray]


class Examples(NamedTuple):
    """Images of which the prompt is known.

    Attributes:
        views: of n images.
        target: float32 [n, d], unit length: the sentence embedding of each image's prompt.
    """

    views: Views
    target: np.ndarray

    def take(self, rows: np.ndarray) -> "Examples":
        """Give the images at integer positions, or of a mask."""
        return Examples({name: view[rows] for name, view in self.views.items()}, self.target[rows])


class Learner(Component):
    """Learns the sentence embedding of an image's prompt from views of the image.

    A fit on a CPU depends on its arguments and the learner's settings alone. A subclass gives `_fit`, which returns what
    it learned as arrays, and `_predict`.
    """

    learns: ClassVar[bool] = True
    """Whether a fit learns from the examples; where not, a study's figures need no fold."""

    _widths: dict[str, int] | None = None
    _arrays: Arrays = PrivateAttr(default_factory=dict)

    @property
    def widths(self) -> Mapping[str, int]:
        """Return the views that it was fitted with, in order, and their widths.

        Raises:
            UserError: it isn't fitted.
        """
        if self._widths is None:
            raise UserError(
                f"this {type(self).__name__} is not fitted yet; call fit, or load a saved recovery"
            )
        return self._widths

    def fit(
        self,
        views: Views,
        target: np.ndarray,
        groups: np.ndarray | None = None,
        validation: tuple[Views, np.ndarray] | None = None,
    ) -> Self:
        """Learn from n images.

        Args:
            views: of the images.
            target: [n, d] sentence embedding of each image's prompt, of any length but 0.
            groups: int [n]; images of one group are never on both sides of a split within the fit. None: images of one
                prompt are one group.
            validation: views and target of other images, by which settings or an epoch are chosen; None: a fifth of the
                groups, held out.

        Raises:
            UserError: as `check_views`, targets that are no embeddings of these images, or groups of others.
        """
        self._widths = None
        examples = _checked(views, target)
        if groups is None:
            groups = np.unique(examples.target, axis=0, return_inverse=True)[1].reshape(-1)
        if len(groups) != len(examples.target):
            raise UserError(
                f"groups are {len(groups)}, expected one for each of {len(examples.target)} images"
            )
        held = None
        if validation is not None:
            check_views(validation[0], {name: view.shape[1] for name, view in views.items()})
            held = _checked(*validation)
        self._arrays = self._fit(examples, np.asarray(groups), held)
        self._widths = {name: view.shape[1] for name, view in views.items()}
        return self

    def predict(self, views: Views) -> np.ndarray:
        """Return the predicted sentence embeddings: float32 [n, d], unit length.

        Row i depends on image i alone, unless the class says otherwise.

        Raises:
            UserError: not fitted; or as `check_views`.
        """
        check_views(views, self.widths)
        return unit(self._predict({name: np.asarray(views[name], np.float32) for name in self.widths}))

    def state(self) -> tuple[Plain, Arrays]:
        """Return what was learned, as values for JSON and as arrays."""
        return {"version": self.version, "views": dict(self.widths)}, self._arrays

    def restore(self, facts: Section, arrays: Arrays) -> Self:
        """Take back what `state` of an equal learner gave.

        Raises:
            UserError: another version of the class made it.
        """
        if facts.get("version") != self.version:
            raise UserError(
                f"made by version {facts.get('version')} of {type(self).__name__}, which is now at version "
                f"{self.version}; run the recovery again"
            )
        self._arrays = arrays
        self._widths = {str(name): int(width) for name, width in facts["views"].items()}
        return self

    @abstractmethod
    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        """Learn from checked arguments; see `fit`."""

    @abstractmethod
    def _predict(self, views: Views) -> np.ndarray:
        """Predict from checked views in the order of the fit: [n, d] of any length."""


def _checked(views: Views, target: np.ndarray) -> Examples:
    n = check_views(views)
    rows = finite_rows(np.asarray(target, np.float32), "prompt embeddings")
    if len(rows) != n:
        raise UserError(f"there are {len(rows)} prompt embeddings for {n} images; join them by prompt")
    if not (lengths := np.linalg.norm(rows, axis=1)).all():
        raise UserError(f"prompt embedding {int(lengths.argmin())} is all zeros; embed that prompt again")
    return Examples({name: np.asarray(view, np.float32) for name, view in views.items()}, unit(rows))


def held_out(
    examples: Examples, groups: np.ndarray, validation: Examples | None, seed: int
) -> tuple[Examples, Examples]:
    """Give what to learn from and what to choose by: the validation examples, or a fifth of the groups."""
    if validation is not None:
        return examples, validation
    outside = folds(groups, 5, seed) == 0
    return examples.take(~outside), examples.take(outside)


def mean_cosine(predicted: np.ndarray, target: np.ndarray) -> float:
    """Average the cosine over images: -1 to 1, higher is better."""
    return float(cosine(predicted, target).mean())


class Scaling(NamedTuple):
    """Views side by side, each less its mean and of mean square length 1, so that none outweighs another.

    Attributes:
        mean, scale: float32 [p], p the sum of the views' widths.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, views: Views) -> "Scaling":
        """Learn it from the views of n images."""
        mean = np.concatenate([view.mean(axis=0, dtype=np.float64) for view in views.values()])
        lengths = []
        for view in views.values():
            square = float(view.var(axis=0, dtype=np.float64).sum())
            lengths.append(np.full(view.shape[1], np.sqrt(square) if square > 0 else 1.0))
        return cls(mean.astype(np.float32), np.concatenate(lengths).astype(np.float32))

    def __call__(self, views: Views) -> np.ndarray:
        """Set views side by side: float32 [n, p]."""
        return (np.concatenate(list(views.values()), axis=1) - self.mean) / self.scale
