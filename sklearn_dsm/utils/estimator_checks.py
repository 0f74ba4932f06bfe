"""Checks that every density estimator should pass, in the shape of scikit-learn's.

scikit-learn's own list knows nothing of densities: ``DensityMixin`` promises neither
``score`` nor ``sample``. A check takes the estimator's name and an estimator, which it
clones, and raises AssertionError with what went wrong.
"""

from __future__ import annotations

import pickle
import pickletools
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold

from ._check_tools import (
    energy_p_value,
    fit_clone,
    global_state,
    line_density,
    odd_parts,
    plane_density,
    require,
    require_array,
    require_entropy,
    require_mass,
    seeded,
)

Check = Callable[[str, BaseEstimator], None]

# Nats, after a column was rescaled.
EQUIVARIANCE_TOLERANCE = 1e-3
# Rows scored in batches of different sizes may differ by rounding only.
BATCH_TOLERANCE = 1e-7
# A right estimator fails a test at this level for one seed in a thousand.
SMALL_PROBABILITY = 1e-3


def check_density_estimator(
    estimator: BaseEstimator, *, expected_failed_checks: dict[str, str] | None = None
) -> None:
    """Check that an estimator keeps the contract of a density estimator.

    The contract: ``fit``, ``score_samples`` (log-densities in the units of the input),
    ``score`` (their mean), ``sample`` and ``stein_score``. The estimator need not come
    from this package. scikit-learn's own ``check_estimator`` is to be run besides.

    Parameters
    ----------
    estimator : estimator object
        With parameters that make it quick, but not so quick that it fits nothing.
    expected_failed_checks : dict of str to str, default=None
        Names of checks to leave out, each with the reason.

    Raises
    ------
    AssertionError
        At the first check that fails.

    See Also
    --------
    parametrize_with_density_checks : The same as one pytest test a check.

    Examples
    --------
    >>> from sklearn_dsm import DSMDensityEstimator
    >>> from sklearn_dsm.utils import check_density_estimator
    >>> density = DSMDensityEstimator(
    ...     reference="gaussian", hidden_layer_sizes=(4,), max_epochs=1, batch_size=16
    ... )
    >>> check_density_estimator(density)
    """
    excused = known_checks(estimator, expected_failed_checks or {})
    for check in yield_density_checks(estimator):
        if check.__name__ not in excused:
            check(type(estimator).__name__, clone(estimator))


def known_checks(estimator: BaseEstimator, excused: dict[str, str]) -> dict[str, str]:
    """The checks to leave out, none of which may be unknown: it would excuse nothing."""
    names = {check.__name__ for check in yield_density_checks(estimator)}
    if unknown := sorted(set(excused) - names):
        raise ValueError(
            f"expected_failed_checks names {unknown}, which are not among the checks of "
            f"{type(estimator).__name__}: {sorted(names)}."
        )
    return excused


def parametrize_with_density_checks(estimators, *, expected_failed_checks: Callable | None = None):
    """Decorate a pytest test with one case for every estimator and check.

    Parameters
    ----------
    estimators : list of estimator objects
    expected_failed_checks : callable, default=None
        Takes an estimator and returns a dict from names of checks to reasons; these
        cases are strict xfails.

    Returns
    -------
    decorator : pytest.mark.parametrize
        With the arguments ``estimator`` and ``check``.

    Raises
    ------
    TypeError
        Where a class stands in place of an instance.

    See Also
    --------
    check_density_estimator : All checks in one call.

    Examples
    --------
    >>> from sklearn_dsm import DSMDensityEstimator
    >>> from sklearn_dsm.utils import parametrize_with_density_checks
    >>> @parametrize_with_density_checks([DSMDensityEstimator(max_epochs=5)])
    ... def test_density(estimator, check):
    ...     check(estimator)
    """
    import pytest

    cases = []
    for estimator in estimators:
        if isinstance(estimator, type):
            raise TypeError(f"{estimator.__name__} is a class; pass an instance of it.")
        excused = expected_failed_checks(estimator) if expected_failed_checks else {}
        excused = known_checks(estimator, excused)
        for check in yield_density_checks(estimator):
            reason = excused.get(check.__name__)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            label = "".join(str(estimator).split())
            cases.append(
                pytest.param(
                    clone(estimator),
                    partial(check, type(estimator).__name__),
                    marks=marks,
                    id=f"{label}-{check.__name__}",
                )
            )
    return pytest.mark.parametrize("estimator, check", cases)


