"""Kernel density estimates side by side: times, bias at bounds, held-out log-densities.

python benchmarks/kernels.py [--seeds N] [--smoke] [--results FOLDER]

KernelScoreEstimator against scikit-learn's KernelDensity, SciPy's gaussian_kde and, where it is
installed, the FFTKDE of KDEpy, which is interpolated linearly between the points of its grid.
Everything runs on one thread, which the environment variable OMP_NUM_THREADS must say as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _budget import processor_timed
from _report import RESULTS, Report
from scipy.interpolate import RegularGridInterpolator
from scipy.special import logsumexp
from scipy.stats import cauchy, expon, gaussian_kde, lognorm, norm, t, vonmises
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from sklearn_dsm import KernelScoreEstimator

TOLERANCE, N_EXACT, N_TIMED, FFT_POINTS = 1e-4, 300, 2000, {1: 2**14, 2: 2**10}
TINY = 1e-300
CIRCLE, ENDS = 2 * np.pi, np.array([[0.0], [1.0]])
LogDensity = Callable[[np.ndarray], np.ndarray]


# Times.


def fft_log_density(Z: np.ndarray, h) -> LogDensity:
    """The estimate of KDEpy on a grid that holds the samples, interpolated linearly."""
    from KDEpy import FFTKDE

    fitted = FFTKDE(kernel="gaussian", bw=h).fit(Z)
    d = Z.shape[1]
    points, values = fitted.evaluate(FFT_POINTS[d])
    points = points.reshape(-1, d)
    axes = [np.unique(points[:, j]) for j in range(d)]
    table = np.asarray(values).reshape([len(axis) for axis in axes])
    between = RegularGridInterpolator(axes, table, bounds_error=False, fill_value=0.0)
    return lambda Q: np.log(np.maximum(between(Q), TINY))


def exact_log_density(Z: np.ndarray, h: float, Q: np.ndarray) -> np.ndarray:
    log_terms = -0.5 * ((Q[:, None] - Z) ** 2).sum(2) / h**2
    return logsumexp(log_terms, axis=1) - np.log(len(Z)) - Z.shape[1] * np.log(h * 2.5066282746)


def timing(report: Callable[[str], None], n: int, d: int, n_timed: int) -> None:
    """All methods on one whitened sample with one bandwidth."""
    random = np.random.default_rng(0)
    X, Q = random.normal(size=(n, d)), random.normal(size=(n, d))
    h = (4 / (d + 2)) ** (1 / (d + 4)) * n ** (-1 / (d + 4))
    fitted = KernelScoreEstimator(h).fit(X)
    Z, latent = fitted.rows_, fitted.latent_map_
    white = Q - latent["0.marginal.location"]
    white = (white / latent["0.marginal.scale"] - latent["1.whitening.mean"]) @ latent[
        "1.whitening.matrix"
    ]
    slope = np.linalg.slogdet(latent["1.whitening.matrix"] / latent["0.marginal.scale"][:, None])[1]
    some = white[: min(n_timed, n)]
    methods = {
        "KernelScoreEstimator": (
            Q,
            lambda: KernelScoreEstimator(h).fit(X).score_samples(Q) - slope,
        ),
        "KernelDensity": (
            some,
            lambda: KernelDensity(bandwidth=h, rtol=TOLERANCE).fit(Z).score_samples(some),
        ),
        "gaussian_kde": (some, lambda: gaussian_kde(Z.T, h).logpdf(some.T)),
    }
    if find_spec("KDEpy") and d in FFT_POINTS:
        methods["FFTKDE"] = (white, lambda: fft_log_density(Z, h)(white))
    exact = exact_log_density(Z, h, white[:N_EXACT])
    parts, ours = [], 0.0
    for name, (asked, make) in methods.items():
        values, seconds = processor_timed(make)
        seconds *= n / len(asked)
        ours = ours or seconds
        worst = f", error {np.abs(np.expm1(values[:N_EXACT] - exact)).max():.0e}"
        # SciPy's kernels have the covariance of the samples, which is white up to a shrinkage.
        worst = "" if name == "gaussian_kde" else worst
        parts.append(f"{name} {seconds:.3g} s (x {seconds / ours:.3g}{worst})")
    report(f"  d = {d}, n = {n}: " + "; ".join(parts))


def times_part(report: Report, smoke: bool) -> None:
    report("Processor seconds to fit n samples and score n others with one bandwidth, on whitened")
    report(
        "samples; the same in units of KernelScoreEstimator's; and the largest relative error of"
    )
    report(f"a density, in {N_EXACT} samples. KernelDensity has rtol = {TOLERANCE:g}. Its time and")
    report(f"that of gaussian_kde are those of {N_TIMED} scored samples, times n / {N_TIMED}.")
    sizes = [(200, 1), (200, 2)] if smoke else SIZES
    for _, d in sizes:
        timing(lambda _: None, 100, d, 100)
    for n, d in sizes:
        timing(report, n, d, 200 if smoke else N_TIMED)
    if not smoke:
        scored_part(report)


SIZES = [(n, d) for d in (1, 2) for n in (1000, 10_000, 100_000)] + [(1000, 5), (10_000, 5)]


def scored_part(report: Report) -> None:
    """Few samples scored, the bandwidth's choice, and the Stein score."""
    random = np.random.default_rng(0)
    X, Q = random.normal(size=(100_000, 2)), random.normal(size=(2000, 2))
    _, ours = processor_timed(lambda: KernelScoreEstimator().fit(X).score_samples(Q))
    h = KernelScoreEstimator().fit(X).bandwidth_
    _, tree = processor_timed(
        lambda: KernelDensity(bandwidth=h, rtol=TOLERANCE).fit(X).score_samples(Q)
    )
    report(
        f"  d = 2, 100,000 samples fitted and 2000 scored: {ours:.2f} s, KernelDensity {tree:.2f} s"
    )
    for n, d in ((100_000, 1), (100_000, 2), (100_000, 5)):
        X = random.normal(size=(n, d))
        _, seconds = processor_timed(
            lambda X=X: KernelScoreEstimator("cv", random_state=0).fit(X).rows_
        )
        report(f"  bandwidth='cv' of {n} samples, d = {d}: {seconds:.1f} s")


