"""Outliers by how seldom a training sample is as odd."""

from __future__ import annotations

import warnings
from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from .._budget import Budget
from .._columns import as_numbers, rows_to_evaluate, warn_of_degenerate_columns
from .._compat import Interval, StrOptions
from .._fit import whole_fit
from .._random import seed_from
from ..density import DSMDensityEstimator
from ._denoising import Denoiser
from ._tails import Tail

# A density is a candidate from so many samples for each feature.
LEAST_ROWS_PER_FEATURE = 100
N_FOLDS = 2
# Samples that are mixed with others to tell the criteria apart.
MAX_MIXED = 1000
# Training samples beyond this many interquartile ranges above the third quartile are outliers.
FENCE = 1.5
CRITERIA = ("density", "distance", "blend")


class DSMOutlierDetector(OutlierMixin, BaseEstimator):
    r"""Detect outliers by a density, by a distance at a noise level, or by both.

    The *distance* of a sample x is the length of the step that denoises it,

    .. math:: \left| x - E[X_0 \mid X_0 + \sigma Z = x] \right|
        = \sigma^2 \left| \nabla \log p_\sigma(x) \right|,

    where :math:`p_\sigma` is the density of standardised training samples with Gaussian noise of
    standard deviation :math:`\sigma`. It needs no network. The *density* criterion is
    :math:`-\log p(x)` of a :class:`~sklearn_dsm.DSMDensityEstimator`. The *blend* adds
    the logarithms of both tail probabilities: how seldom a training sample is as odd as x (Fisher's
    method).

    Each training sample is scored by models that did not see it. The threshold is set by these
    scores, so it holds for new samples, and ``predict`` of the training set returns the share of
    outliers that ``contamination`` asks for.

    Parameters
    ----------
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of outliers among the training samples. With "auto", a sample is an outlier if its
        score is below the lower fence of the training samples' scores: 1.5 interquartile ranges
        below the first quartile.
    criterion : {"auto", "density", "distance", "blend"}, default="auto"
        What makes a sample an outlier.

        - "distance": fast, and the best choice with few samples for each feature.
        - "density": for many samples, in which features depend on each other closely.
        - "blend": both.
        - "auto": "distance" if there are fewer than 100 samples for each feature, or if values
          repeat so often that no density exists. Otherwise the criterion that best tells training
          samples from the same with half of their features taken from another sample. No outlier
          is needed for that.
    max_fit_time : float or None, default=None
        Seconds for the densities of "density", "blend" and "auto".
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    criterion_ : str
        The criterion that is used.
    criterion_scores_ : dict of str to float
        Areas under the ROC curve by which "auto" chose; empty where there was no choice.
    sigma_ : float
        The noise level, in standard deviations of features.
    offset_ : float
        Samples whose score is lower are outliers.
    training_scores_ : ndarray of shape (n_samples,)
        Scores of the training samples.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only if X had names.

    See Also
    --------
    sklearn_dsm.TableDensityEstimator : Log-probabilities of tables with categories and missing
        values, and their explanation column by column.

    Notes
    -----
    The fitted estimator holds the training samples, up to 10,000 of them as centres of kernels. A
    sample that is equal to a training sample is scored as this one: by models that did not see it.

    References
    ----------
    [DTE]_, [KCM]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import DSMOutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(300, 5))
    >>> detector = DSMOutlierDetector(random_state=0).fit(X)
    >>> detector.criterion_
    'distance'
    >>> detector.predict([[0, 0, 0, 0, 0], [9, 0, 0, 0, 0]])
    array([ 1, -1])
    >>> detector.explain([[9, 0, 0, 0, 0]]).argmax()
    np.int64(0)
    """

    _parameter_constraints = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "criterion": [StrOptions({"auto", *CRITERIA})],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self, contamination="auto", *, criterion="auto", max_fit_time=None, random_state=None
    ):
        self.contamination = contamination
        self.criterion = criterion
        self.max_fit_time = max_fit_time
        self.random_state = random_state

    @whole_fit
    def fit(self, X, y=None):
        """Fit the criterion and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            May hold outliers.
        y : Ignored

        Returns
        -------
        self : DSMOutlierDetector

        Raises
        ------
        ValueError
            If X holds NaN, infinity or text.
        """
        X = as_numbers(self, X, ensure_min_samples=2)
        seed, budget = seed_from(self.random_state), Budget(self.max_fit_time)
        self._centre, scale = X.mean(0), X.std(0)
        self._scale = np.where(scale > 0, scale, 1.0)
        self._varies = scale > 0
        Z = self._standardised(X)
        self._denoiser = Denoiser(Z, seed)
        self.sigma_ = self._denoiser.sigma
        oddness = {"distance": self._denoiser.distances(Z)}
        self._densities: list[DSMDensityEstimator] = []
        self.criterion_: str = self.criterion
        self.criterion_scores_: dict[str, float] = {}
        if self.criterion == "auto" and not self._may_have_density(Z):
            self.criterion_ = "distance"
        if self.criterion_ != "distance":
            folds = list(KFold(N_FOLDS, shuffle=True, random_state=seed).split(Z))
            self._densities = [
                self._density(Z[train], seed, budget, k) for k, (train, _) in enumerate(folds)
            ]
            oddness["density"] = np.empty(len(Z))
            for density, (_, test) in zip(self._densities, folds, strict=True):
                oddness["density"][test] = -density.score_samples(Z[test][:, self._varies])
        self._tails = {name: Tail.of(values) for name, values in oddness.items()}
        if self.criterion == "auto" and self._densities:
            self._choose(Z, folds, seed)
        self._rows, row_of = np.unique(Z, axis=0, return_inverse=True)
        count = np.bincount(row_of.ravel())
        # Equal samples have one score.
        self._row_oddness = {
            name: np.bincount(row_of.ravel(), values) / count for name, values in oddness.items()
        }
        self.training_scores_ = self._scores(self._row_oddness)[row_of.ravel()]
        self.offset_ = self._threshold(self.training_scores_)
        return self

    def score_samples(self, X):
        """Score samples; the lower, the odder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Minus the distance in standard deviations, the log-density of standardised features, or
            the sum of both logarithms of tail probabilities.
        """
        Z = self._standardised(rows_to_evaluate(self, X))
        oddness = {}
        if self.criterion_ != "density":
            oddness["distance"] = self._denoiser.distances(Z)
        if self.criterion_ != "distance":
            oddness["density"] = self._oddness_by_density(Z)
        row = self._training_rows(Z)
        for name, values in oddness.items():
            values[row >= 0] = self._row_oddness[name][row[row >= 0]]
        return self._scores(oddness)

    def decision_function(self, X):
        """Scores less the threshold: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Tell outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for inliers and -1 for outliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def explain(self, X):
        r"""Shares of the features in the squared distance from the denoised sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            :math:`(x_j - D_j(x))^2` in squared standard deviations of the features, where
            :math:`D(x)` is the denoised sample. The sum over features is the squared distance. If
            the criterion is "density", it describes the distance too.
        """
        Z = self._standardised(rows_to_evaluate(self, X))
        return self._denoiser.steps(Z, self._denoiser.own_centers(Z)) ** 2

    def _standardised(self, X: np.ndarray) -> np.ndarray:
        # Zeros have one sign, so that equal samples have equal bytes.
        return (X - self._centre) / self._scale + 0.0

    def _may_have_density(self, Z: np.ndarray) -> bool:
        """Whether samples are many, and no feature takes few values or depends on others."""
        varying = Z[:, self._varies]
        n, d = varying.shape
        if d < 2 or n < LEAST_ROWS_PER_FEATURE * d:
            return False
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            warn_of_degenerate_columns(varying)
        return not raised

    def _density(self, Z: np.ndarray, seed: int, budget: Budget, k: int) -> DSMDensityEstimator:
        """A density of one part of the samples, in its share of the time that is left."""
        seconds = None
        if self.max_fit_time is not None:
            seconds = max(budget.left() / (N_FOLDS - k), 1e-3)
        density = DSMDensityEstimator(max_fit_time=seconds, random_state=seed)
        return density.fit(Z[:, self._varies])

    def _training_rows(self, Z: np.ndarray) -> np.ndarray:
        """For each sample the training sample that is equal to it, or -1."""
        known = {row.tobytes(): i for i, row in enumerate(self._rows)}
        return np.array([known.get(row.tobytes(), -1) for row in Z], dtype=int)

    def _oddness_by_density(self, Z: np.ndarray) -> np.ndarray:
        """Minus the logarithm of the mean density of both folds."""
        each = [density.score_samples(Z[:, self._varies]) for density in self._densities]
        return np.log(len(each)) - np.logaddexp.reduce(each, axis=0)

    def _scores(self, oddness: dict[str, np.ndarray]) -> np.ndarray:
        if self.criterion_ != "blend":
            return -oddness[self.criterion_]
        each = [tail.log_probability(oddness[name]) for name, tail in self._tails.items()]
        return np.sum(each, axis=0)

    def _choose(self, Z: np.ndarray, folds, seed: int) -> None:
        """The criterion that best tells samples from those with half of the features of others."""
        random = np.random.RandomState([seed, 6])
        parts: dict[str, list[np.ndarray]] = {"distance": [], "density": []}
        is_mixed = []
        for density, (train, test) in zip(self._densities, folds, strict=True):
            plain = Z[random.permutation(test)[: MAX_MIXED // N_FOLDS]]
            both = np.concatenate([plain, _mixed(plain, self._varies, random)])
            is_mixed += [0] * len(plain) + [1] * len(plain)
            parts["distance"].append(Denoiser(Z[train], seed, self.sigma_).distances(both))
            parts["density"].append(-density.score_samples(both[:, self._varies]))
        oddness = {name: np.concatenate(values) for name, values in parts.items()}
        for self.criterion_ in CRITERIA:
            area = roc_auc_score(is_mixed, -self._scores(oddness))
            self.criterion_scores_[self.criterion_] = float(area)
        self.criterion_ = max(CRITERIA, key=self.criterion_scores_.__getitem__)

    def _threshold(self, scores: np.ndarray) -> float:
        if self.contamination != "auto":
            return float(np.percentile(scores, 100 * self.contamination))
        low, high = np.percentile(scores, [25, 75])
        return float(low - FENCE * (high - low))


def _mixed(Z: np.ndarray, varies: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Samples, of which a random half of the features that vary is that of another sample."""
    found, columns = Z.copy(), np.flatnonzero(varies)
    other = np.roll(np.arange(len(Z)), 1)
    for i in range(len(Z)):
        some = random.permutation(columns)[: len(columns) // 2]
        found[i, some] = Z[other[i], some]
    return found