def yield_density_checks(estimator: BaseEstimator) -> Iterator[Check]:
    """Yield the checks that apply to a density estimator.

    Parameters
    ----------
    estimator : estimator object
        An estimator without ``stein_score`` or ``sample`` is still given their checks:
        both belong to the contract.

    Yields
    ------
    check : callable (name, estimator)
        Raises AssertionError where the estimator breaks the contract.

    Examples
    --------
    >>> from sklearn_dsm import DSMDensityEstimator
    >>> from sklearn_dsm.utils import yield_density_checks
    >>> checks = list(yield_density_checks(DSMDensityEstimator()))
    >>> checks[0].__name__
    'check_density_methods'
    """
    yield check_density_methods
    yield check_score_samples_output
    yield check_score_is_mean_log_density
    yield check_score_samples_deterministic
    yield check_score_samples_rows_independent
    yield check_mass_one_column
    yield check_mass_skewed_column
    yield check_mass_two_columns
    yield check_sample_output
    yield check_sample_random_state
    yield check_samples_follow_data
    yield check_samples_follow_density
    yield check_units_of_columns
    yield check_stein_score_is_gradient
    yield check_stein_score_noise_level
    yield check_far_rows
    yield check_pickle
    yield check_refit_same_seed
    yield check_global_generators_untouched
    yield check_fitted_state_is_plain
    yield check_grid_search_without_scoring


def correlated_rows(n_samples: int = 300, seed: int = 0) -> np.ndarray:
    """Rows of a correlated normal law in two columns of different scale.

    Parameters
    ----------
    n_samples : int, default=300
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n_samples, 2)

    Examples
    --------
    >>> from sklearn_dsm.utils.estimator_checks import correlated_rows
    >>> correlated_rows(5).shape
    (5, 2)
    """
    mixing = np.array([[1.0, 0.8], [0.0, 0.6]]) * [1.0, 3.0]
    return np.random.RandomState(seed).standard_normal((n_samples, 2)) @ mixing + [1.0, -2.0]


def bimodal_rows(n_samples: int = 400, seed: int = 0) -> np.ndarray:
    """Rows of two equal correlated normal laws, three deviations apart.

    Parameters
    ----------
    n_samples : int, default=400
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n_samples, 2)

    Examples
    --------
    >>> from sklearn_dsm.utils.estimator_checks import bimodal_rows
    >>> bimodal_rows(5).shape
    (5, 2)
    """
    random = np.random.RandomState(seed)
    side = np.where(random.rand(n_samples, 1) < 0.5, -1.0, 1.0)
    mixing = np.array([[0.6, 0.4], [0.0, 0.45]])
    return random.standard_normal((n_samples, 2)) @ mixing + side * [1.0, -1.0]


