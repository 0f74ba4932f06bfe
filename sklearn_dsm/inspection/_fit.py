"""The drawn course of a fit."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._axes import DATA, MARK, MODEL, panels_of

# Lines further from the curve than its own range, so many times, are named but not drawn.
FAR = 2.0
LINES = {
    "selected": ("selected model", MODEL, "-"),
    "reference": ("base distribution", "black", "--"),
    "normal": ("multivariate normal", DATA, ":"),
}


class FitDisplay:
    """Draw the training of a :class:`~sklearn_dsm.DSMDensityEstimator`.

    The upper panel shows the evidence lower bound (ELBO) of the validation set by epoch. Horizontal
    lines are log-likelihoods of the validation set: of the selected model, of the base distribution
    that the network corrects, and of a multivariate normal distribution of the features. Lines far
    from the curve are in the legend only. The vertical line is the epoch whose weights were
    selected. The lower panel shows the training loss. If only one noise level is learned, there is
    no log-likelihood, and the upper panel shows the gain of the validation set.

    If no network was selected, the curves are those of a network that was not kept, and there is
    no vertical line.

    Use :meth:`from_estimator` to create a display. Needs matplotlib.

    Parameters
    ----------
    loss : ndarray of shape (n_epochs,)
        Training losses.
    validation : ndarray of shape (n_epochs,)
        ELBO of the validation set.
    log_likelihoods : dict of str to float
        ``validation_log_likelihood_``.
    selected_epoch : int or None
    title : str

    Attributes
    ----------
    axes_ : ndarray of shape (2,) of matplotlib Axes
    figure_ : matplotlib Figure
    loss_line_, validation_line_ : matplotlib Line2D
    lines_ : dict of str to matplotlib Line2D
        Horizontal lines by the keys of ``validation_log_likelihood_``.
    epoch_line_ : matplotlib Line2D or None
        The vertical line of the selected epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import DSMDensityEstimator
    >>> from sklearn_dsm.inspection import FitDisplay
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> fit = DSMDensityEstimator(reference="gaussian", max_epochs=3, random_state=0).fit(X)
    >>> display = FitDisplay.from_estimator(fit)
    >>> len(display.loss_line_.get_xdata())
    3
    """

    def __init__(self, loss, validation, log_likelihoods, selected_epoch, title):
        self.loss, self.validation = loss, validation
        self.log_likelihoods, self.selected_epoch = log_likelihoods, selected_epoch
        self.title = title

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : DSMDensityEstimator
        ax : matplotlib Axes, default=None
            The panels take its place, and it must be one of :func:`matplotlib.pyplot.subplots`.

        Returns
        -------
        FitDisplay

        Raises
        ------
        TypeError
            If the estimator does not keep the course of its fit.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "validation_log_likelihood_") or not hasattr(
            estimator, "loss_curve_"
        ):
            raise TypeError(
                f"{type(estimator).__name__} does not keep losses by epoch. Pass a fitted "
                "DSMDensityEstimator."
            )
        validation = np.asarray(estimator.validation_scores_, dtype=float)
        kept = bool(estimator.network_weights_) and len(validation) > 0
        return cls(
            np.asarray(estimator.loss_curve_, dtype=float),
            validation,
            dict(estimator.validation_log_likelihood_),
            1 + int(np.nanargmax(validation)) if kept else None,
            f"selected: {estimator.selected_}\ntraining ended: {estimator.stop_reason_}",
        ).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the training.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        FitDisplay
        """
        panels, self.figure_ = panels_of(ax, (2, 1), (8.5, 5.0), sharex=True)
        self.axes_ = panels[:, 0]
        above, below = self.axes_
        epochs = np.arange(1, len(self.validation) + 1)
        style = {"color": MARK, "marker": ".", "markersize": 4}
        (self.validation_line_,) = above.plot(epochs, self.validation, **style)
        if len(epochs):
            self.validation_line_.set_label("validation ELBO by epoch")
        (self.loss_line_,) = below.plot(epochs, self.loss, **style)
        self._draw_lines(above)
        self.epoch_line_ = None
        if self.selected_epoch is not None:
            label = f"selected epoch: {self.selected_epoch}"
            self.epoch_line_ = above.axvline(
                self.selected_epoch, color="black", linewidth=0.8, label=label
            )
            below.axvline(self.selected_epoch, color="black", linewidth=0.8)
        known = "log-likelihood" if self.log_likelihoods else "gain"
        above.set(ylabel=f"validation {known}\n(nats per sample)")
        below.set(xlabel="epoch", ylabel="training loss")
        above.set_title(self.title, fontsize="medium")
        if not len(epochs):
            below.text(0.5, 0.5, "no network was trained", ha="center", transform=below.transAxes)
            below.set(xticks=[], yticks=[])
        above.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.02))
        return self

    def _draw_lines(self, ax) -> None:
        """Horizontal lines, within a range that leaves the curve its shape."""
        self.lines_ = {}
        low, high = self._range()
        for name, (label, colour, dashes) in LINES.items():
            if name not in self.log_likelihoods:
                continue
            value = self.log_likelihoods[name]
            where = "" if low <= value <= high else f", {'below' if value < low else 'above'}"
            self.lines_[name] = ax.axhline(
                value,
                color=colour,
                linestyle=dashes,
                linewidth=1.2,
                label=f"{label}: {value:.4f}{where}",
            )
        margin = 0.06 * (high - low) or 0.5
        if np.isfinite(low):
            ax.set_ylim(low - margin, high + margin)

    def _range(self) -> tuple[float, float]:
        """Of the curve, and of the lines that are not far from it."""
        curve = self.validation[np.isfinite(self.validation)]
        # The first epochs may be far below all that follows.
        curve = curve[curve >= np.quantile(curve, 0.1)] if len(curve) > 10 else curve
        nearest = [self.log_likelihoods[k] for k in self.log_likelihoods if k != "normal"]
        values = [*curve, *nearest] if len(curve) else list(self.log_likelihoods.values())
        if not values:
            return -np.inf, np.inf
        low, high = min(values), max(values)
        normal = self.log_likelihoods.get("normal", low)
        if abs(normal - (low + high) / 2) <= FAR * (high - low):
            low, high = min(low, normal), max(high, normal)
        return low, high
