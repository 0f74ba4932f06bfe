"""
Held-out log-likelihood on real tables
======================================

``DSMDensityEstimator`` with its defaults beside ``KernelDensity`` (bandwidth by
cross-validation) and ``GaussianMixture`` (components by BIC), on real tables that
scikit-learn or this package ships. Every column gets uniform noise of one quantum, the
smallest step between its values: without it a rounded column has no density, and whoever
spikes hardest wins.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_sample_image, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm.datasets import load_sachs


def colours(n_pixels=10_000):
    """Red, green and blue of randomly chosen pixels of a photograph."""
    pixels = load_sample_image("china.jpg").reshape(-1, 3)
    return np.random.default_rng(0).permutation(pixels)[:n_pixels].astype(float)


def with_quantum_noise(X, seed=0):
    """Rows plus uniform noise as wide as the smallest step between a column's values."""
    quantum = [np.diff(np.unique(column)).min() for column in X.T]
    return X + np.random.default_rng(seed).uniform(size=X.shape) * quantum


def standardized_score(model, train, test):
    """Mean held-out log-density in input units of a model fitted on standardised columns."""
    scaler = StandardScaler().fit(train)
    model.fit(scaler.transform(train))
    log_density = model.best_estimator_.score_samples(scaler.transform(test))
    return float(np.mean(log_density)) - float(np.log(scaler.scale_).sum())


def kernel_density(train, test):
    """Bandwidth by five-fold cross-validation."""
    search = GridSearchCV(KernelDensity(), {"bandwidth": np.logspace(-1.5, 0.5, 12)})
    return standardized_score(search, train, test)


def gaussian_mixture(train, test):
    """Number of components by the Bayesian information criterion."""
    sizes = [size for size in (1, 2, 3, 4, 6, 8, 12, 16) if size * train.shape[1] < len(train)]
    search = GridSearchCV(
        GaussianMixture(random_state=0),
        {"n_components": sizes},
        scoring=lambda model, X: -model.bic(X),
        cv=[(np.arange(len(train)), np.arange(len(train)))],
    )
    return standardized_score(search, train, test)


def score_matching(train, test):
    """The default estimator."""
    return DSMDensityEstimator(random_state=0).fit(train).score(test)


TABLES = {
    "photograph colours": colours,
    "sachs proteins": lambda: load_sachs().data,
    "breast cancer": lambda: load_breast_cancer().data,
    "diabetes": lambda: load_diabetes(scaled=False).data,
    "wine": lambda: load_wine().data,
}
METHODS = {
    "KernelDensity": kernel_density,
    "GaussianMixture": gaussian_mixture,
    "DSMDensityEstimator": score_matching,
}


def compare(tables):
    """Yield a line a table; losses are shown as plainly as wins."""
    yield "held-out log-density, nats per row (seconds to fit and score)"
    yield f"{'table':<20}{'rows x columns':>15}" + "".join(f"{name:>24}" for name in METHODS)
    wins = 0
    for name in tables:
        X = with_quantum_noise(TABLES[name]())
        train, test = train_test_split(X, test_size=0.2, random_state=0)
        cells, values = [], []
        for method in METHODS.values():
            started = time.perf_counter()
            values.append(method(train, test))
            cells.append(f"{values[-1]:14.3f} ({time.perf_counter() - started:6.1f})")
        wins += values[-1] > max(values[:-1])
        shape = f"{len(X)} x {X.shape[1]}"
        yield f"{name:<20}{shape:>15}" + "".join(f"{cell:>24}" for cell in cells)
    yield f"DSMDensityEstimator has the highest value on {wins} of {len(tables)} tables."


def draw(path):
    """Two proteins: the measured cells, cells sampled from the fit, and its log-density."""
    X = with_quantum_noise(load_sachs().data[:, [0, 1]])
    density = DSMDensityEstimator(random_state=0).fit(X)
    sample = density.sample(len(X), random_state=0)
    low, high = np.quantile(X, [0.005, 0.97], axis=0)
    axes = [np.linspace(a, b, 120) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    log_density = density.score_samples(grid).reshape(120, 120)

    figure, panels = plt.subplots(1, 3, figsize=(12, 4), sharex=True, sharey=True)
    panels[0].scatter(*X.T, s=4, alpha=0.6)
    panels[1].scatter(*sample.T, s=4, alpha=0.6, color="tab:orange")
    top = log_density.max()
    panels[2].contourf(*axes, log_density, levels=np.linspace(top - 8, top, 17), extend="min")
    for panel, title in zip(panels, ("measured", "sampled", "log-density"), strict=True):
        panel.set(title=title, xlabel="Raf", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    panels[0].set_ylabel("Mek")
    figure.suptitle("Two proteins in 853 cells, intensities in arbitrary units")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"The picture is in {path}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    arguments.output.mkdir(exist_ok=True)
    lines = []
    for line in compare(arguments.tables):
        print(line, flush=True)
        lines.append(line)
    (arguments.output / "comparison.txt").write_text("\n".join(lines) + "\n")
    draw(arguments.output / "density.png")


if __name__ == "__main__":
    main()