def check_density_methods(name: str, estimator: BaseEstimator) -> None:
    """fit returns the estimator; the contract's methods are there."""
    X = correlated_rows()
    missing = [
        method
        for method in ("fit", "score_samples", "score", "sample", "stein_score")
        if not callable(getattr(estimator, method, None))
    ]
    require(not missing, f"{name} lacks {missing}.")
    estimator = clone(estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        require(estimator.fit(X) is estimator, f"{name}.fit does not return self.")


def check_score_samples_output(name: str, estimator: BaseEstimator) -> None:
    """score_samples gives (n,) finite numbers in float64."""
    X = correlated_rows()
    values = fit_clone(estimator, X).score_samples(X)
    require_array(f"{name}.score_samples", values, (len(X),))


def check_score_is_mean_log_density(name: str, estimator: BaseEstimator) -> None:
    """score is a float, the mean of score_samples, on rows other than the training's too."""
    fitted = fit_clone(estimator, correlated_rows())
    X = correlated_rows(101, seed=1)
    score = fitted.score(X)
    require(isinstance(score, float), f"{name}.score gives a {type(score).__name__}, not a float.")
    assert_allclose(
        score,
        fitted.score_samples(X).mean(),
        rtol=1e-9,
        err_msg=f"{name}.score is not the mean log-density.",
    )


def check_score_samples_deterministic(name: str, estimator: BaseEstimator) -> None:
    """Two calls give the same numbers, with draws between them."""
    X = correlated_rows()
    fitted = fit_clone(estimator, X)
    first = fitted.score_samples(X)
    fitted.sample(3, random_state=0)
    assert_array_equal(
        first, fitted.score_samples(X), err_msg=f"{name}.score_samples differs between calls."
    )


def check_score_samples_rows_independent(name: str, estimator: BaseEstimator) -> None:
    """A row's log-density does not depend on the rows it is scored with."""
    X = bimodal_rows()
    fitted = fit_clone(estimator, X)
    values, gradients = fitted.score_samples(X), fitted.stein_score(X[:20])
    order = np.random.RandomState(0).permutation(len(X))
    same = partial(assert_allclose, rtol=0, atol=BATCH_TOLERANCE)
    message = f"{name}: a row's log-density depends on the rows around it"
    same(fitted.score_samples(X[order]), values[order], err_msg=f"{message} (order).")
    same(fitted.score_samples(X[:7]), values[:7], err_msg=f"{message} (subset).")
    single = np.concatenate([fitted.score_samples(X[[i]]) for i in range(5)])
    same(single, values[:5], err_msg=f"{message} (single rows).")
    same(
        fitted.stein_score(X[3:9]),
        gradients[3:9],
        err_msg=f"{name}: a row's stein_score depends on the rows around it.",
    )


def check_mass_one_column(name: str, estimator: BaseEstimator) -> None:
    """The density of a bimodal column integrates to one."""
    X = bimodal_rows()[:, :1] * 2.0 + [[3.0]]
    require_mass(name, *line_density(fit_clone(estimator, X), X)[1:])


def check_mass_skewed_column(name: str, estimator: BaseEstimator) -> None:
    """The density of a lognormal column integrates to one."""
    X = np.exp(0.8 * np.random.RandomState(0).standard_normal((300, 1)))
    require_mass(name, *line_density(fit_clone(estimator, X), X)[1:])


def check_mass_two_columns(name: str, estimator: BaseEstimator) -> None:
    """The density of correlated, bimodal rows integrates to one."""
    X = bimodal_rows()
    require_mass(name, *plane_density(fit_clone(estimator, X), X))


def check_sample_output(name: str, estimator: BaseEstimator) -> None:
    """sample gives (n, d) finite numbers in float64; one row unless told."""
    fitted = fit_clone(estimator, correlated_rows())
    require_array(f"{name}.sample", fitted.sample(7, random_state=0), (7, 2))
    require_array(f"{name}.sample", fitted.sample(), (1, 2))


def check_sample_random_state(name: str, estimator: BaseEstimator) -> None:
    """The same random_state gives the same rows, another one other rows."""
    fitted = fit_clone(estimator, correlated_rows())
    first = fitted.sample(20, random_state=0)
    assert_array_equal(
        first,
        fitted.sample(20, random_state=0),
        err_msg=f"{name}.sample differs for one random_state.",
    )
    states = [fitted.sample(20, random_state=np.random.RandomState(0)) for _ in range(2)]
    assert_array_equal(
        states[0], states[1], err_msg=f"{name}.sample differs for equal RandomStates."
    )
    draws = first, fitted.sample(20, random_state=1), fitted.sample(20), fitted.sample(20)
    for one, other in combinations(draws, 2):
        require(not np.any(one == other), f"{name}.sample repeats rows where the seeds differ.")


def check_samples_follow_data(name: str, estimator: BaseEstimator) -> None:
    """Draws look like fresh rows of a normal law: energy distance, by permutation.

    300 draws against 300 fresh rows of the law the estimator was fitted on, with 1000
    rows. A right estimator is further off than 999 of 1000 permutations for about one
    seed in a thousand; the seeds are fixed.
    """
    fitted = fit_clone(estimator, correlated_rows(1000))
    scale = np.array([1.0, 3.0])
    draws = fitted.sample(300, random_state=0) / scale
    p_value = energy_p_value(draws, correlated_rows(300, seed=1) / scale)
    require(
        p_value > SMALL_PROBABILITY,
        f"{name}: draws differ from fresh rows of a normal law (energy test, p={p_value:.4f}).",
    )


def check_samples_follow_density(name: str, estimator: BaseEstimator) -> None:
    """Draws follow the law of score_samples, whether or not that fits the data.

    In one column by the Kolmogorov-Smirnov test against the distribution function of the
    quadrature; in one and two columns the mean log-density of the draws is minus the
    entropy of the quadrature, within the Monte-Carlo error.
    """
    X = bimodal_rows()
    fitted = fit_clone(estimator, X[:, :1])
    grid, log_density, weight = line_density(fitted, X[:, :1])
    draws = fitted.sample(2000, random_state=0)
    require_entropy(name, fitted.score_samples(draws), log_density, weight)
    cumulated = np.cumsum(np.exp(log_density) * weight)
    cumulated -= 0.5 * np.exp(log_density) * weight
    test = kstest(draws[:, 0], lambda x: np.interp(x, grid, cumulated / cumulated[-1]))
    require(
        test.pvalue > SMALL_PROBABILITY,
        f"{name}: draws do not follow the density of score_samples (Kolmogorov-Smirnov "
        f"distance {test.statistic:.4f}, p={test.pvalue:.2g}).",
    )
    fitted = fit_clone(estimator, X)
    draws = fitted.sample(2000, random_state=0)
    require_entropy(name, fitted.score_samples(draws), *plane_density(fitted, X))


def check_units_of_columns(name: str, estimator: BaseEstimator) -> None:
    """Rescaled and shifted columns change a log-density by the log of the scales only."""
    X = bimodal_rows()
    before = fit_clone(estimator, X).score_samples(X)
    for scale, shift in (([1.0, 1.0], [100.0, -7.0]), ([1e3, 0.03], [0.0, 0.0])):
        moved = X * scale + shift
        after = fit_clone(estimator, moved).score_samples(moved)
        assert_allclose(
            after + np.log(scale).sum(),
            before,
            rtol=0,
            atol=EQUIVARIANCE_TOLERANCE,
            err_msg=f"{name}: log-densities are not in the units of the columns "
            f"(scale {scale}, shift {shift}).",
        )


def check_stein_score_is_gradient(name: str, estimator: BaseEstimator) -> None:
    """stein_score at level 0 is the gradient of score_samples, by central differences."""
    X = bimodal_rows() * [1.0, 5.0]
    fitted = fit_clone(estimator, X)
    rows = np.concatenate([X[:15], X[:5] + 4 * X.std(0)])
    gradients = fitted.stein_score(rows)
    require_array(f"{name}.stein_score", gradients, rows.shape)
    for j, step in enumerate(1e-4 * X.std(0)):
        move = step * np.eye(2)[j]
        difference = fitted.score_samples(rows + move) - fitted.score_samples(rows - move)
        unit = X[:, j].std()
        assert_allclose(
            gradients[:, j] * unit,
            difference / (2 * step) * unit,
            rtol=1e-3,
            atol=1e-3,
            err_msg=f"{name}.stein_score is not the gradient of score_samples (column {j}).",
        )


def check_stein_score_noise_level(name: str, estimator: BaseEstimator) -> None:
    """stein_score is finite and not zero at every level in [0, 1], and raises at any other.

    A process may have no score at its end.
    """
    X = bimodal_rows()
    fitted = fit_clone(estimator, X)
    for level in (1e-6, 0.1, 0.5, 0.99, 1):
        try:
            values = fitted.stein_score(X[:9], noise_level=level)
        except ValueError as error:
            require(
                level == 1 and "noise_level" in str(error),
                f"{name}.stein_score raises at noise_level={level}: {error}",
            )
            continue
        require_array(f"{name}.stein_score at noise_level={level}", values, (9, 2))
        require(np.abs(values).min() > 0, f"{name}.stein_score is zero at noise_level={level}.")
    for level in (-0.1, 1.1, np.nan):
        try:
            fitted.stein_score(X[:9], noise_level=level)
        except ValueError as error:
            require(
                "noise_level" in str(error),
                f"{name}.stein_score: the error for noise_level={level} does not name it.",
            )
        else:
            raise AssertionError(f"{name}.stein_score accepts noise_level={level}.")


def check_far_rows(name: str, estimator: BaseEstimator) -> None:
    """Rows a million scales away are finite, and less likely than any training row."""
    X = correlated_rows()
    fitted = fit_clone(estimator, X)
    signs = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]])
    far = X.mean(0) + 1e6 * X.std(0) * signs
    values = fitted.score_samples(far)
    require_array(f"{name}.score_samples, rows far outside,", values, (len(far),))
    lowest = fitted.score_samples(X).min()
    require(
        values.max() < lowest,
        f"{name}: a row 1e6 scales outside has log-density {values.max():.3g}, a training row "
        f"{lowest:.3g}.",
    )
    require_array(f"{name}.stein_score, rows far outside,", fitted.stein_score(far), far.shape)


