"""Laws of the radial transform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._transforms.fitting import fit_latent_map
from sklearn_dsm._transforms.radial import RadialTransform, fit_radial

FALLBACK = "ignore:No network was trained:sklearn.exceptions.ConvergenceWarning"
MAP = RadialTransform(np.log([0.3, 0.5, 0.2]), np.array([0.4, 1.0, 2.5]))
DIMENSIONS = pytest.mark.parametrize("d", [2, 3, 10, 60])


def heavy(n, d, seed):
    """Student rows with five degrees of freedom, of unit covariance."""
    random = np.random.RandomState(seed)
    z = random.standard_normal((n, d))
    return z * np.sqrt(3 / random.chisquare(5, (n, 1)))


def mixture_rows(n, d, seed):
    random = np.random.RandomState(seed)
    scale = random.choice(MAP.scales, n, p=np.exp(MAP.log_weights))
    return scale[:, None] * random.standard_normal((n, d))


def log_mixture(Z):
    d = Z.shape[1]
    squares = (Z**2).sum(1)[:, None] / MAP.scales**2
    log_joint = MAP.log_weights - squares / 2 - d * np.log(MAP.scales * np.sqrt(2 * np.pi))
    return logsumexp(log_joint, axis=1)


def log_normal(Z):
    return -0.5 * (Z**2 + np.log(2 * np.pi)).sum(1)


@DIMENSIONS
def test_a_scale_mixture_becomes_normal(d):
    """Its rows have the lengths of normal ones, and its density is the normal one's, carried."""
    Z = mixture_rows(4000, d, seed=0)
    Y, log_slope = MAP.forward(Z)
    assert stats.kstest((Y**2).sum(1), stats.chi2(d).cdf).pvalue > 0.01
    np.testing.assert_allclose(log_normal(Y) + log_slope, log_mixture(Z), rtol=1e-10, atol=1e-8)


@DIMENSIONS
@pytest.mark.parametrize("size", [1e-150, 1e-8, 0.1, 1.0, 4.0, 1e3, 1e7, 1e140])
def test_it_is_inverted_and_finite_wherever_rows_are(d, size):
    Z = size * mixture_rows(30, d, seed=4)
    Y, log_slope = MAP.forward(Z)
    assert np.isfinite(log_slope).all()
    assert np.isfinite(MAP.pull_back(Z, -Y)).all()
    # In a gap between two shells hardly any mass lies, and the map is nearly flat.
    tolerance = 1e-6 if d < 60 or size not in (0.1, 1.0, 4.0) else 1e-3
    np.testing.assert_allclose(MAP.inverse(Y), Z, rtol=tolerance)


def test_at_the_origin_it_is_linear():
    d = 3
    stretch = (np.exp(MAP.log_weights) @ MAP.scales**-d) ** (1 / d)
    Z = np.array([[0.0, 0.0, 0.0], [1e-9, 0.0, 0.0]])
    Y, log_slope = MAP.forward(Z)
    np.testing.assert_allclose(Y, stretch * Z, rtol=1e-6)
    np.testing.assert_allclose(log_slope, d * np.log(stretch), rtol=1e-8)


@DIMENSIONS
def test_normal_rows_need_none(d):
    for seed in range(3):
        Z = np.random.RandomState(seed).standard_normal((5000, d))
        assert fit_radial(Z, np.ones(len(Z))) is None


def test_one_column_needs_none():
    assert fit_radial(heavy(2000, 1, seed=0), np.ones(2000)) is None


@DIMENSIONS
def test_lengths_of_heavy_tails_become_normal(d):
    radial = fit_radial(heavy(20000, d, seed=0), np.ones(20000))
    Y, log_slope = radial.forward(heavy(5000, d, seed=1))
    lengths = stats.chi2(d).cdf((Y**2).sum(1))
    assert abs(np.sort(lengths) - np.linspace(0, 1, 5000)).max() < 0.03
    Z = heavy(5000, d, seed=1)
    gain = (log_normal(Y) + log_slope - log_normal(Z)).mean()
    t = stats.multivariate_t(np.zeros(d), np.eye(d) * 3 / 5, df=5)
    most = (t.logpdf(Z) - log_normal(Z)).mean()
    assert gain > 0.95 * most


def test_weights_count_as_repeated_rows():
    Z, weight = heavy(600, 4, seed=0), np.random.RandomState(0).randint(1, 4, 600).astype(float)
    weighted = fit_radial(Z, weight)
    repeated = fit_radial(np.repeat(Z, weight.astype(int), 0), np.ones(int(weight.sum())))
    fresh = heavy(200, 4, seed=1)
    gap = weighted.forward(fresh)[0] - repeated.forward(fresh)[0]
    assert np.abs(gap).mean() < 0.01


@pytest.mark.filterwarnings(FALLBACK)
def test_the_estimator_maps_lengths_where_that_helps():
    """Elliptical rows: no map of single columns makes them normal, and the lengths' map does."""
    d = 12
    mix = np.random.RandomState(1).standard_normal((d, d))
    X, fresh = heavy(1500, d, seed=0) @ mix, heavy(2000, d, seed=1) @ mix
    options = {"reference": "gaussian", "max_fit_time": 1e-9, "random_state": 0}
    mapped = DSMDensityEstimator(**options).fit(X)
    assert "2.radial.scales" in mapped.latent_map_
    rivals = [
        DSMDensityEstimator(marginals=marginals, **options).fit(X).score(fresh)
        for marginals in ("standardize", "gaussianize")
    ]
    rivals.append(GaussianMixture(2, random_state=0).fit(X).score(fresh))
    truth = stats.multivariate_t(np.zeros(d), mix.T @ mix * 3 / 5, df=5).logpdf(fresh).mean()
    assert truth - 0.1 < mapped.score(fresh)
    assert max(rivals) + 0.1 < mapped.score(fresh)
    normal = np.random.RandomState(0).standard_normal((1500, d)) @ mix
    assert "2.radial.scales" not in DSMDensityEstimator(**options).fit(normal).latent_map_


@pytest.mark.parametrize("seed", range(4))
def test_outliers_do_not_make_the_covariance_shrink(seed):
    """Nearly collinear heavy-tailed rows, whatever rows are held out."""
    d = 12
    mix = np.random.RandomState(1).standard_normal((d, d))
    X = heavy(1500, d, seed=0) @ mix
    held_out = np.zeros(len(X), dtype=bool)
    held_out[np.random.RandomState(seed).permutation(len(X))[:150]] = True
    latent = fit_latent_map(X, np.ones(len(X)), held_out, "standardize")
    variances = np.linalg.eigvalsh(np.cov(latent.forward(X)[0].T))
    np.testing.assert_allclose(variances, 1, rtol=0.05)
