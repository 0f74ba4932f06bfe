"""Predictions of fitted classifiers and regressors as log-weights."""

from __future__ import annotations

from math import isfinite
from numbers import Real

import numpy as np
import torch
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import check_is_fitted

from ._differentiable import log_probabilities, predictions, steps_of


class PredictedLogWeight:
    r"""Log-weight of samples, from what a fitted classifier or regressor predicts.

    An instance is a function r of samples, the ``log_weight`` of
    :class:`~sklearn_dsm.TiltedSampler`. For the density p of its base, the sampler draws from
    :math:`p(x)\, e^{r(x)} / Z`. What r is depends on the estimator:

    ===================================  ==========================================================
    the estimator                        r(x)
    ===================================  ==========================================================
    a classifier, with a ``label``       ``scale`` :math:`\cdot \log P(\text{label} \mid x)`
    a regressor f                        ``scale`` :math:`\cdot f(x)`
    a regressor f, with a ``target`` t   ``scale`` :math:`\cdot -(f(x) - t)^2 / (2 \delta^2)`, with
                                         :math:`\delta` the ``deviation``
    ===================================  ==========================================================

    With a classifier and ``scale=1``, samples are those of the class: if P is the true conditional
    probability under p, then their density is :math:`p(x \mid \text{label})`, and Z is the
    probability of the class. A larger scale prefers samples of which the classifier is certain. In
    diffusion models, this is called classifier guidance, and changes the density in a way that has
    no closed form. Here, the density is :math:`p(x)\, P(\text{label} \mid x)^s / Z` for the scale
    s.

    Parameters
    ----------
    estimator : classifier or regressor
        A fitted estimator of scikit-learn or skorch, or a fitted pipeline of them. It takes the
        features of the base, in the same units and order. A classifier has ``predict_proba``.
    label : object or None, default=None
        The class, one of ``estimator.classes_``. Only for a classifier, which needs it.
    scale : float, default=1.0
        Factor of r. For a classifier and for a ``target``, it must be positive.
    target : float or None, default=None
        The value t that the prediction should be near. Only for a regressor.
    deviation : float or None, default=None
        How far from ``target`` predictions typically are, as a standard deviation. It is needed
        with a ``target``.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is neither a classifier nor a regressor.
    ValueError
        In any of these cases:

        - A classifier has no ``predict_proba``, or has several outputs.
        - ``label`` is not one of its classes.
        - A parameter is missing, has no effect, or is out of range.

    Notes
    -----
    Where a classifier gives the probability 0, r is -inf, and no samples are drawn there. Forests
    and nearest neighbours do so in large regions. The probabilities of
    :class:`~sklearn.calibration.CalibratedClassifierCV`, with its default method, are positive.

    The following estimators are differentiated by torch, so that all methods of
    :class:`~sklearn_dsm.TiltedSampler` are available: logistic regression, linear discriminant
    analysis, linear, ridge, lasso and elastic-net regression, multilayer perceptrons, and networks
    of skorch that return logits or probabilities. Each may be the last step of a pipeline whose
    other steps are :class:`~sklearn.preprocessing.StandardScaler` or
    :class:`~sklearn.decomposition.PCA`. All others, such as trees, have no gradient. They need
    ``method="csm"``, the default.

    If the estimator was fitted to a data frame, it gets a pandas data frame with the same names.

    References
    ----------
    [Unified]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.mixture import GaussianMixture
    >>> from sklearn_dsm import TiltedSampler
    >>> from sklearn_dsm.sampling import PredictedLogWeight
    >>> X = np.random.default_rng(0).normal(size=(500, 1))
    >>> classifier = LogisticRegression().fit(X, X[:, 0] > 1)
    >>> log_weight = PredictedLogWeight(classifier, label=True)
    >>> log_weight(np.array([[0.0], [2.0]])).round(1)
    array([-5.8, -0. ])
    >>> base = GaussianMixture(random_state=0).fit(X)
    >>> tilted = TiltedSampler(base, log_weight, n_train=2000, max_epochs=5, random_state=0).fit()
    >>> bool(abs(np.exp(tilted.log_normalizer_) - np.mean(X > 1)) < 0.05)
    True
    """

    def __init__(self, estimator, *, label=None, scale=1.0, target=None, deviation=None):
        check_is_fitted(estimator)
        self.estimator, self.label, self.scale = estimator, label, scale
        self.target, self.deviation = target, deviation
        self.is_classifier = is_classifier(estimator)
        if self.is_classifier:
            self._check_classifier()
        elif is_regressor(estimator):
            self._check_regressor()
        else:
            raise TypeError(
                f"{type(estimator).__name__} is neither a classifier nor a regressor. Give one, or "
                "write a function of samples as the log_weight."
            )
        if not _is_number(scale) or scale == 0 or (scale < 0 and not self._is_any_scale()):
            sign = "nonzero" if self._is_any_scale() else "positive"
            raise ValueError(f"scale={scale!r} must be a {sign} number.")

    def __call__(self, X):
        """Log-weights of samples.

        Parameters
        ----------
        X : ndarray or Tensor of shape (n_samples, n_features)

        Returns
        -------
        ndarray or Tensor of shape (n_samples,)

        Raises
        ------
        ValueError
            If the estimator was fitted to another number of features, or predicts several values
            for a sample.
        TypeError
            If X is a tensor, and the estimator is none of those that torch differentiates.
        """
        self._check_features(X)
        if self.is_classifier:
            return self.scale * self._log_probability(X)
        predicted = self._predicted(X)
        if predicted.shape != (len(X), 1):
            raise ValueError(
                f"{type(self.estimator).__name__} predicts {predicted.shape[1]} values for each "
                "sample, and a log-weight is one. Fit it to one of them."
            )
        predicted = predicted[:, 0]
        if self.target is None:
            return self.scale * predicted
        return -0.5 * self.scale * ((predicted - self.target) / self.deviation) ** 2

    def __repr__(self):
        given = {"label": self.label, "target": self.target, "deviation": self.deviation}
        shown = [repr(self.estimator), f"scale={self.scale!r}"]
        shown += [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"PredictedLogWeight({', '.join(shown)})"

    def _log_probability(self, X):
        if isinstance(X, torch.Tensor):
            return log_probabilities(self.estimator, X)[:, self._column]
        rows = self._rows(X)
        # Probabilities of zero are meant.
        with np.errstate(divide="ignore"):
            if hasattr(self.estimator, "predict_log_proba"):
                return np.asarray(self.estimator.predict_log_proba(rows))[:, self._column]
            return np.log(self.estimator.predict_proba(rows)[:, self._column])

    def _predicted(self, X):
        if isinstance(X, torch.Tensor):
            return predictions(self.estimator, X)
        return np.asarray(self.estimator.predict(self._rows(X))).reshape(len(X), -1)

    def _rows(self, X: np.ndarray):
        """The samples as the estimator was fitted to them: named, or of a network's type."""
        names = getattr(self.estimator, "feature_names_in_", None)
        if names is not None:
            import pandas

            return pandas.DataFrame(X, columns=names)
        module = getattr(steps_of(self.estimator)[-1], "module_", None)
        if module is None:
            return X
        kinds = [each.dtype for each in module.parameters() if each.is_floating_point()]
        return X if torch.float64 in kinds else X.astype(np.float32)

    def _check_features(self, X) -> None:
        n_features = getattr(self.estimator, "n_features_in_", X.shape[1])
        if X.shape[1] != n_features:
            raise ValueError(
                f"{type(self.estimator).__name__} was fitted to {n_features} features, and the "
                f"samples have {X.shape[1]}. Fit it to the features of the base."
            )

    def _is_any_scale(self) -> bool:
        """Whether a negative scale leaves r bounded where the estimator is."""
        return not self.is_classifier and self.target is None

    def _check_classifier(self) -> None:
        name = type(self.estimator).__name__
        if not hasattr(self.estimator, "predict_proba"):
            raise ValueError(
                f"{name} has no predict_proba. Wrap it in "
                "sklearn.calibration.CalibratedClassifierCV."
            )
        if self.target is not None or self.deviation is not None:
            raise ValueError(f"target and deviation are for regressors, and {name} classifies.")
        classes = self.estimator.classes_
        if isinstance(classes, list):
            raise ValueError(f"{name} has several outputs. Fit it to one of them.")
        columns = np.flatnonzero([one == self.label for one in classes])
        if len(columns) != 1:
            raise ValueError(
                f"label={self.label!r} is not one of the classes {list(classes)} of {name}."
            )
        self._column = int(columns[0])

    def _check_regressor(self) -> None:
        if self.label is not None:
            raise ValueError(
                f"label={self.label!r} is for classifiers, and {type(self.estimator).__name__} is "
                "a regressor. Give target and deviation, or neither."
            )
        if self.target is None and self.deviation is None:
            return
        is_given = _is_number(self.target) and _is_number(self.deviation)
        if not is_given or self.deviation <= 0:
            raise ValueError(
                f"target={self.target!r} and deviation={self.deviation!r} go together: a number "
                "and a positive number."
            )


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
