"""A log-Gaussian Cox process on a grid."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.utils import check_array

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from .._random import numpy_random
from ._target import Target

# Of the process that was fitted to 126 pine saplings: its variance, mean and inverse range.
VARIANCE, MEAN, INVERSE_RANGE = 1.91, np.log(126) - 1.91 / 2, 33.0


class LogGaussianCoxProcess(Target):
    r"""Posterior of the log-intensity of a point process, given counts in the cells of a square.

    .. math:: \gamma(x) = N(x; \mu 1, K) \prod_i \exp( x_i c_i - a e^{x_i} ), \qquad
        K_{ij} = 1.91 \exp\left( -\tfrac{33}{m} |i - j| \right),

    with the counts :math:`c` in the m times m cells of the unit square, the area
    :math:`a = 1/m^2` of a cell, and :math:`\mu = \log 126 - 1.91/2`. The distance
    :math:`|i - j|` of two cells is in units of the side of a cell. The factorials of the counts are
    left out, as is usual. Articles on samplers use this target with m = 40 and the positions of 126
    pine saplings, which gives 1600 features. ``make_cox_counts`` simulates such counts.

    Parameters
    ----------
    counts : array-like of shape (n_cells, n_cells)
        Number of points in each cell, for m = n_cells cells along each side.

    Attributes
    ----------
    n_features : int
        ``n_cells ** 2``. The features are the log-intensities of the cells, row by row.
    log_normalizer : None
        It is not known.

    Raises
    ------
    ValueError
        If ``counts`` is not square, or holds negative numbers or fractions.

    References
    ----------
    [Moller1998]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import LogGaussianCoxProcess, make_cox_counts
    >>> counts, log_intensity = make_cox_counts(8, random_state=0)
    >>> target = LogGaussianCoxProcess(counts)
    >>> target.n_features, log_intensity.shape
    (64, (64,))
    """

    def __init__(self, counts):
        counts = check_array(counts, dtype=np.float64, input_name="counts")
        whole = (counts >= 0).all() and (counts == counts.round()).all()
        if counts.shape[0] != counts.shape[1] or not whole:
            raise ValueError(
                f"counts of shape {counts.shape} must be a square of whole numbers from zero on."
            )
        self.n_features = counts.size
        self._counts = tensor_of(counts.ravel().copy())
        self._root = torch.linalg.cholesky(tensor_of(_covariance(len(counts))))
        log_determinant = 2 * self._root.diagonal().log().sum()
        self._constant = float(-0.5 * (log_determinant + self.n_features * LOG_2PI))

    def _log_density(self, x):
        offsets = (x - MEAN).T.to(self._root.dtype)
        white = torch.linalg.solve_triangular(self._root, offsets, upper=False)
        log_likelihood = (x * self._counts - x.exp() / self.n_features).sum(1)
        return log_likelihood - 0.5 * (white**2).sum(0) + self._constant


def make_cox_counts(n_cells=40, *, random_state=None):
    """Simulate a log-Gaussian Cox process: counts of points in the cells of a square.

    Parameters
    ----------
    n_cells : int, default=40
        Number of cells along each side.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    counts : ndarray of shape (n_cells, n_cells)
        Number of points in each cell. They sum to about 126 on average.
    log_intensity : ndarray of shape (n_cells ** 2,)
        The log-intensity that the counts were drawn from, row by row.

    Raises
    ------
    ValueError
        If ``n_cells`` is less than one.

    References
    ----------
    [Moller1998]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_cox_counts
    >>> counts, log_intensity = make_cox_counts(10, random_state=0)
    >>> counts.shape, log_intensity.shape
    ((10, 10), (100,))
    """
    if not isinstance(n_cells, Integral) or n_cells < 1:
        raise ValueError(f"n_cells={n_cells!r} must be an integer of at least 1.")
    random = numpy_random(random_state)
    n_cells = int(n_cells)
    root = np.linalg.cholesky(_covariance(n_cells))
    log_intensity = MEAN + root @ random.normal(size=n_cells**2)
    counts = random.poisson(np.exp(log_intensity) / n_cells**2)
    return counts.reshape(n_cells, n_cells), log_intensity


def _covariance(n_cells: int) -> np.ndarray:
    cells = np.indices((n_cells, n_cells)).reshape(2, -1).T.astype(float)
    return VARIANCE * np.exp(-INVERSE_RANGE / n_cells * cdist(cells, cells))
