"""Drawn Stein scores."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._compat import Interval, validate_parameter_constraints
from ._axes import DATA, MODEL, axes_of
from ._columns import (
    features_of,
    numbers_of,
    positions_of,
    require_methods,
    samples_of,
    without_names,
)
from ._pairs import thinned
from ._regions import limits_of

N_RANGE = 1000
# Nats below the largest log-density: one to four standard deviations of a normal distribution.
DEPTHS = (8.0, 4.5, 2.0, 0.5)
CONTOUR_POINTS = 60
# Below this quantile of their lengths, arrows grow as the score does, beyond it as its logarithm.
SHORT = 0.15


class ScoreFieldDisplay:
    r"""Draw the Stein score over two features as arrows.

    The Stein score is the gradient of the log-density, of the data or of noised data. An arrow
    points where the log-density increases fastest in the drawn panel, whatever the units of the
    features. The lengths grow with the logarithm of the length of the score, so that arrows in the
    tails do not drown those near the data.

    Use :meth:`from_estimator` to create a display. Needs matplotlib.

    Parameters
    ----------
    grid : ndarray of shape (n_arrows, 2)
        Where arrows begin.
    scores : ndarray of shape (n_arrows, 2)
        Stein scores of the two features there, in inverse units of these.
    limits : tuple of two pairs of float
        Where the panel begins and ends, in x and y.
    names : list of str
        Names of the features.
    title : str
        The noise level, and the values of other features.
    data : ndarray of shape (n, 2) or None
    log_density : tuple of three ndarray, or None
        Values of x and y, and the log-density on their grid, for contours.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    arrows_ : matplotlib Quiver
    points_ : matplotlib PathCollection
        Only with data.
    contours_ : matplotlib QuadContourSet
        Only with a log-density.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from sklearn_dsm import KernelScoreEstimator
    >>> from sklearn_dsm.inspection import ScoreFieldDisplay
    >>> X, _ = make_moons(300, noise=0.1, random_state=0)
    >>> fit = KernelScoreEstimator().fit(X)
    >>> ScoreFieldDisplay.from_estimator(fit, X, noise_level=0.1, n_arrows=5).scores.shape
    (25, 2)
    """

    def __init__(self, grid, scores, limits, names, title, data=None, log_density=None):
        self.grid, self.scores, self.limits = grid, scores, limits
        self.names, self.title, self.data, self.log_density = names, title, data, log_density

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        noise_level=0.0,
        features=(0, 1),
        at=None,
        n_arrows=18,
        contours=False,
        random_state=None,
        ax=None,
    ):
        """Draw the Stein score of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator with ``stein_score``.
        X : array-like of shape (n_samples, n_features), default=None
            Data to draw, at most 2,000 evenly spaced samples. None draws none, and samples of the
            model choose the range.
        noise_level : float, default=0.0
            As in ``stein_score``: 0 is the data. A small level such as 1e-5 is much faster where
            level 0 needs the ODE.
        features : pair of int or str, default=(0, 1)
            The features of the x and the y axis.
        at : array-like of shape (n_features,), default=None
            Values at which the other features are held. None is the median of X, or of samples of
            the model.
        n_arrows : int, default=18
            Number of arrows in each direction.
        contours : bool, default=False
            Whether to draw contours of the log-density, 0.5, 2, 4.5 and 8 nats below the largest on
            the grid: one to four standard deviations of a normal distribution. Only for
            ``noise_level=0``.
        random_state : int, RandomState or None, default=None
            Seed of the samples of the model. No effect if X is given.
        ax : matplotlib Axes, default=None

        Returns
        -------
        ScoreFieldDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``stein_score``.
        ValueError
            If features or the shape of ``at`` are not possible, or ``contours`` are wanted of a
            noise level.
        """
        require_methods(estimator, cls.__name__, "stein_score")
        check_is_fitted(estimator)
        validate_parameter_constraints(
            {
                "n_arrows": [Interval(Integral, 2, None, closed="left")],
                "contours": ["boolean"],
            },
            {"n_arrows": n_arrows, "contours": contours},
            caller_name=f"{cls.__name__}.from_estimator",
        )
        if contours and noise_level != 0:
            raise ValueError(
                f"contours=True draws the log-density of the data, and noise_level={noise_level!r} "
                "is that of noised data. Set contours=False or noise_level=0."
            )
        every = features_of(estimator)
        names = [feature.name for feature in every]
        places = positions_of(features, names, 2, 2, 2)
        known = X if X is not None else samples_of(estimator, N_RANGE, random_state)
        table = numbers_of(known, every)
        base = _base_point(at, table)
        limits = tuple(limits_of(table[:, place]) for place in places)
        grid = _grid(limits, n_arrows, middles=True)
        with without_names():
            found = estimator.stein_score(_held(base, places, grid), noise_level=noise_level)
        display = cls(
            grid,
            found[:, places],
            limits,
            [names[place] for place in places],
            _title(noise_level, base, names, places),
            None if X is None else table[:, places],
            _log_density(estimator, base, places, limits) if contours else None,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the arrows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        ScoreFieldDisplay
        """
        self.ax_, self.figure_ = axes_of(ax, (5.2, 5.2))
        ax = self.ax_
        if self.data is not None:
            self.points_ = ax.scatter(*thinned(self.data), s=4, color=DATA, linewidths=0, zorder=0)
        if self.log_density is not None:
            x, y, values = self.log_density
            levels = np.nanmax(values) - np.array(DEPTHS)
            self.contours_ = ax.contour(x, y, values, levels=levels, cmap="Blues", linewidths=1)
        arrows = self._arrows()
        self.arrows_ = ax.quiver(
            *self.grid.T,
            *arrows.T,
            color=MODEL if self.log_density is None else "black",
            angles="uv",
            scale_units="width",
            scale=1.0,
            width=0.0045,
            zorder=2,
        )
        ax.set(xlim=self.limits[0], ylim=self.limits[1])
        ax.set(xlabel=self.names[0], ylabel=self.names[1])
        ax.set_title(self.title, fontsize="medium")
        # Directions are those of gradients only where both axes are equally long.
        ax.set_box_aspect(1)
        return self

    def _arrows(self) -> np.ndarray:
        """Arrows (n, 2) in shares of the panel, none longer than the distance of two."""
        spans = np.array([high - low for low, high in self.limits])
        gradient = np.nan_to_num(self.scores * spans)
        length = np.linalg.norm(gradient, axis=1, keepdims=True)
        short = np.quantile(length[length > 0], SHORT) if (length > 0).any() else 1.0
        grown = np.log1p(length / short)
        spacing = 1 / np.sqrt(len(self.grid))
        longest = grown.max() or 1.0
        return gradient / np.where(length > 0, length, 1.0) * grown / longest * spacing * 1.1


