"""Checks that every density estimator should pass, in the shape of scikit-learn's.

scikit-learn's own list knows nothing of densities: ``DensityMixin`` promises neither
``score`` nor ``sample``. A check takes the estimator's name and an estimator, which it
clones, and raises AssertionError with what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sklearn.base import BaseEstimator, clone

from ._check_rows import bimodal_rows, correlated_rows
from ._state_checks import (
    check_density_methods,
    check_fitted_state_is_plain,
    check_global_generators_untouched,
    check_grid_search_without_scoring,
    check_memory_mapped,
    check_pickle,
    check_refit_same_seed,
    check_sample_random_state,
    check_score_samples_deterministic,
)
from ._value_checks import (
    check_far_rows,
    check_mass_one_column,
    check_mass_skewed_column,
    check_mass_two_columns,
    check_sample_output,
    check_samples_follow_data,
    check_samples_follow_density,
    check_score_is_mean_log_density,
    check_score_samples_output,
    check_score_samples_rows_independent,
    check_stein_score_is_gradient,
    check_stein_score_noise_level,
    check_units_of_columns,
)

__all__ = [
    "bimodal_rows",
    "check_density_estimator",
    "check_density_methods",
    "check_far_rows",
    "check_fitted_state_is_plain",
    "check_global_generators_untouched",
    "check_grid_search_without_scoring",
    "check_mass_one_column",
    "check_mass_skewed_column",
    "check_mass_two_columns",
    "check_memory_mapped",
    "check_pickle",
    "check_refit_same_seed",
    "check_sample_output",
    "check_sample_random_state",
    "check_samples_follow_data",
    "check_samples_follow_density",
    "check_score_is_mean_log_density",
    "check_score_samples_deterministic",
    "check_score_samples_output",
    "check_score_samples_rows_independent",
    "check_stein_score_is_gradient",
    "check_stein_score_noise_level",
    "check_units_of_columns",
    "correlated_rows",
    "known_checks",
    "parametrize_with_density_checks",
    "yield_density_checks",
]

Check = Callable[[str, BaseEstimator], None]


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
    parametrize_with_density_checks : The same checks, one pytest test per check.

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
    yield check_memory_mapped
    yield check_refit_same_seed
    yield check_global_generators_untouched
    yield check_fitted_state_is_plain
    yield check_grid_search_without_scoring
