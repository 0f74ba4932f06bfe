"""How efficient score matching is for mixtures: against the Cramer-Rao bound and against EM.

python benchmarks/efficiency.py [--data FOLDER] [--replicates N]

Four parts: the variance of the estimated weight of two modes, exactly (by quadrature) and by
replication; the coverage of the standard errors, also of rows that are counted and of fits from
given means; and full mixtures of real tables against scikit-learn's, for which the folder of the
tables' files is needed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from _report import RESULTS, Report
from _tables import default_folder, load
from joblib import Parallel, delayed
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import beta, norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from sklearn_dsm import ISM, GMMScoreEstimator
from sklearn_dsm._core.distributions.mixture_network import MixtureNetwork
from sklearn_dsm._evaluation.latent_density import chunks
from sklearn_dsm.mixture._row_losses import DenoisingRowLosses, RowLosses

SEPARATIONS = (1.0, 2.0, 3.0, 4.0)
N_ROWS = 2000
LOW, HIGH, N_LEVELS, N_PAIRS = -7.0, 6.0, 24, 10
TABLES = ("power", "magic_gamma", "wine_white+noise")
N_COMPONENTS, N_STARTS = 8, 3
# How standard errors are had, and to how many decimals rows are rounded that are to be equal.
WAYS, DECIMALS = ("default", "with sample_weight", "from means_init"), 2
# The weights and rows between which the denoising loss of a row is interpolated, once for all
# replicates: in one column it is a smooth function of both.
WEIGHT_GRID, N_TABLE_ROWS = np.linspace(0.35, 0.65, 31), 601


class TwoModes:
    """w N(m, 1) + (1 - w) N(-m, 1), of which only w = 1/2 is unknown."""

    def __init__(self, separation: float, n_nodes: int = 4001):
        self.m = separation
        self.x = np.linspace(-separation - 9, separation + 9, n_nodes)
        self.dx = self.x[1] - self.x[0]

    def parts(self, a: float = 1.0):
        """Density, score, weight score l and its two derivatives, noised to e^-t = a."""
        ahead, behind = norm.pdf(self.x - a * self.m), norm.pdf(self.x + a * self.m)
        p = (ahead + behind) / 2
        share = ahead / (2 * p)
        score = -self.x + a * self.m * (2 * share - 1)
        slope = share * (1 - share) * 2 * a * self.m
        curve = slope * (1 - 2 * share) * 2 * a * self.m
        # l = d log p / dw = 2 (2 share - 1) at w = 1/2.
        return p, score, 2 * (2 * share - 1), 4 * slope, 4 * curve

    def mean(self, values: np.ndarray) -> float:
        return float((values * self.parts()[0]).sum() * self.dx)

    def cramer_rao(self) -> float:
        return 1 / self.mean(self.parts()[2] ** 2)

    def implicit(self) -> float:
        """Asymptotic n times the variance of implicit score matching."""
        _, score, _, slope, curve = self.parts()
        return self.mean((curve + score * slope) ** 2) / self.mean(slope**2) ** 2

    def denoising(self, longest: float) -> float:
        """The same for denoising over all times up to the longest."""
        a = np.exp(-longest)
        sigma = np.sqrt(1 - a**2)
        first, last = self.parts()[2], self.parts(a)
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        noised = a * self.x[:, None] + sigma * nodes
        smoothed = np.interp(noised, self.x, last[2]) @ weights / np.sqrt(2 * np.pi)
        late = float((last[0] * last[2] ** 2).sum() * self.dx)
        early = self.mean(first**2)
        centred = first - smoothed
        return (self.mean(centred**2) - self.mean(centred) ** 2) / (early - late) ** 2

    def draw(self, n: int, seed: int) -> np.ndarray:
        random = np.random.RandomState(seed)
        return random.standard_normal(n) + self.m * np.where(random.rand(n) < 0.5, 1, -1)

    def denoising_table(self) -> RectBivariateSpline:
        """The denoising loss of a row under a weight."""
        x = np.linspace(-self.m - 7, self.m + 7, N_TABLE_ROWS)
        rows = torch.from_numpy(x)[:, None] / np.sqrt(1 + self.m**2)
        losses = DenoisingRowLosses(rows, LOW, HIGH, N_LEVELS, N_PAIRS, torch.Generator())
        table = [self.row_losses(w, losses).numpy() for w in WEIGHT_GRID]
        return RectBivariateSpline(WEIGHT_GRID, x, np.stack(table))

    def estimates(self, x: np.ndarray, table: RectBivariateSpline) -> dict[str, float]:
        """The weight by maximum likelihood, implicit and denoising score matching."""
        rows = torch.from_numpy(x)[:, None] / np.sqrt(1 + self.m**2)
        implicit = RowLosses(ISM(), rows, torch.Generator())
        joint = np.stack([norm.logpdf(x, self.m), norm.logpdf(x, -self.m)], 1)

        def likelihood(w):
            return -logsumexp(joint + np.log([w, 1 - w]), axis=1).mean()

        return {
            "MLE": minimise(likelihood),
            "ISM": minimise(lambda w: float(self.row_losses(w, implicit).mean())),
            "DSM": minimise(lambda w: table.ev(w, x).mean(), WEIGHT_GRID[[0, -1]]),
        }

    @torch.no_grad()
    def row_losses(self, w: float, losses) -> torch.Tensor:
        variance = 1 + self.m**2
        weights = torch.tensor([w, 1 - w], dtype=torch.float64)
        means = torch.tensor([[self.m], [-self.m]], dtype=torch.float64) / np.sqrt(variance)
        covariances = torch.full((2, 1, 1), 1 / variance, dtype=torch.float64)
        network = MixtureNetwork(weights, means, covariances, "full", 1e-9)
        parts = [losses.part(network, part) for part in chunks(len(losses.rows), 100)]
        return torch.cat(parts)


def minimise(function, bounds=(1e-3, 1 - 1e-3)) -> float:
    return minimize_scalar(function, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x


def replicate(law: TwoModes, table: RectBivariateSpline, seed: int) -> dict[str, float]:
    torch.set_num_threads(1)
    return law.estimates(law.draw(N_ROWS, seed), table)


def weights_part(report: Report, n_replicates: int) -> dict[str, list]:
    """The paper's headline: the variance over the bound, exactly and by replication."""
    report("Weight of two unit-variance modes at +-m: n times variance over the Cramer-Rao bound")
    report(
        f"{'m':>4}{'bound':>9}{'DSM T=1':>9}{'DSM T=3':>9}{'ISM':>10}"
        f"   by {n_replicates} replicates of {N_ROWS} rows (s.e.): MLE, DSM, ISM"
    )
    figures: dict[str, list] = {"DSM": [], "ISM": [], "DSM exact": [], "ISM exact": []}
    for m in SEPARATIONS:
        law = TwoModes(m)
        bound = law.cramer_rao()
        exact = [law.denoising(1.0) / bound, law.denoising(3.0) / bound, law.implicit() / bound]
        table, seeds = law.denoising_table(), range(n_replicates)
        found = Parallel(n_jobs=2)(delayed(replicate)(law, table, seed) for seed in seeds)
        line = f"{m:>4g}{bound:>9.4f}{exact[0]:>9.4f}{exact[1]:>9.4f}{exact[2]:>10.3f}   "
        for name in ("MLE", "DSM", "ISM"):
            squares = N_ROWS * np.square([f[name] - 0.5 for f in found]) / bound
            ratio, error = squares.mean(), squares.std(ddof=1) / np.sqrt(n_replicates)
            line += f"{ratio:9.3f} ({error:.3f})"
            if name != "MLE":
                figures[name].append((ratio, error))
        figures["DSM exact"].append(exact[1])
        figures["ISM exact"].append(exact[2])
        gaps = [abs(f["DSM"] - f["MLE"]) for f in found]
        far = np.mean(np.array(gaps) > 0.1 * np.sqrt(bound / N_ROWS))
        report(line + f"   |DSM - MLE| > .1 s.e. in {far:.0%}")
    return figures


