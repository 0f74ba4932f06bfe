"""Paths from noise to samples."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._compat import StrOptions, validate_parameter_constraints
from ._axes import axes_of, panels_of
from ._columns import positions_of
from ._edges import names_of

# Moments that are drawn of two features, and the colours of samples by their place.
N_MOMENTS, COLOURS = 5, "viridis"


class TrajectoryDisplay:
    """Draw the paths that lead from noise to samples.

    One feature is drawn against the number of the step, with a histogram of the samples at the
    right. Two features are drawn as scatter plots of all paths at five moments, from noise to
    samples, or, with ``kind="paths"``, as curves in one panel that end in points, the samples. A
    path has one colour everywhere: that of the place of its sample in the order of the first
    feature.

    Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    states : ndarray of shape (n_states, n_paths, n_drawn)
        Values of one or two features along the paths, from noise to samples.
    names : list of str
        Names of these features.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of the paths and those of the histogram, or one for each moment.
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
        Only for one feature, or two with ``kind="paths"``.
    lines_ : matplotlib LineCollection
        Only for one feature, or two with ``kind="paths"``.
    histogram_ : matplotlib BarContainer
        Only for one feature.
    scatters_ : list of matplotlib PathCollection
        Only for two features: the paths at each moment, or with ``kind="paths"`` the samples.
    """

    def __init__(self, states: np.ndarray, names: list[str]):
        self.states, self.names = states, names

    @classmethod
    def from_estimator(
        cls, estimator, *, n_paths=300, features=None, kind="moments", random_state=None, ax=None
    ):
        """Draw new paths of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted :class:`~sklearn_dsm.DSMDensityEstimator` or sampler of this package. If an
            estimator draws samples in closed form, as :class:`~sklearn_dsm.GMMScoreEstimator`
            does, then the paths are those of the probability flow of its score. Particles of
            :class:`~sklearn_dsm.AnnealedSampler` are drawn with their ancestors, and without their
            weights; a step is a temperature.
        n_paths : int, default=300
        features : sequence of one or two int or str, default=None
            Indices or names of the features. None draws the first two, or the only one.
        kind : {"moments", "paths"}, default="moments"
            How two features are drawn. "moments" shows how the distribution changes, "paths" where
            each sample comes from, best with ``n_paths=100`` or fewer.
        random_state : int, RandomState or None, default=None
            The same integer gives the paths of the samples that ``sample`` returns for it, or
            ``sample_weighted`` for :class:`~sklearn_dsm.AnnealedSampler`.
        ax : matplotlib Axes, default=None
            The panels of the moments take its place, and it must then be one of
            :func:`matplotlib.pyplot.subplots`.

        Returns
        -------
        TrajectoryDisplay
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "_trajectories"):
            raise TypeError(
                f"{type(estimator).__name__} does not draw samples by paths from noise. Pass a "
                "fitted DSMDensityEstimator, TiltedSampler, DiffusionSampler or AnnealedSampler."
            )
        names = names_of(estimator)
        columns = positions_of(features, names, 2, 1, 2)
        states = estimator._trajectories(n_paths, random_state)[:, :, columns]
        return cls(states, [names[column] for column in columns]).plot(kind=kind, ax=ax)

    def plot(self, *, kind="moments", ax=None):
        """Draw the paths.

        Parameters
        ----------
        kind : {"moments", "paths"}, default="moments"
            How two features are drawn.
        ax : matplotlib Axes, default=None

        Returns
        -------
        TrajectoryDisplay
        """
        validate_parameter_constraints(
            {"kind": [StrOptions({"moments", "paths"})]}, {"kind": kind}, caller_name="plot"
        )
        order = self.states[-1, :, 0].argsort().argsort() / max(1, self.states.shape[1] - 1)
        if len(self.names) == 1:
            self._plot_lines(order, ax)
        elif kind == "paths":
            self._plot_paths(order, ax)
        else:
            self._plot_moments(order, ax)
        return self

    def _plot_lines(self, order: np.ndarray, ax) -> None:
        from matplotlib.collections import LineCollection

        ax, self.figure_ = axes_of(ax, (7.0, 3.6))
        values = self.states[:, :, 0]
        steps = np.arange(len(values))
        lines = [np.column_stack([steps, path]) for path in values.T]
        self.lines_ = LineCollection(lines, array=order, cmap=COLOURS, linewidths=0.7, alpha=0.6)
        ax.add_collection(self.lines_)
        ax.set_xlim(0, steps[-1])
        ax.autoscale(axis="y")
        ax.set(xlabel="step", ylabel=self.names[0])
        side = ax.inset_axes([1.01, 0.0, 0.2, 1.0], sharey=ax)
        _, _, self.histogram_ = side.hist(
            values[-1], bins="auto", orientation="horizontal", color="0.6"
        )
        side.tick_params(labelleft=False)
        side.set(xticks=[], title="samples")
        self.ax_, self.axes_ = ax, np.array([ax, side])

    def _plot_paths(self, order: np.ndarray, ax) -> None:
        from matplotlib.collections import LineCollection

        self.ax_, self.figure_ = axes_of(ax, (5.2, 4.6))
        lines = list(self.states.transpose(1, 0, 2))
        self.lines_ = LineCollection(lines, array=order, cmap=COLOURS, linewidths=0.6, alpha=0.6)
        self.ax_.add_collection(self.lines_)
        ends = self.ax_.scatter(*self.states[-1].T, s=9, c=order, cmap=COLOURS, zorder=3)
        self.scatters_, self.axes_ = [ends], np.array([self.ax_])
        self.ax_.set(xlabel=self.names[0], ylabel=self.names[1])
        self.ax_.set_title("lines: from noise, points: samples", fontsize="medium")

    def _plot_moments(self, order: np.ndarray, ax) -> None:
        panels, self.figure_ = panels_of(
            ax, (1, N_MOMENTS), (2.1 * N_MOMENTS, 2.5), sharex=True, sharey=True
        )
        self.axes_, self.scatters_ = panels[0], []
        moments = np.linspace(0, len(self.states) - 1, N_MOMENTS).round().astype(int)
        titles = ["noise", *(f"step {moment}" for moment in moments[1:-1]), "samples"]
        for panel, moment, title in zip(self.axes_, moments, titles, strict=True):
            x, y = self.states[moment].T
            self.scatters_.append(panel.scatter(x, y, s=5, c=order, cmap=COLOURS, alpha=0.8))
            panel.set(xlabel=self.names[0], title=title)
        self.axes_[0].set_ylabel(self.names[1])
