"""DSMRegressor as a probabilistic regressor of skpro; importing this file needs skpro."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtr
from sklearn.base import clone
from skpro.distributions.base import BaseDistribution
from skpro.regression.base import BaseProbaRegressor

# A variance is a sum over quantiles at so many normal ones, up to so many standard deviations.
N_NODES, REACH = 121, 6.0


class SkproRegressor(BaseProbaRegressor):
    """Predict distributions of one target by a :class:`~sklearn_dsm.DSMRegressor`.

    ``DSMRegressor.as_skpro()`` makes one.

    Parameters
    ----------
    regressor : DSMRegressor
        ``fit`` fits a clone of it.

    Attributes
    ----------
    regressor_ : DSMRegressor
        What predictions are of.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_dsm import DSMRegressor
    >>> X = pd.DataFrame({"a": np.linspace(0, 1, 30)})
    >>> model = DSMRegressor(max_iter=5, max_epochs=0, random_state=0).as_skpro()
    >>> model.fit(X, np.sin(50 * X)).predict_proba(X[:3]).mean().shape
    (3, 1)
    """

    _tags = {
        "authors": "the sklearn_dsm developers",
        "capability:multioutput": False,
        "capability:missing": True,
        "X_inner_mtype": "pd_DataFrame_Table",
        "y_inner_mtype": "pd_DataFrame_Table",
    }

    def __init__(self, regressor):
        self.regressor = regressor
        super().__init__()

    @classmethod
    def of(cls, regressor) -> SkproRegressor:
        """The adapter of a regressor, fitted if it is."""
        made = cls(regressor)
        if hasattr(regressor, "n_targets_"):
            n_features = regressor.n_features_in_
            names = getattr(regressor, "feature_names_in_", np.arange(n_features))
            made.feature_names_in_, made.n_features_in_ = names, n_features
            made.regressor_, made._columns = regressor, pd.RangeIndex(1)
            made._y_metadata = {"mtype": "numpy1D", "feature_names": [0]}
            made._is_fitted = True
        return made

    def _fit(self, X, y):
        self._columns = y.columns
        self.regressor_ = clone(self.regressor).fit(_named(X), y.to_numpy(dtype=float)[:, 0])
        return self

    def _predict(self, X):
        found = self.regressor_.predict(_named(X))
        return pd.DataFrame(found, index=X.index, columns=self._columns)

    def _predict_proba(self, X):
        given = Given(self.regressor_, _named(X))
        return ConditionalDistribution(given, index=X.index, columns=self._columns)

    @classmethod
    def get_test_params(cls, parameter_set="default"):
        from ._regressor import DSMRegressor

        quick = {"max_iter": 5, "max_epochs": 0, "random_state": 0}
        return [
            {"regressor": DSMRegressor(**quick)},
            {"regressor": DSMRegressor("gaussian", n_folds=2, **quick)},
        ]


class Given:
    """A fitted regressor and samples, of whose targets there is one density each."""

    def __init__(self, regressor, X: pd.DataFrame):
        self.regressor, self.X = regressor, X

    def take(self, rows) -> Given:
        return Given(self.regressor, self.X.iloc[rows])


class ConditionalDistribution(BaseDistribution):
    """Distributions of a target given features, one for each sample.

    Parameters
    ----------
    given : Given
    index, columns : pandas Index

    Examples
    --------
    >>> from sklearn_dsm.regression._skpro import ConditionalDistribution
    >>> given = ConditionalDistribution.get_test_params()[0]["given"]
    >>> ConditionalDistribution(given, index=[0, 1, 2], columns=["y"]).mean().shape
    (3, 1)
    """

    _tags = {
        "authors": "the sklearn_dsm developers",
        "capabilities:approx": ["var", "energy", "pdfnorm"],
        "capabilities:exact": ["mean", "pdf", "log_pdf", "pmf", "log_pmf", "cdf", "ppf"],
        "distr:measuretype": "continuous",
        "distr:paramtype": "nonparametric",
    }

    def __init__(self, given, index=None, columns=None):
        self.given = given
        super().__init__(index=index, columns=columns)
        if given.regressor.y_step is not None:
            self.set_tags(**{"distr:measuretype": "discrete"})

    @property
    def _is_discrete(self) -> bool:
        return self.given.regressor.y_step is not None

    def _iloc(self, rowidx=None, colidx=None):
        if np.ndim(rowidx) == np.ndim(colidx) == 0 and rowidx is not None and colidx is not None:
            return self._iat(rowidx, colidx)
        rows = np.arange(len(self.index))[slice(None) if rowidx is None else rowidx]
        columns = self.columns if colidx is None else self.columns[np.atleast_1d(colidx)]
        rows = np.atleast_1d(rows)
        return type(self)(self.given.take(rows), index=self.index[rows], columns=columns)

    def _iat(self, rowidx=None, colidx=None):
        return type(self)(self.given.take([rowidx]))

    def _log_pdf(self, x):
        return np.full(np.shape(x), -np.inf) if self._is_discrete else self._log_density(x)

    def _pdf(self, x):
        return np.exp(self._log_pdf(x))

    def _log_pmf(self, x):
        return self._log_density(x) if self._is_discrete else np.full(np.shape(x), -np.inf)

    def _pmf(self, x):
        return np.exp(self._log_pmf(x))

    def _log_density(self, x):
        return self._of_each(self.given.regressor.score_samples, x)

    def _cdf(self, x):
        return self._of_each(self.given.regressor.cdf, x)

    def _ppf(self, p):
        return self._of_each(self.given.regressor._ppf, p)

    def _mean(self):
        return self._shaped(self.given.regressor.predict(self.given.X))

    def _var(self):
        nodes = np.linspace(-REACH, REACH, N_NODES)
        share = np.exp(-(nodes**2) / 2)
        share /= share.sum()
        q = self.given.regressor.predict_quantiles(self.given.X, ndtr(nodes))
        return self._shaped(((q - (q @ share)[:, None]) ** 2) @ share)

    def _sample(self, n_samples=None):
        draws = self.given.regressor.sample(self.given.X, n_samples or 1)
        if self.ndim == 0:
            return draws[0, 0] if n_samples is None else pd.DataFrame(draws[0])
        frames = [pd.DataFrame(draw, index=self.index, columns=self.columns) for draw in draws.T]
        return frames[0] if n_samples is None else pd.concat(frames, keys=range(n_samples))

    def _of_each(self, method, x):
        return self._shaped(method(self.given.X, np.ravel(x)))

    def _shaped(self, values):
        return np.reshape(values, self.shape)

    @classmethod
    def get_test_params(cls, parameter_set="default"):
        from ._regressor import DSMRegressor

        X = pd.DataFrame({"a": np.linspace(0, 1, 30)})
        y = X["a"].to_numpy() + np.sin(50 * X["a"])
        fit = DSMRegressor(max_iter=5, max_epochs=0, random_state=0).fit(X, y)
        given = Given(fit, X[:3])
        one = {"given": given, "index": pd.RangeIndex(3), "columns": pd.Index(["y"])}
        return [one, {"given": given.take([0])}]


def _named(X: pd.DataFrame) -> pd.DataFrame:
    """The frame with names that are strings, as scikit-learn asks for."""
    return X.set_axis(X.columns.astype(str), axis=1)
