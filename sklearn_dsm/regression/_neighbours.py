"""What the targets of the nearest training samples say of a sample's own."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

# Neighbours of a sample; the first ones whose mean target and whose distance are features.
N_NEIGHBOURS, FIRST = 10, (1, 3, 10)
N_FEATURES = 2 * len(FIRST) + 1
# Samples from which there are neighbours near enough, and the largest number of squared
# differences of coordinates that finding them may take, by the plainest way.
LEAST_ROWS, MOST_DIFFERENCES = 2000, 1e11
# Of a squared distance, so that its logarithm is finite.
TINY = 1e-12


class Neighbours:
    """Training samples, to be searched for those nearest to a sample.

    Parameters
    ----------
    context : ndarray of shape (n, n_context)
        Standardised features, whose Euclidean distances count.
    target : ndarray of shape (n,)
        Standardised targets.
    """

    def __init__(self, context: np.ndarray, target: np.ndarray):
        self.context, self.target = context, target

    def features(self, context: np.ndarray | None = None) -> np.ndarray:
        """Means, deviation and distances (n, N_FEATURES), of each training sample without itself.

        The mean target of the first 1, 3 and 10 neighbours, the standard deviation of all these,
        and the logarithms of the distances to the first, third and tenth.
        """
        tree = NearestNeighbors(n_neighbors=N_NEIGHBOURS).fit(self.context)
        distances, found = tree.kneighbors(context)
        targets = self.target[found]
        means = [targets[:, :k].mean(1) for k in FIRST]
        far = [0.5 * np.log(distances[:, k - 1] ** 2 + TINY) for k in FIRST]
        return np.column_stack([*means, targets.std(1), *far])


def has_neighbours(context: np.ndarray) -> bool:
    """Whether samples are many enough to have near ones, and few enough to find them."""
    n, d = context.shape
    return n > LEAST_ROWS and n * n * d <= MOST_DIFFERENCES