def _grid(limits, n: int, middles: bool) -> np.ndarray:
    """Points (n * n, 2): of the middles of cells, or from end to end."""
    shares = (np.arange(n) + 0.5) / n if middles else np.linspace(0, 1, n)
    axes = [low + (high - low) * shares for low, high in limits]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def _base_point(at, table: np.ndarray) -> np.ndarray:
    if at is None:
        return np.nanmedian(table, axis=0)
    base = np.asarray(at, dtype=float)
    if base.shape != (table.shape[1],):
        raise ValueError(
            f"at has shape {base.shape}, and must have a value for each of the {table.shape[1]} "
            "features. Those of the drawn features are not used."
        )
    return base


def _held(base: np.ndarray, places: list[int], grid: np.ndarray) -> np.ndarray:
    """Points (n, d) of a grid, other features at their values."""
    points = np.tile(base, (len(grid), 1))
    points[:, places] = grid
    return points


def _log_density(estimator, base, places, limits) -> tuple:
    require_methods(estimator, "contours=True", "score_samples")
    grid = _grid(limits, CONTOUR_POINTS, middles=False)
    with without_names():
        values = estimator.score_samples(_held(base, places, grid))
    values = np.where(np.isfinite(values), values, np.nan)
    shape = (CONTOUR_POINTS, CONTOUR_POINTS)
    x, y = (column.reshape(shape) for column in grid.T)
    return x[0], y[:, 0], values.reshape(shape)


def _title(noise_level: float, base, names: list[str], places: list[int]) -> str:
    title = f"Stein score, noise level {noise_level:g}"
    others = [j for j in range(len(names)) if j not in places]
    if not others:
        return title
    if len(others) > 3:
        return f"{title}\n{len(others)} other features held"
    return title + "\n" + ", ".join(f"{names[j]} = {base[j]:.3g}" for j in others)
