"""Density of a table of mixed columns: one conditional law after another."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from .._budget import Budget
from .._compat import Interval, StrOptions, validate_parameter_constraints
from .._core.random import torch_generator
from .._evaluation.base import check_number_of_draws
from .._fit import InterruptedFit, whole_fit
from .._random import seed_from
from .._summary import SummaryMixin, in_nats
from .._tabular.coding import code_for
from .._tabular.columns import column_type
from .._tabular.fitting import FitPlan, fit_networks
from .._tabular.frames import RawColumn, read
from .._tabular.given import Given
from .._tabular.law import TableLaw
from .._tabular.layout import HOLE, STATE, Layout, Samples
from .._tabular.memorisation import memorisation
from .._tabular.nets import FieldNetworks
from .._tabular.schema import Schema
from .._threads import take_one_thread_where_forked
from .._validation import check_weight, evaluation_device, resolve_device
from .._warn import warn
from ._conditional_table import ConditionalTable

# Added to the counts of states, whose frequencies are a small share of every law.
PRIOR_COUNT = 0.5
# A standard error of a log-probability that users are told of.
WARN_ERROR = 0.1
# Of which one is chosen when missing values are drawn for the training.
REFILL_CANDIDATES = 4


def _has_discrete_columns(estimator) -> bool:
    types = getattr(estimator, "column_types_", {}).values()
    return any(kind["kind"] == "discrete" for kind in types)


class TableDensityEstimator(SummaryMixin, DensityMixin, BaseEstimator):
    r"""Density of a table with numbers, integers, categories and missing values.

    .. math:: \log p(x) = \sum_j \log p(x_j \mid x_1, \ldots, x_{j-1})

    Each factor is a probability in a discrete column, the probability of a cell in a column of
    integers or rounded numbers, and a density in a continuous one. A column with point masses, for
    instance many zeros, has a probability for these and a density for the rest. Factors of
    probabilities come first, those of numbers follow, both in the order of the columns. The product
    sums and integrates to one.

    A small network for each factor predicts class probabilities, or a mixture of eight normal
    distributions for a number that a marginal transform has made nearly normal. The networks are
    trained by maximum likelihood, each until it no longer improves on validation samples. Missing
    values are drawn from the law itself in between, so that it is trained with whole samples
    (stochastic EM).

    Parameters
    ----------
    column_types : "auto" or dict, default="auto"
        Types of columns by name, or by number for arrays. Others are inferred. A type is one of the
        strings below, or a dict with the key "kind" and any of the others.

        - "discrete" (also "categorical", "boolean"): strings, categories, booleans, and numbers
          with at most 30 distinct values. Key "values".
        - "cells" (also "integer", "rounded"): numbers on a grid, where v stands for
          :math:`[v - q/2, v + q/2)`. Key "step" for q.
        - "continuous": other numbers.

        Columns of cells and continuous columns have the keys "bounds", a pair with None for no
        bound, and "point_masses", a list of values. Inferred point masses are values with 2 % of
        the samples or more, and repeated values at an end; on a grid, only those much more frequent
        than their neighbours.
        Inferred bounds are point masses at an end, and 0 below positive numbers close to it.
    missing : {"marginal", "modelled", "error"}, default="marginal"
        What missing values are.

        - "marginal": unknown. The log-probability of a sample is that of what is seen, and the rest
          is integrated over. For values that are missing at random.
        - "modelled": a part of the law. Which values are missing has a probability as well, and
          samples have missing values. For values whose absence tells something.
        - "error": not allowed.
    handle_unknown : {"error", "floor"}, default="error"
        What happens to a category that was not among the samples of the fit: an error, or all such
        categories together have the probability 1 / (n_samples + 1).
    max_epochs : int, default=60
        Largest number of passes over the samples; 0 leaves the columns independent.
    max_fit_time : float or None, default=None
        Seconds after which training ends with the best weights so far.
    device : str, default="auto"
        "auto" is CUDA if available, else CPU; or the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, validation samples and their order.
    verbose : int, default=0
        1 prints a line for each evaluation of the training.

    Attributes
    ----------
    column_types_ : dict
        For each column a dict: "kind", and "values", or "step", "bounds" and "point_masses".
    log_measure_ : dict of str
        For each column what its factor is: "mass", "density", or "density and mass".
    network_weights_ : dict of str to ndarray
        Weights of the networks.
    validation_score_ : float
        Mean log-probability of validation samples, with numbers as normal scores.
    n_steps_ : int
        Training steps.
    stop_reason_ : str
        Why the training ended.
    fit_time_ : float
        Seconds that the fit took.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only if the table had names.

    See Also
    --------
    DSMDensityEstimator : For continuous columns without missing values; more accurate there.

    Notes
    -----
    Missing values are integrated over by importance sampling from laws that the same networks give
    for a column when later columns are shown to them. The number of draws, 64 to 512, is doubled
    until the standard error of the log-probability is at most .005. Where only the last factors are
    missing, nothing has to be integrated.

    References
    ----------
    [ACE]_

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_dsm import TableDensityEstimator
    >>> random = np.random.default_rng(0)
    >>> sex = random.choice(["f", "m"], size=200)
    >>> height = 165 + 12 * (sex == "m") + 7 * random.normal(size=200)
    >>> table = pd.DataFrame({"sex": sex, "height": height.round()})
    >>> model = TableDensityEstimator(random_state=0).fit(table)
    >>> model.column_types_["height"]["kind"]
    'cells'
    >>> tall = model.sample(5, given={"height": (180, 200)}, random_state=0)
    >>> bool(tall["height"].between(180, 200).all())
    True
    """

    _parameter_constraints = {
        "column_types": [StrOptions({"auto"}), dict],
        "missing": [StrOptions({"marginal", "modelled", "error"})],
        "handle_unknown": [StrOptions({"error", "floor"})],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        column_types="auto",
        *,
        missing="marginal",
        handle_unknown="error",
        max_epochs=60,
        max_fit_time=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.column_types = column_types
        self.missing = missing
        self.handle_unknown = handle_unknown
        self.max_epochs = max_epochs
        self.max_fit_time = max_fit_time
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit
    def fit(self, X, y=None, sample_weight=None):
        """Fit the distribution of a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            pandas, polars or numpy. NaN and None are missing values.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        self : TableDensityEstimator

        Raises
        ------
        ValueError
            If a column has no value at all, holds dates, or has more than 1,000 categories.
        """
        budget, seed = Budget(self.max_fit_time), seed_from(self.random_state)
        device = resolve_device(self.device)
        columns, kind = read(self._checked(X, reset=True))
        self._check_rows(columns, X)
        weight = check_weight(sample_weight, np.empty((len(columns[0].values), 1)))
        kept = weight > 0
        if kept.sum() < 2:
            raise ValueError(
                f"Found {int(kept.sum())} sample(s) with a positive weight, while a minimum of 2 "
                "is required."
            )
        columns = [column._replace(values=column.values[kept]) for column in columns]
        weight = weight[kept] / weight[kept].mean()
        codes = [code_for(c, t, weight) for c, t in zip(columns, self._types(columns), strict=True)]
        holed = [j for j, column in enumerate(columns) if column.missing.any()]
        self._layout = Layout(codes, holed if self.missing == "modelled" else [])
        samples = self._layout.encode(columns)
        self._layout.set_inputs(samples)
        self._schema = Schema(self._layout, columns, kind, self.handle_unknown == "floor")
        self._frequencies = self._counted(samples, weight)
        names = [column.name for column in columns]
        types = [code.type.as_dict() for code in codes]
        self.column_types_ = dict(zip(names, types, strict=True))
        self.log_measure_ = dict(zip(names, map(_measure, types), strict=True))
        refill = self._refill(samples, seed) if holed and self.missing == "marginal" else None
        plan = FitPlan(self.max_epochs, seed, budget, device, self._say, refill)
        record = fit_networks(self._layout, samples, weight, plan)
        state = record.networks.state_dict()
        self.network_weights_ = {name: part.cpu().numpy() for name, part in state.items()}
        self._n_members, self._width = record.networks.n_members, record.networks.width
        self.validation_score_, self.n_steps_ = record.held_out, record.n_steps
        self.stop_reason_, self.fit_time_ = record.stop_reason, budget.taken
        if self.stop_reason_ == "interrupted":
            raise InterruptedFit("The fit was interrupted. The estimator keeps what it learned.")
        return self

    def score_samples(self, X):
        """Log-probability of what is seen of each sample.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            Natural logarithms of densities in continuous columns times probabilities in others; 0
            for a sample without any value, -inf beyond a bound.

        Warns
        -----
        UserWarning
            If a standard error of the integral over missing values is above .1.
        """
        found, error = self._law().log_probability(self._samples(X), {})
        large = error > WARN_ERROR
        if large.any():
            warn(
                f"The log-probabilities of {int(large.sum())} of {len(error)} samples have "
                f"standard errors above {WARN_ERROR:g} from the integrals over their missing "
                f"values, up to {error.max():.2g}. Put columns that are often missing last, or "
                "compare means over imputations.",
                UserWarning,
            )
        return found

    def summary(self):
        """Say what ``fit`` found, and how well it fits validation samples.

        Returns
        -------
        dict of str to str
            Lines to print; a notebook shows them below the parameters.
        """
        check_is_fitted(self)
        kinds = [kind["kind"] for kind in self.column_types_.values()]
        counts = {kind: kinds.count(kind) for kind in ("discrete", "cells", "continuous")}
        score = "validation log-probability, numbers as normal scores"
        trained = f"{self.n_steps_} steps of {self._n_members} members, ended by"
        return {
            "columns": ", ".join(f"{count} {kind}" for kind, count in counts.items() if count),
            "networks": f"{trained} {self.stop_reason_}",
            "time": f"{self.fit_time_:.1f} s",
            score: in_nats(self.validation_score_),
        }

    def score(self, X, y=None):
        """Mean log-probability.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        float
        """
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples=1, given=None, random_state=None):
        """Draw samples.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples, or for a frame in ``given`` the number for each of its rows.
        given : dict, Series, DataFrame or None, default=None
            Conditions. A dict has a value, a range ``(low, high)`` with both ends allowed, or a
            list of allowed values for each column that it names. A frame has some of the columns;
            its missing values are filled in.
        random_state : int, RandomState or None, default=None

        Returns
        -------
        DataFrame or ndarray
            Like the table of the fit: columns, types, categories, grids and bounds.

        Raises
        ------
        ValueError
            If ``given`` names a column that the table does not have, or has no probability.
        """
        check_is_fitted(self)
        n_samples = check_number_of_draws(n_samples, random_state)
        known = Given(self._layout, self._schema.empty, given)
        samples = self._schema.checked(known.samples())
        samples = samples.take(np.repeat(np.arange(len(samples)), n_samples))
        return self._schema.kind.build(self._drawn(samples, known.conditions, random_state))

    def impute(self, X, n_imputations=1, random_state=None):
        """Fill in missing values with draws given what is seen.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        n_imputations : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        DataFrame or ndarray, or a list of n_imputations of them
            A list if ``n_imputations`` is larger than 1.
        """
        columns = self._columns(X)
        samples = self._schema.samples(columns)
        validate_parameter_constraints(
            {
                "n_imputations": [Interval(Integral, 1, None, closed="left")],
                "random_state": ["random_state"],
            },
            {"n_imputations": n_imputations, "random_state": random_state},
            caller_name="impute",
        )
        for f, field in enumerate(self._layout.fields):
            if field.part == HOLE:
                # What is asked for is the value were it not missing.
                samples.state[:, f] = 0
        repeated = samples.take(np.tile(np.arange(len(samples)), n_imputations))
        filled = self._drawn(repeated, {}, random_state)
        found = []
        for k in range(n_imputations):
            rows = slice(k * len(samples), (k + 1) * len(samples))
            parts = [
                np.where(column.missing, part[rows], column.values)
                for column, part in zip(columns, filled, strict=True)
            ]
            found.append(self._schema.kind.build(parts))
        return found if n_imputations > 1 else found[0]

    @available_if(_has_discrete_columns)
    def predict_proba(self, X, column=None):
        """Probabilities of the values of a discrete column given what is seen of the others.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            What the column itself holds is ignored; a frame may do without it.
        column : str, int or None, default=None
            A discrete column; None is the last one. Without any in the table there is no such
            method.

        Returns
        -------
        ndarray of shape (n_samples, n_values)
            In the order of ``column_types_[column]["values"]``.
        """
        check_is_fitted(self)
        names = list(self.column_types_)
        discrete = [name for name in names if self.column_types_[name]["kind"] == "discrete"]
        column = discrete[-1] if column is None else column
        if column not in names:
            raise ValueError(f"There is no column {column!r}. The columns are {names}.")
        if self.column_types_[column]["kind"] != "discrete":
            raise ValueError(
                f"Column {column!r} is not discrete, so its values have no list of probabilities. "
                "Use conditional() for densities, or sample() with given."
            )
        j = names.index(column)
        samples = self._samples(self._schema.with_column(X, column))
        f, law = self._layout.of_column(j, STATE), self._law()
        hole = self._layout.of_column(j, HOLE)
        samples.have[:, f] = True
        if hole is not None:
            samples.state[:, hole] = 0
        found = []
        for state, value in enumerate(self.column_types_[column]["values"]):
            known = np.full(len(samples), value, dtype=object if isinstance(value, str) else None)
            coded = self._layout.codes[j].encode(RawColumn(column, known))
            samples.state[:, f], samples.standardised[:, f] = state, coded.standardised
            found.append(law.log_probability(samples, {})[0])
        joint = np.stack(found, axis=1)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    def conditional(self, given):
        """Condition on values, ranges or lists of values of some columns.

        Parameters
        ----------
        given : dict or Series
            As in :meth:`sample`.

        Returns
        -------
        ConditionalTable
            With ``score_samples(X)`` and ``sample(n_samples, random_state)``.
        """
        check_is_fitted(self)
        return ConditionalTable(self, given)

    def explain(self, X):
        """Contributions of the columns to each sample's log-probability.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            :math:`\\log p(x_j \\mid x_1, \\ldots, x_{j-1})`, in the order of the columns; the sum
            over columns is :meth:`score_samples`. In a sample with missing values, contributions of
            columns that are seen are means over what can be missing, and the columns that are
            missing share the rest evenly.
        """
        samples, law = self._samples(X), self._law()
        by_field = law.explained(samples)
        found = np.zeros((len(samples), self.n_features_in_))
        for f, field in enumerate(self._layout.fields):
            found[:, field.column] += by_field[:, f]
        return found

    def memorisation_report(self, X_train, X_holdout, n_samples=2000, random_state=None):
        """Measure whether samples give away the samples of the fit.

        Parameters
        ----------
        X_train : DataFrame or array-like of shape (n_train, n_features)
            Samples of the fit.
        X_holdout : DataFrame or array-like of shape (n_holdout, n_features)
            Samples from the same source that the fit has not seen.
        n_samples : int, default=2000
            Samples that are drawn.
        random_state : int, RandomState or None, default=None

        Returns
        -------
        dict
            "closer_to_train": share of drawn samples that are closer to the training samples than
            to as many others, .5 if nothing is memorised, and "closer_to_train_stderr".
            "median_distance_train" and "median_distance_holdout": medians of the distance to the
            closest record. "log_probability_gap": mean log-probability of training samples less
            that of others, and "log_probability_gap_stderr". "membership_auc_log_probability" and
            "membership_auc_distance": area under the ROC curve of telling training samples from
            others by their log-probability, and by their distance to the closest drawn sample;
            .5 is chance.
        """
        seed = seed_from(random_state)
        drawn = self.sample(n_samples, random_state=seed)
        tables = [self._samples(X) for X in (X_train, X_holdout, drawn)]
        train, holdout, made = (self._layout.inputs(table) for table in tables)
        law = self._law()
        scores = [law.log_probability(table, {})[0] for table in tables[:2]]
        return memorisation(train, holdout, made, scores[0], scores[1], seed)

    def _refill(self, samples: Samples, seed: int):
        """What draws the missing values of some samples for the training."""
        random = np.random.RandomState(seed)

        def refill(networks: FieldNetworks, rows: np.ndarray) -> Samples:
            law = TableLaw(self._layout, networks, self._frequencies)
            return law.chosen(samples.take(rows), {}, random, REFILL_CANDIDATES)

        return refill

    def _types(self, columns):
        told = {} if isinstance(self.column_types, str) else self.column_types
        names = [column.name for column in columns]
        unknown = [name for name in told if name not in names]
        if unknown:
            raise ValueError(
                f"column_types names {unknown[0]!r}, which the table does not have. Its columns "
                f"are {names}."
            )
        return [column_type(column, told.get(column.name)) for column in columns]

    def _counted(self, samples: Samples, weight: np.ndarray) -> list[np.ndarray]:
        found = []
        floor = 1 / (len(weight) + 1) if self.handle_unknown == "floor" else 0.0
        for f, field in enumerate(self._layout.fields):
            # Other numbers than point masses are a state themselves.
            is_open = field.part == STATE and not self._layout.codes[field.column].has_value
            unseen = floor if is_open else 0.0
            have = samples.have[:, f]
            states, size = samples.state[have, f], max(field.n_states, 1)
            counts = PRIOR_COUNT + np.bincount(states, weight[have], size)
            found.append(np.append(counts / counts.sum(), unseen))
        return found

    def _checked(self, X, reset: bool):
        """A table that scikit-learn accepts."""
        if hasattr(X, "columns"):
            validate_data(self, X, skip_check_array=True, reset=reset)
            return X
        options = {"dtype": None, "ensure_all_finite": False, "ensure_min_samples": 1 + reset}
        return validate_data(self, X, reset=reset, **options)

    def _check_rows(self, columns: list[RawColumn], X) -> None:
        if not columns or not len(columns[0].values):
            raise ValueError(f"Found array with 0 sample(s) (shape={np.shape(X)}).")
        if self.missing != "error":
            return
        holed = [column.name for column in columns if column.missing.any()]
        if holed:
            raise ValueError(
                f"Input X contains NaN: column {holed[0]!r} has missing values. Set "
                "missing='marginal' or 'modelled', or fill them in."
            )

    def _columns(self, X) -> list[RawColumn]:
        """Columns of a table like that of the fit."""
        check_is_fitted(self)
        take_one_thread_where_forked()
        columns = self._schema.columns(self._checked(X, reset=False))
        self._check_rows(columns, X)
        return columns

    def _samples(self, X) -> Samples:
        return self._schema.samples(self._columns(X))

    def _drawn(self, samples: Samples, conditions, random_state) -> list[np.ndarray]:
        take_one_thread_where_forked()
        random = np.random.RandomState(seed_from(random_state))
        return self._layout.decode(self._law().chosen(samples, conditions, random))

    def _law(self) -> TableLaw:
        start = torch_generator(0)
        networks = FieldNetworks(self._layout, self._n_members, self._width, 0.0, start)
        state = {name: torch.from_numpy(part) for name, part in self.network_weights_.items()}
        networks.load_state_dict(state)
        networks.to(evaluation_device(self.device))
        return TableLaw(self._layout, networks, self._frequencies)

    def _say(self, line: str) -> None:
        if self.verbose:
            print(f"[TableDensityEstimator] {line}", flush=True)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing != "error"
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


def _measure(kind: dict) -> str:
    if kind["kind"] != "continuous":
        return "mass"
    return "density and mass" if kind["point_masses"] else "density"