def covered(fit: GMMScoreEstimator, truth: dict[str, np.ndarray]) -> np.ndarray:
    """Which entries of weights, means and covariances lie in their intervals of 95 %."""
    order = fit.means_[:, 0].argsort()
    hits = []
    for name, true in truth.items():
        value, error = getattr(fit, f"{name}_")[order], fit.standard_errors_[name][order]
        hits.append(np.abs(value - true) < norm.ppf(0.975) * error)
    return np.concatenate([part.ravel() for part in hits])


def fitted(X: np.ndarray, truth: dict[str, np.ndarray], how: str) -> GMMScoreEstimator:
    """A fit with default options, of equal rows with their counts, or from the true means."""
    if how == "from means_init":
        return GMMScoreEstimator(2, means_init=truth["means"], random_state=0).fit(X)
    if how == "with sample_weight":
        X, counts = np.unique(X.round(DECIMALS), axis=0, return_counts=True)
        return GMMScoreEstimator(2, random_state=0).fit(X, sample_weight=counts)
    return GMMScoreEstimator(2, random_state=0).fit(X)


def covers(seed: int, how: str) -> np.ndarray:
    torch.set_num_threads(1)
    random = np.random.RandomState(seed)
    first = random.rand(1500) < 0.4
    x = np.where(
        first, 1.5 + random.standard_normal(1500), -1.5 + 0.7 * random.standard_normal(1500)
    )
    truth = {
        "weights": np.array([0.6, 0.4]),
        "means": np.array([[-1.5], [1.5]]),
        "covariances": np.array([[[0.49]], [[1.0]]]),
    }
    return covered(fitted(x[:, None], truth, how), truth)


