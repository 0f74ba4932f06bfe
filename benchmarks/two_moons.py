"""Distance from a known density: two moons, where small classical estimators are strong.

The figure is KL(truth || model) in nats, on 4,000 fresh rows, for three seeds.
"""

from __future__ import annotations

import warnings

import numpy as np
from _report import Report
from scipy.special import logsumexp
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from sklearn_dsm import DSMDensityEstimator

ANGLES = np.linspace(0, np.pi, 2000)
ARCS = np.r_[np.c_[np.cos(ANGLES), np.sin(ANGLES)], np.c_[1 - np.cos(ANGLES), 0.5 - np.sin(ANGLES)]]


def true_log_density(X, noise):
    squared = ((X[:, None] - ARCS) ** 2).sum(2)
    return logsumexp(-squared / (2 * noise**2), axis=1) - np.log(len(ARCS) * 2 * np.pi * noise**2)


def kernel_density(X):
    return GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.03, 0.5, 12)}).fit(X)


def gaussian_mixture(X):
    fits = (GaussianMixture(k, random_state=0).fit(X) for k in range(1, 17))
    return min(fits, key=lambda fit: fit.bic(X))


METHODS = {
    "KernelDensity, bandwidth by CV": kernel_density,
    "GaussianMixture, components by BIC": gaussian_mixture,
    "DSMDensityEstimator": lambda X: DSMDensityEstimator(random_state=0).fit(X),
}


def divergence(method, n_rows, noise, seed):
    fit = method(make_moons(n_rows, noise=noise, random_state=seed)[0])
    fresh = make_moons(4000, noise=noise, random_state=100 + seed)[0]
    truth = np.concatenate([true_log_density(part, noise) for part in np.array_split(fresh, 20)])
    fit = getattr(fit, "best_estimator_", fit)
    return float(np.mean(truth - fit.score_samples(fresh)))


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    report = Report("two_moons", "KL(truth || model) on two moons, nats, three seeds")
    for n_rows, noise in ((1000, 0.08), (4000, 0.1)):
        for name, method in METHODS.items():
            values = [divergence(method, n_rows, noise, seed) for seed in range(3)]
            spread = ", ".join(f"{value:.4f}" for value in values)
            report(f"{n_rows} rows, {name:<36} mean {np.mean(values):.4f}  ({spread})")
    report.save()


if __name__ == "__main__":
    main()