# Bias.


class Line(NamedTuple):
    """The density 1 + slope (x - 1/2) on [0, 1]."""

    slope: float

    def density(self, x):
        return 1 + self.slope * (x - 0.5)

    def quantile(self, u):
        b = 1 - self.slope / 2
        return 2 * u / (b + np.sqrt(b**2 + 2 * self.slope * u))


def bias_part(report: Report, smoke: bool) -> None:
    n, widths = (2000, [0.2, 0.1]) if smoke else (400_000, [0.08, 0.04, 0.02, 0.01])
    report("")
    report(f"Relative bias at the bounds of [0, 1], on {n} quantiles of a linear density, for")
    report(f"bandwidths {widths}; slope of its logarithm against that of the bandwidth")
    for slope in (1.0, -1.8):
        law = Line(slope)
        X = law.quantile((np.arange(n) + 0.5) / n)[:, None]
        mirrored = np.concatenate([X, -X, 2 - X])
        methods = {
            "KernelScoreEstimator, support": lambda h, X=X: (
                KernelScoreEstimator(h, support=(0, 1)).fit(X).score_samples(ENDS)
            ),
            "reflection": lambda h, Z=mirrored: tree_values(Z, h, ENDS) + np.log(3),
            "KernelDensity": lambda h, X=X: tree_values(X, h, ENDS),
        }
        for name, log_density in methods.items():
            bias = [np.abs(np.exp(log_density(h)) / law.density(ENDS[:, 0]) - 1) for h in widths]
            for end, values in zip((0, 1), np.transpose(bias), strict=True):
                order = np.polyfit(np.log(widths), np.log(values), 1)[0]
                shown = ", ".join(f"{value:.1e}" for value in values)
                report(f"  {slope:+.1f}, at {end}: {name:<30} {shown}; slope {order:.2f}")


def tree_values(X: np.ndarray, h: float, points: np.ndarray) -> np.ndarray:
    return KernelDensity(bandwidth=h, rtol=1e-6).fit(X).score_samples(points)


# Held-out log-densities.


class Law(NamedTuple):
    """Draws and their log-density, and what is known of the features."""

    draw: Callable[[int, np.random.Generator], np.ndarray]
    log_density: LogDensity
    known: dict


def uniform_pair(n, random):
    return np.stack([random.uniform(size=n), random.exponential(size=n)], 1)


def of(frozen, **known) -> Law:
    """The law of a distribution of SciPy in one feature."""
    return Law(
        lambda n, random: frozen.rvs((n, 1), random_state=random),
        lambda X: frozen.logpdf(X[:, 0]),
        known,
    )


def angles() -> Law:
    """Half of the samples near 0, on both sides of it, half at 2."""
    parts = vonmises(8), vonmises(2, loc=2)

    def draw(n, random):
        second = random.uniform(size=(n, 1)) < 0.5
        both = [part.rvs((n, 1), random_state=random) for part in parts]
        return np.mod(np.where(second, both[1], both[0]), CIRCLE)

    def log_density(X):
        return np.log(sum(part.pdf(X[:, 0]) for part in parts) / 2)

    return Law(draw, log_density, {"period": CIRCLE})