def covers_of_round_clusters(seed: int, how: str) -> np.ndarray:
    """In two columns, where a component's axes are not determined."""
    torch.set_num_threads(1)
    random = np.random.RandomState(seed)
    first = random.rand(1500) < 0.6
    x = random.standard_normal((1500, 2)) * np.where(first, 0.7, 1.0)[:, None]
    x[:, 0] += np.where(first, -2.0, 2.0)
    truth = {
        "weights": np.array([0.6, 0.4]),
        "means": np.array([[-2.0, 0.0], [2.0, 0.0]]),
        "covariances": np.stack([0.49 * np.eye(2), np.eye(2)]),
    }
    hits = covered(fitted(x, truth, how), truth)
    # Of two weights, and of the equal entries of a symmetric matrix, one.
    return np.delete(hits, [1, 8, 12])


COVERED = {
    ".6 N(-1.5, .49) + .4 N(1.5, 1)": (
        covers,
        ("weight 1", "weight 2", "mean 1", "mean 2", "variance 1", "variance 2"),
    ),
    ".6 N((-2, 0), .49 I) + .4 N((2, 0), I)": (
        covers_of_round_clusters,
        (
            "weight 1",
            *(f"mean {k}, {j}" for k in (1, 2) for j in (1, 2)),
            *(f"{name} {k}" for k in (1, 2) for name in ("var 1 of", "cov of", "var 2 of")),
        ),
    ),
}


def coverage_part(report: Report, n_replicates: int) -> None:
    for law, (hits, names) in COVERED.items():
        run = Parallel(n_jobs=2)
        shares = [
            np.mean(run(delayed(hits)(seed, how) for seed in range(n_replicates)), axis=0)
            for how in WAYS
        ]
        report("")
        report(
            f"Intervals of 95 % from standard_errors_, {n_replicates} replicates of 1500 rows of "
            f"{law}: {', '.join(WAYS)}"
        )
        for name, of_ways in zip(names, np.transpose(shares), strict=True):
            line = f"  {name:<11}"
            for share in of_ways:
                low, high = beta.ppf(
                    [0.025, 0.975], share * n_replicates + 0.5, (1 - share) * n_replicates + 0.5
                )
                line += f"  {share:.3f} ({low:.3f} to {high:.3f})"
            report(line)
        report(f"  mean of all  {np.mean(shares):.3f}")


def tables_part(report: Report, folder: Path) -> None:
    report("")
    report(
        f"Full mixtures of {N_COMPONENTS} components, standardised columns, best of {N_STARTS} "
        "starts: held-out log-density, seconds, seeds 0 to 2, and whose optimum is the better: "
        "log-density of the rows fitted"
    )
    for name in TABLES:
        if not (folder / f"{name.split('+')[0]}.npz").exists():
            report(f"  {name}: its file is not in the data folder")
            continue
        for seed in range(3):
            table = load(name, folder, seed)
            location, scale = table.train.mean(0), table.train.std(0)
            train, test = ((X - location) / scale for X in (table.train, table.test))
            line = f"  {name:<17} seed {seed}, {len(train):>5} x {train.shape[1]:>2}:"
            scores, seconds, own = {}, {}, {}
            for label, method in (
                ("EM", GaussianMixture(N_COMPONENTS, n_init=N_STARTS, random_state=seed)),
                (
                    "DSM",
                    GMMScoreEstimator(
                        N_COMPONENTS, n_init=N_STARTS, standard_errors=False, random_state=seed
                    ),
                ),
            ):
                started = time.perf_counter()
                fit = method.fit(train)
                seconds[label] = time.perf_counter() - started
                scores[label], own[label] = fit.score_samples(test), fit.score(train)
                line += f"  {label} {scores[label].mean():9.4f} ({seconds[label]:5.1f} s)"
            gap = scores["DSM"] - scores["EM"]
            error = gap.std(ddof=1) / np.sqrt(len(gap))
            report(
                line + f"  DSM - EM {gap.mean():+.4f} (s.e. {error:.4f}), "
                f"time ratio {seconds['DSM'] / seconds['EM']:.2f}, "
                f"of rows fitted {own['DSM'] - own['EM']:+.4f}"
            )


def draw(figures: dict[str, list]) -> None:
    figure, panel = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, colour in (("DSM", "tab:blue"), ("ISM", "tab:red")):
        ratio, error = np.array(figures[name]).T
        panel.errorbar(
            SEPARATIONS, ratio, 2 * error, fmt="o", color=colour, label=f"{name}, replicates"
        )
        panel.plot(SEPARATIONS, figures[f"{name} exact"], color=colour, label=f"{name}, exact")
    panel.axhline(1, color="black", linewidth=1)
    panel.set_yscale("log")
    panel.set_xlabel("half the distance of the modes, in their deviations")
    panel.set_ylabel("n x variance of the weight / Cramer-Rao bound")
    panel.legend()
    figure.savefig(RESULTS / "efficiency.png", dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_folder())
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--coverage-replicates", type=int, default=1000)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    report = Report("efficiency", "Score matching for Gaussian mixtures, against the best possible")
    figures = weights_part(report, options.replicates)
    coverage_part(report, options.coverage_replicates)
    tables_part(report, options.data)
    report.save()
    draw(figures)


if __name__ == "__main__":
    main()
