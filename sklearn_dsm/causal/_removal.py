"""The score of the remaining features after leaves are removed, from the score of all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MAX_STEPS, TOLERANCE = 30, 1e-8
# Steps end at so many standard deviations, and curvatures at this share of an inverse variance.
LONGEST_STEP, FLATTEST = 0.5, 0.05


def without_leaves(
    score: np.ndarray, jacobian: np.ndarray, leaves: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    r"""Score (n, m) and Jacobian (n, m, m) of the features that are left, in their order.

    .. math:: s_j(x_{-l}) = s_j(x) - s_l(x) H_{lj}(x) / H_{ll}(x)

    is exact at every x if l is a leaf with Gaussian noise. For several leaves, the quotient is a
    solution with their block of the Jacobian, and the result is exact where their scores vanish.
    There, the Schur complement of the block is the Jacobian.
    """
    kept = np.setdiff1d(np.arange(score.shape[1]), leaves)
    block = jacobian[:, leaves][:, :, leaves]
    across = jacobian[:, leaves][:, :, kept]
    ratios = np.linalg.solve(block, across)
    left = score[:, kept] - np.einsum("nl,nlk->nk", score[:, leaves], ratios)
    inner = jacobian[:, kept][:, :, kept]
    return left, inner - np.swapaxes(across, 1, 2) @ ratios


Evaluation = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def marginal_score(
    evaluate: Evaluation, X: np.ndarray, leaves: list[int], deviations: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score and Jacobian of the features left, by evaluations of the joint score.

    Newton's method moves the leaves of each sample to where their scores vanish. If the noise of
    the leaves is Gaussian, the density there is the marginal density times a constant, so the
    residue identity and the Schur complement are exact. The third result is the moved samples,
    from which the search after one more removal should start: there may be several such places.
    """
    X, deviations = X.copy(), deviations[leaves]
    score, jacobian = evaluate(X)
    for _ in range(MAX_STEPS if leaves else 0):
        block = jacobian[:, leaves][:, :, leaves]
        steps = _ascent(block, score[:, leaves], deviations)
        X[:, leaves] += steps
        score, jacobian = evaluate(X)
        if np.abs(steps / deviations).max() < TOLERANCE:
            break
    if leaves:
        score, jacobian = without_leaves(score, jacobian, leaves)
    return score, jacobian, X


def _ascent(block, score, deviations):
    """Newton's steps up the log-density, bounded where it is flat or curved upwards."""
    scaled = block * deviations[:, None] * deviations
    values, axes = np.linalg.eigh((scaled + np.swapaxes(scaled, 1, 2)) / 2)
    along = np.einsum("nij,ni->nj", axes, score * deviations) / np.maximum(-values, FLATTEST)
    steps = np.einsum("nij,nj->ni", axes, along)
    length = np.abs(steps).max(1, keepdims=True)
    return steps * np.minimum(1.0, LONGEST_STEP / np.maximum(length, 1e-300)) * deviations
