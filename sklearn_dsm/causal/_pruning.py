"""Which of the features before another are its parents: tests of smooth and of local effects."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import BSpline
from scipy.stats import f as f_law
from scipy.stats import ttest_ind

DEGREE = 3
# Basis functions of a feature, and samples there should be for each.
MAX_FUNCTIONS, MIN_FUNCTIONS, SAMPLES_PER_FUNCTION = 10, 4, 3
# Level at which a column stays for the second test.
SCREENED = 0.05
# Directions of the design with less than this share of a column's variance are left out.
COLLINEAR = 1e-10
# Predecessors with the strongest effects, of which so many pass without a test of the Jacobian.
MAX_CANDIDATES, MIN_CANDIDATES = 20, 5


def spline_basis(x: np.ndarray, n_functions: int) -> np.ndarray:
    """Centred cubic B-splines (n, n_functions - 1) on quantile knots; fewer if values repeat."""
    inner = np.unique(np.quantile(x, np.linspace(0, 1, n_functions - DEGREE + 1)))
    if len(np.unique(x)) <= DEGREE + 1:
        powers = np.arange(1, len(np.unique(x)))
        basis = ((x - x.mean()) / x.std())[:, None] ** powers
    else:
        knots = np.concatenate([[inner[0]] * DEGREE, inner, [inner[-1]] * DEGREE])
        basis = BSpline.design_matrix(x, knots, DEGREE).toarray()[:, 1:]
    return basis - basis.mean(0)


def n_functions(n: int, n_predictors: int) -> int:
    """Basis functions of each predictor, so that the samples suffice for all of them."""
    if n >= SAMPLES_PER_FUNCTION * MAX_FUNCTIONS * n_predictors:
        return MAX_FUNCTIONS
    return max(MIN_FUNCTIONS, -(-n // (SAMPLES_PER_FUNCTION * n_predictors)))


def additive_pvalues(y: np.ndarray, X: np.ndarray) -> np.ndarray:
    """P-values (m,) of the F-tests that y does not depend on each column in an additive model.

    A column with a p-value below ``SCREENED`` in the model of all columns has that of the model of
    such columns alone, whose test is stronger. If there are too few samples for all columns, those
    with the weakest effects on their own are left out, and have the p-value one.
    """
    n, m = X.shape
    if m == 0:
        return np.empty(0)
    most = max(1, (n - 2) // (SAMPLES_PER_FUNCTION * (MIN_FUNCTIONS - 1)))
    values = np.ones(m)
    chosen = np.arange(m)
    if m > most:
        alone = np.array([additive_pvalues(y, X[:, [j]])[0] for j in range(m)])
        chosen = np.sort(np.argsort(alone, kind="stable")[:most])
    values[chosen] = _joint_pvalues(y, X[:, chosen])
    left = np.flatnonzero(values < SCREENED)
    if 0 < len(left) < m:
        values[left] = _joint_pvalues(y, X[:, left])
    return values


def _joint_pvalues(y, X):
    """P-values of all columns in one additive model."""
    size = n_functions(*X.shape)
    return _block_pvalues(y - y.mean(), [spline_basis(x, size) for x in X.T])


def _block_pvalues(y, blocks):
    """F-tests of the coefficients of each block of columns in one least-squares fit."""
    n, starts = len(y), np.cumsum([0, *(block.shape[1] for block in blocks)])
    design = np.hstack(blocks)
    scale = np.sqrt((design**2).sum(0))
    design /= np.where(scale > 0, scale, 1.0)
    values, axes = np.linalg.eigh(design.T @ design)
    kept = values > COLLINEAR * values[-1]
    inverse = (axes[:, kept] / values[kept]) @ axes[:, kept].T
    coef = inverse @ (design.T @ y)
    left = n - 1 - int(kept.sum())
    if left < 1:
        return np.ones(len(blocks))
    noise = max(((y - design @ coef) ** 2).sum() / left, np.finfo(float).tiny)
    pvalues = np.empty(len(blocks))
    for k in range(len(blocks)):
        part = slice(starts[k], starts[k + 1])
        spread, directions = np.linalg.eigh(inverse[part, part])
        real = spread > COLLINEAR * spread[-1]
        along = directions[:, real].T @ coef[part]
        statistic = (along**2 / spread[real]).sum() / noise / real.sum()
        pvalues[k] = f_law.sf(statistic, real.sum(), left)
    return pvalues


def jacobian_candidates(effects: np.ndarray, level: float) -> np.ndarray:
    """Predecessors (of m) with large effects |H_lj|, shape (n, m), on a leaf's score.

    The strongest predecessors by mean effect are compared with the weakest of them by Welch's
    t-test, as in the algorithm DAS. A few of the strongest pass without a test.
    """
    strongest = np.argsort(-effects.mean(0), kind="stable")[: MAX_CANDIDATES + 1]
    untested, tested = strongest[:MIN_CANDIDATES], strongest[MIN_CANDIDATES:MAX_CANDIDATES]
    weakest = effects[:, strongest[-1]]
    different = [
        j for j in tested if ttest_ind(effects[:, j], weakest, equal_var=False).pvalue < level
    ]
    return np.sort(np.concatenate([untested, np.array(different, dtype=int)]))
