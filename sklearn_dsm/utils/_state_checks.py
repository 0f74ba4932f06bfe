"""Checks of how a density estimator behaves: methods, seeds, refits, pickles, model selection."""

from __future__ import annotations

import pickle
import pickletools
import tempfile
import warnings
from itertools import combinations

import joblib
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold

from ._check_rows import bimodal_rows, correlated_rows
from ._check_tools import fit_clone, global_state, odd_parts, require, seeded


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


def check_score_samples_deterministic(name: str, estimator: BaseEstimator) -> None:
    """Two calls give the same numbers, with draws between them."""
    X = correlated_rows()
    fitted = fit_clone(estimator, X)
    first = fitted.score_samples(X)
    fitted.sample(3, random_state=0)
    assert_array_equal(
        first, fitted.score_samples(X), err_msg=f"{name}.score_samples differs between calls."
    )


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


def check_memory_mapped(name: str, estimator: BaseEstimator) -> None:
    """An estimator whose arrays are read-only, mapped from a file, gives the same values."""
    X = bimodal_rows()
    fitted = fit_clone(estimator, X)
    expected = [fitted.score_samples(X), fitted.sample(3, random_state=0), fitted.stein_score(X)]
    # On Windows a file that is mapped cannot be deleted.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        joblib.dump(fitted, f"{folder}/estimator")
        mapped = joblib.load(f"{folder}/estimator", mmap_mode="r")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = [mapped.score_samples(X), mapped.sample(3, random_state=0)]
            found.append(mapped.stein_score(X))
        del mapped
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other, err_msg=f"{name} gives other values when memory-mapped.")


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
    """With a seed, no method moves the global generators of Python, numpy and torch.

    Without one, ``sample`` draws from numpy's, as scikit-learn does: the same global seed gives
    the same rows.
    """
    X = correlated_rows()
    before = global_state()
    fitted = fit_clone(estimator, X)
    fitted.score(X)
    fitted.sample(5, random_state=0)
    fitted.stein_score(X[:5])
    for (library, old), new in zip(before.items(), global_state().values(), strict=True):
        require(old == new, f"{name} moves the global generator of {library}.")
    state = np.random.get_state()
    try:
        draws = []
        for seed in (0, 0, 1):
            np.random.seed(seed)
            draws.append(fitted.sample(5))
    finally:
        np.random.set_state(state)
    require(
        np.array_equal(draws[0], draws[1]) and not np.any(draws[0] == draws[2]),
        f"{name}.sample without a seed does not draw from numpy's global generator.",
    )


def check_fitted_state_is_plain(name: str, estimator: BaseEstimator) -> None:
    """Fitted state is numpy arrays, plain Python and scikit-learn objects made of those."""
    fitted = fit_clone(estimator, bimodal_rows())
    odd = list(odd_parts(fitted, name))
    require(not odd, f"{name}: fitted state must be plain to outlive versions and devices: {odd}.")


def check_grid_search_without_scoring(name: str, estimator: BaseEstimator) -> None:
    """GridSearchCV without scoring maximises the mean log-density of the validation samples."""
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
