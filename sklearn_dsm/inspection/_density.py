"""Drawn densities."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._compat import Interval, StrOptions, validate_parameter_constraints
from ._axes import DATA, FILLED_DATA, MODEL, axes_of, panels_of
from ._columns import (
    Feature,
    features_of,
    numbers_of,
    positions_of,
    require_methods,
    samples_of,
    without_names,
)
from ._pairs import draw_marginal, draw_pair, label_categories
from ._regions import Regions, exact_regions, limits_of, smoothed_regions

# Features that are drawn where none are named, and at most.
DEFAULT_FEATURES, MAX_FEATURES = 6, 16
SHARES = (0.5, 0.8, 0.95)
RESOLUTION, CURVE_POINTS, PANEL_INCHES = 80, 400, 1.7


class DensityDisplay:
    """Draw a fitted density and the data.

    - One feature: the curve of the density over a histogram of the data.
    - Two features: contours of the density over the data. Each contour bounds the highest-density
      region that has a given share of the mass. The shares are those of samples of the model.
    - Otherwise a grid of panels: histograms of data and samples of the model on the diagonal, and
      pairs of features below it. A marginal of a joint density has no formula, so contours are
      those of a smoothed histogram of samples of the model.

    The contours of two features of an estimator of more features are those of samples as well, and
    so is everything of a :class:`~sklearn_dsm.TableDensityEstimator`. Its categories are bars on
    the diagonal. A category and a number are points of the data by category, beside the middle
    half (wide) and nine tenths (thin) of the model's samples. Two categories are circles whose
    areas are shares: discs of the data and rings of the model.

    Panels leave out far values: they end a quarter of the distance between the 2 % and the 98 %
    quantiles beyond these. Shares and heights of histograms count all values.

    Use :meth:`from_estimator` to create a display. Needs matplotlib.

    Parameters
    ----------
    features : list of Feature
        Name, categories and step of each feature that is drawn.
    data : ndarray of shape (n, n_drawn) or None
        Data, categories as their number.
    samples : ndarray of shape (n_samples, n_drawn)
        Samples of the model.
    curve : ndarray of shape (2, n_points) or None
        Values of a single feature and the density there.
    regions : dict of (int, int) to Regions
        Densities of pairs of numeric features with the levels of contours, by the places of the
        features of the y and the x axis.
    shares : sequence of float, default=(0.5, 0.8, 0.95)
        Shares of the mass within the contours.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Only for one or two features.
    axes_ : ndarray of matplotlib Axes of shape (n_drawn, n_drawn)
        Only for more features. Axes above the diagonal are empty.
    figure_ : matplotlib Figure
    artists_ : dict of (int, int) to dict
        The artists "data" and "model" of each panel, by its row and column. A single feature is
        panel (0, 0), and two features are panel (1, 0).

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from sklearn_dsm import KernelScoreEstimator
    >>> from sklearn_dsm.inspection import DensityDisplay
    >>> X, _ = make_moons(300, noise=0.1, random_state=0)
    >>> display = DensityDisplay.from_estimator(KernelScoreEstimator().fit(X), X)
    >>> len(display.regions[1, 0].levels)
    3
    """

    def __init__(
        self, features: list[Feature], data, samples, curve=None, regions=None, shares=SHARES
    ):
        self.features, self.data, self.samples = features, data, samples
        self.curve, self.regions, self.shares = curve, regions or {}, shares

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        features=None,
        shares=SHARES,
        n_samples=4000,
        resolution=RESOLUTION,
        kind="line",
        random_state=None,
        ax=None,
    ):
        """Draw the density of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted density estimator of this package or of scikit-learn, with ``score_samples``
            and ``sample``.
        X : DataFrame or array-like of shape (n_samples, n_features), default=None
            Data to draw. At most 2,000 evenly spaced samples are drawn as points; histograms count
            all of them.
        features : sequence of int or str, default=None
            Indices or names of up to 16 features. None draws the first six at most.
        shares : sequence of float, default=(0.5, 0.8, 0.95)
            Shares of the mass within the contours, between 0 and 1.
        n_samples : int, default=4000
            Samples of the model, from which the levels of contours and the marginals are found.
        resolution : int, default=80
            Number of points of the grid of two features in each direction.
        kind : {"line", "filled"}, default="line"
            How regions are drawn.
        random_state : int, RandomState or None, default=None
            Seed of the samples of the model.
        ax : matplotlib Axes, default=None
            For more than two features, the panels take its place, and it must be one of
            :func:`matplotlib.pyplot.subplots`.

        Returns
        -------
        DensityDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``score_samples`` or no ``sample``.
        ValueError
            If features, shares or the number of columns of X are not possible.
        """
        require_methods(estimator, cls.__name__, "score_samples", "sample")
        check_is_fitted(estimator)
        validate_parameter_constraints(
            {
                "resolution": [Interval(Integral, 2, None, closed="left")],
                "n_samples": [Interval(Integral, 2, None, closed="left")],
            },
            {"resolution": resolution, "n_samples": n_samples},
            caller_name=f"{cls.__name__}.from_estimator",
        )
        _check_kind(kind)
        shares = _checked_shares(shares)
        every = features_of(estimator)
        names = [feature.name for feature in every]
        places = positions_of(features, names, DEFAULT_FEATURES, 1, MAX_FEATURES)
        samples = numbers_of(samples_of(estimator, n_samples, random_state), every)
        data = None if X is None else numbers_of(X, every)
        display = cls._of_samples(estimator, every, places, data, samples, shares, resolution)
        return display.plot(kind=kind, ax=ax)

    @classmethod
    def _of_samples(
        cls, estimator, every, places, data, samples, shares=SHARES, resolution=RESOLUTION
    ):
        """A display of some of the features, given data and samples of them all."""
        data = None if data is None else data[:, places]
        drawn = [every[place] for place in places]
        display = cls(drawn, data, samples[:, places], shares=shares)
        # Only a density of just these numbers is known, rather than a marginal of one.
        is_exact = len(places) == len(every) and not hasattr(estimator, "column_types_")
        if is_exact and len(drawn) == 1:
            display.curve = display._curve(estimator)
        elif is_exact and len(drawn) == 2:
            limits = display.limits(0), display.limits(1)
            order = np.argsort(places)
            found = exact_regions(estimator, samples, order, limits, shares, resolution)
            display.regions[1, 0] = found
        else:
            display.regions = display._smoothed(shares)
        return display

    def limits(self, place: int) -> tuple[float, float]:
        """Where the panels of a feature begin and end.

        Parameters
        ----------
        place : int

        Returns
        -------
        tuple of float
        """
        values = self.features[place].values
        if values is not None:
            return -0.6, len(values) - 0.4
        tables = [self.samples] if self.data is None else [self.samples, self.data]
        columns = [table[:, place] for table in tables]
        return limits_of(*(column for column in columns if np.isfinite(column).any()))

    def _curve(self, estimator) -> np.ndarray:
        low, high = self.limits(0)
        points = np.linspace(low, high, CURVE_POINTS)
        with without_names():
            return np.stack([points, np.exp(estimator.score_samples(points[:, None]))])

    def _smoothed(self, shares) -> dict[tuple[int, int], Regions]:
        numeric = [j for j, feature in enumerate(self.features) if not feature.is_category]
        return {
            (i, j): smoothed_regions(
                self.samples[:, [j, i]], (self.limits(j), self.limits(i)), shares
            )
            for i in numeric
            for j in numeric
            if j < i
        }

    def plot(self, *, kind="line", ax=None):
        """Draw the density.

        Parameters
        ----------
        kind : {"line", "filled"}, default="line"
        ax : matplotlib Axes, default=None

        Returns
        -------
        DensityDisplay
        """
        _check_kind(kind)
        n = len(self.features)
        if n <= 2:
            self.ax_, self.figure_ = axes_of(ax, (5.5, 3.6) if n == 1 else (5.5, 4.6))
            found = self._plot_one() if n == 1 else self._draw_below(self.ax_, 1, 0, kind, True)
            self.artists_ = {(n - 1, 0): found}
            self.ax_.legend(handles=self._handles(kind), fontsize="small", frameon=False)
        else:
            size = PANEL_INCHES * n
            self.axes_, self.figure_ = panels_of(ax, (n, n), (size, size))
            self.artists_ = self._plot_grid(kind)
        return self

    def _plot_one(self) -> dict:
        ax, feature = self.ax_, self.features[0]
        ax.set_xlim(self.limits(0))
        samples = self.samples[:, 0] if self.curve is None else None
        artists = draw_marginal(ax, feature, self._column(0), samples)
        if self.curve is not None:
            bars = artists["data"].get_data().values if artists else [0.0]
            (artists["model"],) = ax.plot(*self.curve, color=MODEL)
            ax.set_ylim(0, 1.05 * max(self.curve[1].max(), *bars))
        ax.set(xlabel=feature.name, ylabel="share" if feature.is_category else "density")
        return artists

    def _draw_below(self, ax, i: int, j: int, kind, labelled: bool) -> dict:
        """The panel of feature i over feature j."""
        pair = self.features[j], self.features[i]
        data = None if self.data is None else self.data[:, [j, i]]
        artists = draw_pair(ax, pair, data, self.samples[:, [j, i]], self.regions.get((i, j)), kind)
        ax.set(xlim=self.limits(j), ylim=self.limits(i))
        if labelled:
            ax.set(xlabel=pair[0].name, ylabel=pair[1].name)
        return artists

    def _plot_grid(self, kind) -> dict:
        n, artists = len(self.features), {}
        for i in range(n):
            for j in range(n):
                ax = self.axes_[i, j]
                if j > i:
                    ax.set_axis_off()
                elif j == i:
                    ax.set_xlim(self.limits(i))
                    artists[i, i] = draw_marginal(
                        ax, self.features[i], self._column(i), self.samples[:, i]
                    )
                    ax.set(yticks=[])
                    ax.spines[["left", "right", "top"]].set_visible(False)
                else:
                    artists[i, j] = self._draw_below(ax, i, j, kind, False)
                if j <= i:
                    self._label_outside(ax, i, j)
        legend = self.axes_[0, -1].legend(
            handles=self._handles(kind), loc="upper right", fontsize="small", frameon=False
        )
        # It reaches over empty panels, and is no reason to make its own one wider.
        legend.set_in_layout(False)
        return artists

    def _label_outside(self, ax, i: int, j: int) -> None:
        """Ticks and names at the left and the bottom of the grid only."""
        n = len(self.features)
        for axis, feature in ((ax.xaxis, self.features[j]), (ax.yaxis, self.features[i])):
            if axis is ax.yaxis and i == j:
                continue
            if feature.is_category:
                label_categories(axis, feature)
            else:
                axis.get_major_locator().set_params(nbins=3)
        ax.tick_params(labelsize=7, labelbottom=i == n - 1, labelleft=j == 0)
        if i == n - 1:
            ax.set_xlabel(self.features[j].name, fontsize="small")
        if j == 0:
            ax.set_ylabel(self.features[i].name, fontsize="small")

    def _column(self, place: int):
        return None if self.data is None else self.data[:, place]

    def _handles(self, kind) -> list:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        filled = kind == "filled" and bool(self.regions)
        data = Patch(color=FILLED_DATA if filled else DATA, label="data")
        shares = ", ".join(f"{100 * share:g}" for share in self.shares)
        label = f"model: {shares} % of the mass" if self.regions else "model"
        line, patch = Line2D([], [], color=MODEL, label=label), Patch(color=MODEL, label=label)
        model = patch if filled else line
        return [model] if self.data is None else [data, model]


def _check_kind(kind) -> None:
    validate_parameter_constraints(
        {"kind": [StrOptions({"line", "filled"})]}, {"kind": kind}, caller_name="DensityDisplay"
    )


def _checked_shares(shares) -> np.ndarray:
    found = np.unique(np.asarray(shares, dtype=float))
    if found.ndim != 1 or not len(found) or not ((found > 0) & (found < 1)).all():
        raise ValueError(f"shares={shares!r} must be numbers between 0 and 1.")
    return found
