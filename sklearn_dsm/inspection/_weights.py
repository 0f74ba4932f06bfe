"""Weights of the paths of samplers."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp
from sklearn.utils.validation import check_is_fitted

from ._axes import panels_of

# Steps after which the share of effective paths is estimated, at most.
N_MOMENTS = 16
SHARE, WEIGHTS, CONSTANT = "tab:blue", "0.7", "tab:red"


class WeightsDisplay:
    r"""Draw how unequal the weights of a sampler are, and at which steps they become so.

    The lower panel is a histogram of the log-weights of the samples. The red line is the estimate
    of log Z.

    The upper panel is the share of effective paths by step. It falls where steps are inaccurate:
    there, a better network or more steps help. For :class:`~sklearn_dsm.TiltedSampler` and
    :class:`~sklearn_dsm.DiffusionSampler`, the share after step k is

    .. math:: \frac{E[w]^2}{E\left[ E[w | X_0, \dots, X_k]^2 \right]},

    with the weight w of a whole path. It is 1 if the start and the steps up to k are perfect, and
    that of the weights at the last step. The square of the inner expectation is estimated by the
    product of the weights of two paths that are the same up to step k, and then have different
    noise. For :class:`~sklearn_dsm.AnnealedSampler`, the shares are ``ess_by_step_``.

    Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    steps : ndarray of shape (n_moments,)
        Numbers of the steps.
    ess : ndarray of shape (n_moments,)
        Shares of effective paths after these steps.
    log_weights : ndarray of shape (n_paths,)
    log_normalizer, log_normalizer_stderr, total_ess : float
        Those of the fit, in the title.
    step_name : str, default="step"
        What a step is called.

    Attributes
    ----------
    axes_ : ndarray of shape (2,) of matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        Of the shares.
    histogram_ : matplotlib BarContainer
    """

    def __init__(
        self,
        steps: np.ndarray,
        ess: np.ndarray,
        log_weights: np.ndarray,
        log_normalizer: float,
        log_normalizer_stderr: float,
        total_ess: float,
        step_name: str = "step",
    ):
        self.steps, self.ess, self.log_weights = steps, ess, log_weights
        self.log_normalizer, self.log_normalizer_stderr = log_normalizer, log_normalizer_stderr
        self.total_ess, self.step_name = total_ess, step_name

    @classmethod
    def from_estimator(cls, estimator, *, n_paths=1000, random_state=None, ax=None):
        """Draw the weights of a fitted sampler.

        Parameters
        ----------
        estimator : object
            A fitted :class:`~sklearn_dsm.TiltedSampler`, :class:`~sklearn_dsm.DiffusionSampler` or
            :class:`~sklearn_dsm.AnnealedSampler`. The weights of the last one are those of its
            particles.
        n_paths : int, default=1000
            Number of new paths. Another path branches off each path at up to 15 steps. No
            effect for :class:`~sklearn_dsm.AnnealedSampler`.
        random_state : int, RandomState or None, default=None
            The same integer gives the weights that ``sample_weighted`` returns for it.
        ax : matplotlib Axes, default=None
            The panels take its place, and it must be one of :func:`matplotlib.pyplot.subplots`.

        Returns
        -------
        WeightsDisplay
        """
        check_is_fitted(estimator)
        if hasattr(estimator, "ess_by_step_"):
            log_weights, ess = estimator.log_weights_, np.r_[1.0, estimator.ess_by_step_]
            steps, step_name = np.arange(len(ess)), "temperature"
        elif hasattr(estimator, "_branched_weights"):
            log_weights, steps, others = estimator._branched_weights(
                n_paths, random_state, N_MOMENTS
            )
            ess, step_name = _effective_shares(log_weights, others), "step"
        else:
            raise TypeError(
                f"The samples of {type(estimator).__name__} have no weights. Pass a fitted "
                "TiltedSampler, DiffusionSampler or AnnealedSampler."
            )
        fit = estimator.log_normalizer_, estimator.log_normalizer_stderr_, estimator.ess_
        return cls(steps, ess, log_weights, *fit, step_name).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        WeightsDisplay
        """
        panels, self.figure_ = panels_of(ax, (2, 1), (5.5, 4.8))
        self.axes_ = panels[:, 0]
        above, below = self.axes_
        (self.line_,) = above.plot(self.steps, self.ess, color=SHARE, marker=".")
        above.set(xlabel=self.step_name, ylabel="effective share", ylim=(0, 1.05))
        finite = self.log_weights[np.isfinite(self.log_weights)]
        _, _, self.histogram_ = below.hist(finite, bins="auto", color=WEIGHTS)
        below.axvline(self.log_normalizer, color=CONSTANT)
        below.set(xlabel="log-weight", ylabel="samples")
        above.set_title(
            f"in fit: log Z = {self.log_normalizer:.3f} ± {self.log_normalizer_stderr:.3f}, "
            f"effective {self.total_ess:.0%}"
        )
        return self


def _effective_shares(log_weights: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Shares where paths branch off, and that of the paths themselves at last."""
    pairs = np.vstack([others, log_weights])
    n = len(log_weights)
    product = logsumexp(log_weights + pairs, axis=1) - np.log(n)
    # No pair of paths has weights: nothing is known.
    product = np.where(np.isfinite(product), product, np.nan)
    means = logsumexp(log_weights) + logsumexp(pairs, axis=1) - 2 * np.log(n)
    # Estimates of a share near 1 may exceed it.
    return np.minimum(np.exp(means - product), 1.0)