def check_pickle(name: str, estimator: BaseEstimator) -> None:
    """A pickle gives the same log-densities, and holds nothing of torch's or skorch's."""
    X = bimodal_rows()
    fitted = fit_clone(estimator, X)
    data = pickle.dumps(fitted)
    again = pickle.loads(data)
    assert_array_equal(
        again.score_samples(X),
        fitted.score_samples(X),
        err_msg=f"{name}: log-densities differ after pickling.",
    )
    texts = {arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str)}
    foreign = sorted(text for text in texts if text.split(".")[0] in ("torch", "skorch"))
    require(
        not foreign,
        f"{name}: the pickle needs {foreign}, so it is tied to a device and a version.",
    )


def check_refit_same_seed(name: str, estimator: BaseEstimator) -> None:
    """Equal seeds give equal fits: a clone's, and a second fit of the same object."""
    X = bimodal_rows()
    fitted = fit_clone(estimator, X)
    values = fitted.score_samples(X)
    assert_array_equal(
        fit_clone(fitted, X).score_samples(X),
        values,
        err_msg=f"{name}: a clone with the same random_state fits another density.",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(correlated_rows()).fit(X)
    assert_array_equal(
        fitted.score_samples(X), values, err_msg=f"{name}: an earlier fit leaves traces."
    )


def check_global_generators_untouched(name: str, estimator: BaseEstimator) -> None:
    """No method moves the global generators of Python, numpy and torch, whatever the seed.

    Nor reads them: draws without a seed differ where their states are the same.
    """
    X = correlated_rows()
    before = global_state()
    unseeded = clone(estimator)
    if "random_state" in unseeded.get_params():
        unseeded.set_params(random_state=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        unseeded.fit(X)
    fitted = fit_clone(estimator, X)
    fitted.score(X)
    fitted.sample(5, random_state=0)
    draws = [fitted.sample(5) for _ in range(2)]
    fitted.stein_score(X[:5])
    for (library, old), new in zip(before.items(), global_state().values(), strict=True):
        require(old == new, f"{name} moves the global generator of {library}.")
    require(
        not np.any(draws[0] == draws[1]),
        f"{name}.sample without a seed repeats rows where no global generator moves.",
    )


def check_fitted_state_is_plain(name: str, estimator: BaseEstimator) -> None:
    """Fitted state is numpy arrays, plain Python and scikit-learn objects made of those."""
    fitted = fit_clone(estimator, bimodal_rows())
    odd = list(odd_parts(fitted, name))
    require(not odd, f"{name}: fitted state must be plain to outlive versions and devices: {odd}.")


def check_grid_search_without_scoring(name: str, estimator: BaseEstimator) -> None:
    """GridSearchCV without scoring maximises the mean log-density of the held-out rows."""
    X = correlated_rows(200)
    folds = KFold(2)
    search = GridSearchCV(seeded(estimator), {}, cv=folds, error_score="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X)
    expected = [
        fit_clone(estimator, X[train]).score_samples(X[test]).mean()
        for train, test in folds.split(X)
    ]
    assert_allclose(
        search.best_score_,
        np.mean(expected),
        rtol=1e-6,
        err_msg=f"{name}: best_score_ is not a mean log-density.",
    )
