"""How well a density fits data: log-densities, distances of columns, and odd samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.mixture import GaussianMixture

from ._columns import Feature

# The mean of Kolmogorov's distribution: the distance of two samples of the same distribution,
# in units of the square root of 1 / n + 1 / m.
MEAN_OF_KOLMOGOROV = 0.8687
# The mean of the absolute value of a standard normal number.
MEAN_OF_HALF_NORMAL = 0.7979
REG_COVAR = 1e-6


class Mean(NamedTuple):
    """A mean over samples and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: np.ndarray) -> Mean:
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        return cls(float(values.mean()), float(error))


class ColumnFit(NamedTuple):
    """How far samples of a model are from the data in one column.

    Attributes
    ----------
    place : int
    distance : float
        Kolmogorov distance of numbers, total variation of categories; from 0 to 1.
    by_chance : float
        Its mean if both were samples of one distribution.
    shift : float
        Wasserstein distance in standard deviations of the data; NaN for categories.
    missing : tuple of float
        Shares of missing values of data and samples.
    """

    place: int
    distance: float
    by_chance: float
    shift: float
    missing: tuple[float, float]


def normal_log_density(X: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Log-densities (n,) by the multivariate normal distribution of other samples."""
    mean, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    normal = GaussianMixture(reg_covar=REG_COVAR).fit((train - mean) / scale)
    return normal.score_samples((X - mean) / scale) - np.log(scale).sum()


def column_fits(features: list[Feature], data: np.ndarray, samples: np.ndarray) -> list[ColumnFit]:
    """Of every column, those first whose distance is the largest multiple of that by chance."""
    found = [
        _column_fit(place, feature, data[:, place], samples[:, place])
        for place, feature in enumerate(features)
    ]
    return sorted(found, key=lambda fit: -fit.distance / fit.by_chance)


def _column_fit(place: int, feature: Feature, data, samples) -> ColumnFit:
    missing = float(np.isnan(data).mean()), float(np.isnan(samples).mean())
    data, samples = data[np.isfinite(data)], samples[np.isfinite(samples)]
    if not len(data) or not len(samples):
        return ColumnFit(place, np.nan, 1.0, np.nan, missing)
    rate = 1 / len(data) + 1 / len(samples)
    if feature.values is not None:
        counts = [
            np.bincount(each.astype(int), minlength=len(feature.values)) for each in (data, samples)
        ]
        shares = [each / each.sum() for each in counts]
        pooled = sum(counts) / np.sum(counts)
        chance = MEAN_OF_HALF_NORMAL * np.sqrt(pooled * (1 - pooled) * rate).sum() / 2
        distance = np.abs(shares[0] - shares[1]).sum() / 2
        return ColumnFit(place, float(distance), max(float(chance), 1e-12), np.nan, missing)
    distance = ks_2samp(data, samples).statistic
    shift = wasserstein_distance(data, samples) / (data.std() or 1.0)
    chance = MEAN_OF_KOLMOGOROV * np.sqrt(rate)
    return ColumnFit(place, float(distance), float(chance), float(shift), missing)


class OddSample(NamedTuple):
    """A sample of low log-density.

    Attributes
    ----------
    row : int
    log_density : float
    reasons : list of (int, float)
        Columns and how unusual their values are, the most unusual one first.
    """

    row: int
    log_density: float
    reasons: list[tuple[int, float]]


def odd_samples(
    log_density: np.ndarray, unusual: np.ndarray, n: int, n_reasons: int
) -> list[OddSample]:
    """The samples of the lowest log-density, with the columns that are most unusual in them."""
    found = []
    for row in np.argsort(log_density, kind="stable")[:n]:
        places = np.argsort(-np.nan_to_num(unusual[row], nan=-np.inf), kind="stable")[:n_reasons]
        known = [(int(j), float(unusual[row, j])) for j in places if np.isfinite(unusual[row, j])]
        found.append(OddSample(int(row), float(log_density[row]), known))
    return found


def unusual_by_contribution(estimator: Any, X: Any) -> np.ndarray:
    """Nats (n, d) by which a column lowers the log-density, beyond the median of the column."""
    contributions = estimator.explain(X)
    return np.median(contributions, axis=0) - contributions


def unusual_given_others(data: np.ndarray) -> np.ndarray:
    r"""Residuals (n, d) of each feature given the others, in their standard deviations.

    .. math:: |(\Sigma^{-1} (x - \mu))_j| \, / \sqrt{(\Sigma^{-1})_{jj}}

    Features that are constant have none: NaN.
    """
    scale = data.std(0)
    varies = scale > 0
    found = np.full(data.shape, np.nan)
    if not varies.any():
        return found
    Z = (data[:, varies] - data[:, varies].mean(0)) / scale[varies]
    # A copy of a column has no residual of its own.
    covariance = Z.T @ Z / len(Z) + 1e-8 * np.eye(Z.shape[1])
    precision = np.linalg.inv(covariance)
    found[:, varies] = np.abs(Z @ precision) / np.sqrt(np.diag(precision))
    return found
