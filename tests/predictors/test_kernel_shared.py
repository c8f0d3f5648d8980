"""The kernel that models share, against its formula and against fits that really leave a prompt out."""

from typing import Any

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.kernel_shared import SharedKernel
from promptroute.predictors.similarity import Seen

SMALL: dict[str, Any] = {"encoder": "one", "width": 3, "components": 3, "min_count": 2}


def test_one_alpha_is_kernel(problem: Any) -> None:
    (prompts, quality), held = problem(40), problem(12, seed=1)
    for alpha in (0.5, 3.0):
        shared = SharedKernel(alphas=[alpha], **SMALL).fit(prompts, quality, held)
        plain = Kernel(alpha=alpha, **SMALL).fit(prompts, quality, held)
        np.testing.assert_allclose(shared.predict(held[0]), plain.predict(held[0]), atol=1e-4)
        np.testing.assert_allclose(shared.out_of_fold, plain.out_of_fold, atol=1e-4)


def test_formula(problem: Any) -> None:
    """Each direction has the alpha of the least squared error on prompts left out one by one."""
    (prompts, quality), (test, _) = problem(30), problem(9, seed=2)
    alphas = (0.1, 1.0, 10.0)
    model = SharedKernel(alphas=alphas, **SMALL).fit(prompts, quality)
    k = model._similarity(Seen(model._z, model._e, model._c)).astype(np.float64)
    centred = quality - quality.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1]
    turned = centred @ axes
    weights = np.zeros_like(turned)
    for column in range(quality.shape[1]):
        errors = []
        for alpha in alphas:
            error = 0.0
            for i in range(len(k)):
                rest = np.delete(np.arange(len(k)), i)
                dual = np.linalg.solve(
                    k[np.ix_(rest, rest)] + alpha * np.eye(len(rest)), turned[rest, column]
                )
                error += (turned[i, column] - k[i, rest] @ dual) ** 2
            errors.append(error)
        alpha = alphas[int(np.argmin(errors))]
        weights[:, column] = np.linalg.solve(k + alpha * np.eye(len(k)), turned[:, column])
    similarity = model._similarity(model._see(test.embeddings["one"], test.texts)).astype(np.float64)
    expected = similarity @ weights @ axes.T + quality.mean(0)
    np.testing.assert_allclose(model.predict(test), expected, atol=2e-3)


def test_shared_signal_survives_noise() -> None:
    """Twenty noisy models that follow one signal are predicted better together than each by a common alpha."""
    from promptroute.core.batch import PromptBatch

    random = np.random.default_rng(0)

    def made(n: int) -> tuple[PromptBatch, np.ndarray]:
        vectors = random.normal(size=(n, 3)).astype(np.float32)
        quality = np.outer(np.sin(2 * vectors[:, 0]), np.linspace(-1, 1, 20)) * 0.7
        return PromptBatch([f"prompt {i % 7}" for i in range(n)], {"one": vectors}), quality

    (prompts, signal), (test, truth) = made(150), made(200)
    noisy = signal + random.normal(size=signal.shape)
    errors = [
        ((found(**SMALL).fit(prompts, noisy).predict(test) - truth) ** 2).mean()
        for found in (SharedKernel, Kernel)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_more_prompts_than_points(problem: Any) -> None:
    prompts, quality = problem(30)
    settings = {"encoder": "one", "width": 3, "components": 3, "min_count": 2}
    with pytest.raises(UserError, match=r"30 prompts, but from more than points \(29\).*set points to 30"):
        SharedKernel(**settings, points=29).fit(prompts, quality)  # type: ignore[arg-type]
    SharedKernel(**settings, points=30).fit(prompts, quality)  # type: ignore[arg-type]