def far_clusters() -> Law:
    """Three clusters, 10,000 of their standard deviations apart."""

    def draw(n, random):
        return 1e3 * random.integers(0, 3, (n, 1)) + 0.1 * random.normal(size=(n, 1))

    def log_density(X):
        places = X - 1e3 * np.arange(3)
        return logsumexp(norm.logpdf(places, scale=0.1), axis=1) - np.log(3)

    return Law(draw, log_density, {})


LAWS = {
    "uniform on [0, 1]": Law(
        lambda n, random: random.uniform(size=(n, 1)),
        lambda X: np.zeros(len(X)),
        {"support": (0, 1)},
    ),
    "exponential": of(expon(), support=(0, None)),
    "uniform x exponential": Law(
        uniform_pair, lambda X: -X[:, 1], {"support": [(0, 1), (0, None)]}
    ),
    "angles across 0": angles(),
    "Cauchy": of(cauchy()),
    "t(3)": of(t(3)),
    "lognormal": of(lognorm(1.0)),
    "far clusters": far_clusters(),
    "normal": of(norm()),
}


def searched(X: np.ndarray) -> LogDensity:
    """KernelDensity with a bandwidth by three-fold cross-validation, relative to the deviation."""
    scale = X.std(0)
    grid = {"bandwidth": np.geomspace(0.01, 1, 15)}
    search = GridSearchCV(KernelDensity(rtol=TOLERANCE), grid, cv=3).fit(X / scale)
    return lambda Q: search.best_estimator_.score_samples(Q / scale) - np.log(scale).sum()


def rivals(X: np.ndarray) -> dict[str, LogDensity]:
    """Others' log-densities."""
    found: dict[str, LogDensity] = {
        "KernelDensity, searched": searched(X),
        "gaussian_kde": lambda Q: gaussian_kde(X.T).logpdf(Q.T),
    }
    if find_spec("KDEpy") and X.shape[1] == 1:
        found["FFTKDE, ISJ"] = fft_log_density(X, "ISJ")
    return found


def ours(X: np.ndarray, known: dict) -> dict[str, LogDensity]:
    """This package's."""
    names = ("minimax", "cv")
    fits = {n: KernelScoreEstimator(n, random_state=0, **known).fit(X) for n in names}
    return {f"ours, {name}": fit.score_samples for name, fit in fits.items()}


def gaps(law: Law, n: int, seed: int) -> dict[str, float]:
    """Mean of the truth less a model, in nats, on fresh samples."""
    random = np.random.default_rng(seed)
    X, fresh = law.draw(n, random), law.draw(n, random)
    truth, found = law.log_density(fresh), {}
    for name, log_density in (ours(X, law.known) | rivals(X)).items():
        values = np.maximum(log_density(fresh), np.log(TINY))
        found[name] = float((truth - values).mean())
    return found


def held_out_part(report: Report, n: int, seeds: int) -> None:
    report("")
    report(
        f"Nats that a sample loses to the true log-density, on {n} fresh samples, fitted to {n}:"
    )
    report(
        f"mean over {seeds} seeds (standard deviation). Log-densities are cut at log 1e-300. Only"
    )
    report(
        "KernelScoreEstimator can be told bounds and periods. KDEpy has ISJ for one feature only."
    )
    for name, law in LAWS.items():
        runs = [gaps(law, n, seed) for seed in range(seeds)]
        report(f"  {name}" + (f", {law.known}" if law.known else ""))
        means = {}
        for method in runs[0]:
            values = np.array([run[method] for run in runs])
            means[method] = values.mean()
            report(f"    {method:<24} {values.mean():9.4f} ({values.std():.4f})")
        own = {method: value for method, value in means.items() if method.startswith("ours")}
        others = {method: value for method, value in means.items() if method not in own}
        best = min(others, key=lambda method: others[method])
        said = [
            f"{method} {'wins' if value < others[best] else 'loses'} by "
            f"{abs(value - others[best]):.4f}"
            for method, value in own.items()
        ]
        report(f"    against the best of the others, {best}: {'; '.join(said)}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="for trying out; means nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    report = Report("kernels", "Kernel density estimates side by side", options.results)
    if not find_spec("KDEpy"):
        report("KDEpy is not installed.")
    times_part(report, options.smoke)
    bias_part(report, options.smoke)
    held_out_part(report, 150 if options.smoke else 2000, 1 if options.smoke else options.seeds)
    report.save()


if __name__ == "__main__":
    main()
