"""The distance of a sample from its denoised version, by a kernel estimate of the training set."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..density._kernel_sums import KernelSums, LeftOut

# Training samples that are centres of kernels, and those by which the noise level is chosen.
MAX_CENTERS, MAX_JUDGES = 10_000, 1000
# Noise levels that are tried, as multiples of the median distance to the nearest neighbour.
MULTIPLES = np.logspace(-1, 1, 21)


class Denoiser:
    r"""The mean of the training samples that noise could have turned into a sample.

    With training samples :math:`x_i` and Gaussian noise of standard deviation :math:`\sigma`,

    .. math:: D(x) = E[X_0 \mid X_0 + \sigma Z = x] = x + \sigma^2 \nabla \log p_\sigma(x),

    where :math:`p_\sigma` is the density of the noised training samples, a kernel estimate. The
    level is the one of the least squared error of training samples, each denoised by the others.

    Parameters
    ----------
    samples : ndarray of shape (n, d)
        Standardised training samples.
    seed : int
        Of the choice of centres, where there are many samples.
    sigma : float, optional
        Chosen where it is not given.
    """

    def __init__(self, samples: np.ndarray, seed: int, sigma: float | None = None):
        random = np.random.RandomState([seed, 5])
        order = random.permutation(len(samples))
        self.centers = samples[np.sort(order[:MAX_CENTERS])]
        self.sigma = self._chosen(random) if sigma is None else sigma

    def steps(self, points: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """Differences (m, d) of points and their denoised versions.

        Parameters
        ----------
        points : ndarray of shape (m, d)
        own : ndarray of int, of shape (m,), optional
            For each point a centre that is left out, or -1.
        """
        left_out = None
        if own is not None:
            left_out = LeftOut(own, np.arange(len(self.centers)), np.zeros(len(points)))
        sums = KernelSums(self.centers, np.ones(len(self.centers)), self.sigma)
        return -(self.sigma**2) * sums.exact(points, gradients=True, left_out=left_out)[1]

    def own_centers(self, points: np.ndarray) -> np.ndarray:
        """For each point a centre that is equal to it, or -1 (m,)."""
        known = {row.tobytes(): i for i, row in enumerate(self.centers)}
        return np.array([known.get(row.tobytes(), -1) for row in points], dtype=int)

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Lengths (m,) of the steps; of a training sample by the others."""
        return np.linalg.norm(self.steps(points, self.own_centers(points)), axis=1)

    def _chosen(self, random: np.random.RandomState) -> float:
        """The noise level of the least error, each of some samples denoised by the others."""
        judges = random.permutation(len(self.centers))[:MAX_JUDGES]
        points = self.centers[judges]
        nearest = _nearest(self.centers, judges)
        typical = float(np.median(nearest)) or float(nearest.mean()) or 1.0
        errors = []
        for multiple in MULTIPLES:
            self.sigma = float(multiple) * typical
            errors.append(float((self.steps(points, judges) ** 2).sum(1).mean()))
        return float(MULTIPLES[int(np.argmin(errors))]) * typical


def _nearest(centers: np.ndarray, judges: np.ndarray) -> np.ndarray:
    """Distances (m,) of some of the centres to their nearest other ones."""
    found, _ = NearestNeighbors(n_neighbors=2).fit(centers).kneighbors(centers[judges])
    return found[:, 1]
