"""Densities within epsilon of the truth: location mixtures and Hoelder classes.

python benchmarks/pac.py [--seeds N]

For location mixtures the share of fresh rows whose log-density is within epsilon of the truth,
against a kernel estimate with a cross-validated bandwidth on the same rows; for Hoelder
densities the slope of the L1 risk against the rate of the theory, and how far the likelihood
identity, from the scores alone, is from the kernel estimate that the scores belong to.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from _report import RESULTS, Report
from joblib import Parallel, delayed
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from sklearn_dsm import KernelScoreEstimator, LocationMixtureScoreEstimator
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.kernel import KernelScore
from sklearn_dsm._core.likelihood.identity import hermite_nodes, identity_log_density
from sklearn_dsm._core.noise.level import NoiseLevel

SCALE, N_FRESH = 0.3, 2000
HOELDER_SIZES = (500, 2000, 8000, 32000)
# The identity is restarted from estimates that are smoothed by so much.
RESTART_WIDTH, N_IDENTITY_POINTS = 0.02, 81


class Atoms:
    """Atoms in one or two columns, convolved with N(0, SCALE^2 I)."""

    def __init__(self, atoms: np.ndarray, weights: np.ndarray):
        self.atoms, self.weights = atoms, weights

    def draw(self, n: int, random: np.random.RandomState) -> np.ndarray:
        chosen = random.choice(len(self.atoms), n, p=self.weights)
        return self.atoms[chosen] + SCALE * random.standard_normal((n, self.atoms.shape[1]))

    def log_density(self, X: np.ndarray) -> np.ndarray:
        squared = ((X[:, None] - self.atoms) ** 2).sum(2)
        log_kernel = -squared / (2 * SCALE**2) - X.shape[1] * np.log(SCALE * np.sqrt(2 * np.pi))
        return logsumexp(np.log(self.weights) + log_kernel, axis=1)


ANGLES = 2 * np.pi * np.arange(60) / 60
LINE = Atoms(np.array([[-1.5], [0.0], [1.5]]), np.array([0.3, 0.4, 0.3]))
CIRCLE = Atoms(1.4 * np.c_[np.cos(ANGLES), np.sin(ANGLES)], np.full(60, 1 / 60))
# Law, rows, epsilon, delta and the shortest time.
CASES = (
    ("three atoms", LINE, 5000, 0.2, 0.1, 2e-3),
    ("three atoms", LINE, 20000, 0.15, 0.05, 2e-3),
    ("60 atoms on a circle", CIRCLE, 20000, 0.3, 0.1, 1e-3),
)


def location_errors(law: Atoms, n: int, shortest: float, seed: int) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    random = np.random.RandomState(seed)
    X, fresh = law.draw(n, random), law.draw(N_FRESH, random)
    ours = LocationMixtureScoreEstimator(SCALE, shortest_time=shortest, random_state=seed).fit(X)
    # A bandwidth takes no more than some thousand rows to choose, then shrinks at its rate.
    few = X[:4000]
    search = GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.04, 0.4, 16)}).fit(few)
    rate = (len(few) / n) ** (1 / (X.shape[1] + 4))
    kde = KernelDensity(bandwidth=rate * search.best_params_["bandwidth"], rtol=1e-6).fit(X)
    truth = law.log_density(fresh)
    return {
        "score matching": ours.score_samples(fresh) - truth,
        "KernelDensity": kde.score_samples(fresh) - truth,
    }


def location_part(report: Report, n_seeds: int) -> None:
    report(f"Location mixtures, sigma = {SCALE}, {N_FRESH} fresh rows, {n_seeds} seeds")
    for name, law, n, epsilon, delta, shortest in CASES:
        found = Parallel(n_jobs=2)(
            delayed(location_errors)(law, n, shortest, seed) for seed in range(n_seeds)
        )
        slack = np.sqrt(np.log(20) / (2 * N_FRESH))
        report(f"  {name}, n = {n}, epsilon = {epsilon}, delta = {delta}")
        for method in ("score matching", "KernelDensity"):
            errors = [np.abs(f[method]) for f in found]
            shares = np.array([(e <= epsilon).mean() for e in errors])
            means = np.array([e.mean() for e in errors])
            report(
                f"    {method:<15} mean |error| {means.mean():.4f} (sd {means.std(ddof=1):.4f}), "
                f"coverage {shares.min():.3f} to {shares.max():.3f}, "
                f"at least 1 - delta - {slack:.3f} in {int((shares >= 1 - delta - slack).sum())} "
                f"of {n_seeds}"
            )


class WeierstrassCosine:
    """f = (1 + .6 W / max |W|) / 2 on [-1, 1], W a sum of cosines of falling amplitude."""

    def __init__(self, smoothness: float, n_terms: int = 14):
        self.grid = np.linspace(-1, 1, 40001)
        octaves = 2.0 ** np.arange(n_terms)
        waves = [o**-smoothness * np.cos(np.pi * o * (self.grid + 1)) for o in octaves]
        wave = np.sum(waves, 0)
        self.density = 0.5 * (1 + 0.6 * wave / np.abs(wave).max())
        self.density /= np.trapezoid(self.density, self.grid)
        cumulated = np.cumsum(self.density)
        self.distribution = cumulated / cumulated[-1]

    def draw(self, n: int, random: np.random.RandomState) -> np.ndarray:
        return np.interp(random.rand(n), self.distribution, self.grid)[:, None]


def hoelder_risk(smoothness: float, two_regime: bool, n: int, seed: int) -> float:
    torch.set_num_threads(1)
    law = WeierstrassCosine(smoothness)
    X = law.draw(n, np.random.RandomState(seed))
    fit = KernelScoreEstimator(smoothness=smoothness, support=(-1, 1), two_regime=two_regime).fit(X)
    points = law.grid[::100]
    estimate = np.exp(fit.score_samples(points[:, None]))
    return float(np.trapezoid(np.abs(estimate - law.density[::100]), points))


def hoelder_part(report: Report, n_seeds: int) -> dict[float, np.ndarray]:
    report("")
    report(f"Hoelder densities on [-1, 1], L1 risk, {n_seeds} seeds")
    risks = {}
    for smoothness in (0.75, 1.5):
        theory = -smoothness / (2 * smoothness + 1)
        jobs = [(n, seed) for n in HOELDER_SIZES for seed in range(n_seeds)]
        found = Parallel(n_jobs=2)(
            delayed(hoelder_risk)(smoothness, False, n, seed) for n, seed in jobs
        )
        risk = np.reshape(found, (len(HOELDER_SIZES), n_seeds))
        slopes = [np.polyfit(np.log(HOELDER_SIZES), np.log(r), 1)[0] for r in risk.T]
        values = ", ".join(f"{r.mean():.4f}" for r in risk)
        report(
            f"  s = {smoothness}: {values} at n = {', '.join(map(str, HOELDER_SIZES))}; slope "
            f"{np.mean(slopes):+.3f} (sd {np.std(slopes, ddof=1):.3f}), theory {theory:+.3f}"
        )
        risks[smoothness] = risk
    return risks


def identity_error(smoothness: float, n: int) -> float:
    """The largest difference between the identity and the estimate its scores are of."""
    X = WeierstrassCosine(smoothness).draw(n, np.random.RandomState(0))
    fit = KernelScoreEstimator(smoothness=smoothness, support=(-1, 1)).fit(X)
    # The estimate without its bounds, so with the images' mass outside of them.
    centers, weights = torch.from_numpy(fit.centers_), torch.from_numpy(fit.center_weights_)
    weights = weights / weights.sum()
    # The fit is in standard units.
    width = float(np.hypot(fit.kernel_width_, RESTART_WIDTH / X.std()))
    kernel = KernelScore(centers, width, weights)
    mean = weights @ centers
    variance = weights @ (centers - mean) ** 2 + width**2
    reference = GaussianScore(mean, variance.reshape(1, 1))
    nodes = hermite_nodes(60, 48, -8.0, -2 * np.log(width) + 6.0)
    points = (np.linspace(-1, 1, N_IDENTITY_POINTS) - X.mean()) / X.std()
    x = torch.from_numpy(points)[:, None]
    clean = NoiseLevel(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))
    found = torch.cat([identity_log_density(kernel, reference, p, nodes) for p in x.split(9)])
    return float((found - kernel.log_density(x, clean)).abs().max())


def identity_part(report: Report) -> None:
    report("")
    report(
        f"Likelihood identity against the kernel estimate, smoothed by {RESTART_WIDTH}, n = 2000, "
        f"at {N_IDENTITY_POINTS} points of [-1, 1]: largest difference in nats"
    )
    for smoothness in (0.75, 1.5):
        report(f"  s = {smoothness}: {identity_error(smoothness, 2000):.1e}")


def draw(risks: dict[float, np.ndarray]) -> None:
    figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
    for (smoothness, risk), colour in zip(risks.items(), ("tab:blue", "tab:red"), strict=True):
        mean, spread = risk.mean(1), risk.std(1, ddof=1)
        panel.errorbar(
            HOELDER_SIZES, mean, spread, fmt="o", color=colour, label=f"s = {smoothness}"
        )
        rate = np.array(HOELDER_SIZES) ** (-smoothness / (2 * smoothness + 1))
        panel.plot(HOELDER_SIZES, rate * mean[0] / rate[0], color=colour, linewidth=1)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("rows")
    panel.set_ylabel("L1 risk (lines: rate of the theory)")
    panel.legend()
    figure.savefig(RESULTS / "pac.png", dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    report = Report("pac", "Densities within epsilon of the truth, and risks at the minimax rate")
    location_part(report, options.seeds)
    risks = hoelder_part(report, options.seeds)
    identity_part(report)
    report.save()
    draw(risks)


if __name__ == "__main__":
    main()
