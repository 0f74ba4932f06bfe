"""Densities fitted to real tables, times weights."""

import numpy as np
import pytest
from sklearn.datasets import load_wine

from sklearn_dsm import DSMDensityEstimator, TiltedSampler
from sklearn_dsm.datasets import load_sachs
from sklearn_dsm.metrics import energy_distance

pytestmark = pytest.mark.slow
TABLES = {
    "wine": lambda: load_wine().data[:, [6, 12]],
    "sachs": lambda: np.log1p(load_sachs().data[:, [0, 1]]),
}

SETTINGS = {"n_train": 20_000, "max_epochs": 15, "n_paths": 1000, "n_steps": 50, "random_state": 0}


@pytest.fixture(scope="module", params=list(TABLES))
def tilted(request):
    """A weight that favours small values of the first column and of its product with the second."""
    X = TABLES[request.param]()
    centre, scale = X.mean(0), X.std(0)

    def log_weight(x):
        z = (x - centre) / scale
        return -0.7 * z[:, 0] - 0.3 * z[:, 0] * z[:, 1].clip(-2, 2)

    base = DSMDensityEstimator(max_epochs=15, random_state=0).fit(X)
    return base, log_weight, TiltedSampler(base, log_weight, **SETTINGS).fit()


def test_the_density_integrates_to_one(tilted):
    base, _, fit = tilted
    draws = np.concatenate([fit.sample(4000, random_state=0), base.sample(4000, random_state=1)])
    low, high = draws.min(0) - 0.3 * np.ptp(draws, 0), draws.max(0) + 0.3 * np.ptp(draws, 0)
    axes = [np.linspace(low[i], high[i], 91) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(fit.score_samples(grid)).sum() * cell == pytest.approx(1, abs=0.03)


def test_samples_agree_with_importance_resampling_of_the_base(tilted):
    base, log_weight, fit = tilted
    draws = base.sample(40_000, random_state=2)
    w = np.exp(log_weight(draws))
    random = np.random.default_rng(0)
    scale, n = draws.std(0), 6000
    resampled = [draws[random.choice(len(w), n, p=w / w.sum())] / scale for _ in range(2)]
    floor = energy_distance(resampled[0], resampled[1])
    before = energy_distance(draws[:n] / scale, resampled[0])
    after = energy_distance(fit.sample(n, random_state=3) / scale, resampled[0])
    assert after < floor + 0.1 * before
    assert abs(fit.log_normalizer_ - np.log(w.mean())) < 0.05
