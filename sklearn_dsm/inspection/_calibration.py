"""Drawn calibration of conditional densities."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.stats import binom
from sklearn.utils.validation import check_is_fitted

from .._compat import Interval, StrOptions, validate_parameter_constraints
from .._random import seed_from
from ._axes import MODEL, axes_of, panels_of

BAND, N_POINTS = "0.85", 201
KINDS = {"pit", "coverage", "both"}


class CalibrationDisplay:
    r"""Draw whether conditional densities are calibrated.

    If the densities are right, the probability integral transforms (PIT) :math:`F(y_i \mid x_i)`
    are uniformly distributed. Their histogram is then flat. A hump in the middle says that
    densities are too wide, high ends that they are too narrow, and a slope that they are shifted.

    The coverage of a central interval is the share of targets in it. If the densities are right,
    it is the nominal coverage on average. Below the diagonal, intervals are too narrow.

    Grey bands are pointwise ranges of what chance gives with densities that are right.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create a display. Needs matplotlib.

    Parameters
    ----------
    pit : ndarray of shape (n_samples,)
        Probability integral transforms.
    n_bins : int, default=10
        Bars of the histogram.
    level : float, default=0.95
        Probability that a bar, or the coverage of an interval, is in the band by chance.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each panel.
    ax_ : matplotlib Axes
        Only for ``kind`` "pit" or "coverage".
    figure_ : matplotlib Figure
    histogram_ : matplotlib BarContainer
        Only for "pit" and "both".
    line_ : matplotlib Line2D
        Coverage by nominal coverage. Only for "coverage" and "both".
    bands_ : list of matplotlib artists
        One for each panel.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.inspection import CalibrationDisplay
    >>> pit = np.random.default_rng(0).uniform(size=200)
    >>> display = CalibrationDisplay.from_predictions(pit, n_bins=5)
    >>> len(display.histogram_)
    5
    """

    def __init__(self, pit, *, n_bins=10, level=0.95):
        self.pit, self.n_bins, self.level = pit, n_bins, level

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        y=None,
        *,
        kind="both",
        n_bins=10,
        level=0.95,
        random_state=None,
        ax=None,
    ):
        """Draw the calibration of a fitted estimator.

        Parameters
        ----------
        estimator : DSMRegressor
            Fitted to one target.
        X : array-like or DataFrame of shape (n_samples, n_features), default=None
            Samples that the fit has not seen. None uses ``calibration_``, which is of training
            samples under regressors and networks that did not see them.
        y : array-like of shape (n_samples,), default=None
            Targets of X.
        kind : {"both", "pit", "coverage"}, default="both"
        n_bins : int, default=10
        level : float, default=0.95
        random_state : int, RandomState or None, default=None
            Seed of uniform numbers that spread targets on a lattice over their cells. No effect
            without ``y_step``.
        ax : matplotlib Axes, default=None
            For "both", the panels take its place, and it must be one of
            :func:`matplotlib.pyplot.subplots`.

        Returns
        -------
        CalibrationDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``cdf``.
        ValueError
            If only one of X and y is given, or there are several targets.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "calibration_") or not hasattr(estimator, "cdf"):
            raise TypeError(
                f"{type(estimator).__name__} has no cdf and calibration_. Pass a fitted "
                "DSMRegressor, or transforms of your own to from_predictions."
            )
        if (X is None) != (y is None):
            raise ValueError("Give both X and y, or none of them for calibration_.")
        pit = _pit_of_fit(estimator) if X is None else _pit(estimator, X, y, random_state)
        return cls.from_predictions(pit, kind=kind, n_bins=n_bins, level=level, ax=ax)

    @classmethod
    def from_predictions(cls, pit, *, kind="both", n_bins=10, level=0.95, ax=None):
        """Draw the calibration that probability integral transforms tell.

        Parameters
        ----------
        pit : array-like of shape (n_samples,)
            Values of conditional distribution functions at the targets, from 0 to 1.
        kind : {"both", "pit", "coverage"}, default="both"
        n_bins : int, default=10
        level : float, default=0.95
        ax : matplotlib Axes, default=None

        Returns
        -------
        CalibrationDisplay

        Raises
        ------
        ValueError
            If a transform is not in [0, 1].
        """
        validate_parameter_constraints(
            {
                "n_bins": [Interval(Integral, 1, None, closed="left")],
                "level": [Interval(Real, 0, 1, closed="neither")],
            },
            {"n_bins": n_bins, "level": level},
            caller_name=cls.__name__,
        )
        pit = np.asarray(pit, dtype=float)
        if pit.ndim != 1 or not len(pit) or not ((pit >= 0) & (pit <= 1)).all():
            raise ValueError(
                "pit must be probabilities, an array of shape (n_samples,) with values from 0 to "
                "1. Compute them by a conditional distribution function, such as "
                "DSMRegressor.cdf(X, y)."
            )
        return cls(pit, n_bins=n_bins, level=level).plot(kind=kind, ax=ax)

    def plot(self, *, kind="both", ax=None):
        """Draw the calibration.

        Parameters
        ----------
        kind : {"both", "pit", "coverage"}, default="both"
        ax : matplotlib Axes, default=None

        Returns
        -------
        CalibrationDisplay
        """
        validate_parameter_constraints(
            {"kind": [StrOptions(KINDS)]}, {"kind": kind}, caller_name=type(self).__name__
        )
        self.bands_ = []
        if kind == "both":
            panels, self.figure_ = panels_of(ax, (1, 2), (8.6, 3.8))
            self.axes_ = panels[0]
        else:
            self.ax_, self.figure_ = axes_of(ax, (4.4, 3.8))
            self.axes_ = np.array([self.ax_])
        if kind != "coverage":
            self._plot_histogram(self.axes_[0])
        if kind != "pit":
            self._plot_coverage(self.axes_[-1])
        return self

    def _plot_histogram(self, ax) -> None:
        n = len(self.pit)
        low, high = self._chance(1 / self.n_bins)
        self.bands_.append(
            ax.axhspan(low, high, color=BAND, label=f"{self.level:.0%} by chance", zorder=0)
        )
        edges = np.linspace(0, 1, self.n_bins + 1)
        shares = np.histogram(self.pit, edges)[0] / n
        self.histogram_ = ax.bar(
            edges[:-1],
            shares,
            1 / self.n_bins,
            align="edge",
            color=MODEL,
            edgecolor="white",
            alpha=0.75,
            label=f"{n} samples",
        )
        ax.axhline(1 / self.n_bins, color="black", linewidth=0.8, linestyle="--")
        ax.set(xlabel="probability integral transform", ylabel="share of samples", xlim=(0, 1))
        ax.set_ylim(0, 1.35 * max(high, shares.max()))
        ax.legend(fontsize="small", ncols=2, loc="upper center", frameon=False)

    def _plot_coverage(self, ax) -> None:
        nominal = np.linspace(0, 1, N_POINTS)
        low, high = self._chance(nominal)
        self.bands_.append(
            ax.fill_between(
                nominal, low, high, color=BAND, label=f"{self.level:.0%} by chance", linewidth=0
            )
        )
        ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
        inside = np.sort(np.abs(2 * self.pit - 1))
        found = np.searchsorted(inside, nominal, side="right") / len(inside)
        (self.line_,) = ax.plot(nominal, found, color=MODEL, label=f"{len(inside)} samples")
        ax.set(xlabel="nominal coverage of intervals", ylabel="share of targets inside")
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.legend(fontsize="small", loc="upper left", frameon=False)

    def _chance(self, probability) -> tuple:
        """Ends of the central range of a share of the samples, by the binomial distribution."""
        n, tail = len(self.pit), (1 - self.level) / 2
        return binom.ppf(tail, n, probability) / n, binom.ppf(1 - tail, n, probability) / n


def _pit_of_fit(estimator) -> np.ndarray:
    if not estimator.calibration_:
        raise ValueError(
            f"The estimator was fitted to {estimator.n_targets_} targets, whose calibration is not "
            "known. Fit one estimator to each target."
        )
    return estimator.calibration_["pit"]


def _pit(estimator, X, y, random_state) -> np.ndarray:
    """Transforms of targets, spread at random over the jumps of a distribution on a lattice."""
    upper = estimator.cdf(X, y)
    if estimator.y_step is None:
        return upper
    random = np.random.RandomState(seed_from(random_state))
    mass = np.exp(estimator.score_samples(X, y))
    return np.clip(upper - random.uniform(size=len(upper)) * mass, 0, 1)
