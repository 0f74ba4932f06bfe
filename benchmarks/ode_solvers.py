"""Which integrator for the log-density: this package's fixed grids, torchdiffeq or scipy.

All solve the same probability flow of the same score models, in the log-SNR. "Subset"
is how much a row's log-density moves when the row is scored alone instead of with 1,999
others: an adaptive step chosen for a whole batch makes it depend on its neighbours.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from _models import DTYPE, random_mixture
from _report import Report
from scipy.integrate import solve_ivp
from sklearn.datasets import make_moons
from torchdiffeq import odeint

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._core.likelihood.ode import ode_log_density
from sklearn_dsm._core.likelihood.solvers import CleanLeg
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._transforms.chain import Chain

LEVELS = LogisticLevels(-12.0, 13.8)
N_ROWS, N_REPEATS = 2000, 3


def exact_case(n_features):
    model, prior = random_mixture(n_features)
    clean = NoiseLevel(torch.ones((), dtype=DTYPE), torch.zeros((), dtype=DTYPE))
    return model, prior, model.sample(N_ROWS, clean, torch.Generator().manual_seed(1))


def learned_case():
    X = make_moons(N_ROWS, noise=0.1, random_state=0)[0]
    # A low tolerance keeps the network in float64.
    fit = DSMDensityEstimator(max_epochs=30, tolerance=1e-6, random_state=0).fit(X)
    density = fit._latent_density()
    Z = Chain.from_arrays(fit.latent_map_).forward(X)[0]
    return density.model, density.reference, torch.from_numpy(Z)


def excess(model, d):
    """Minus the rate of (x, log p) in Ornstein-Uhlenbeck time, log p being the last column."""

    def slope(state, log_snr):
        level = NoiseLevel.from_log_snr(log_snr)
        score, divergence = model.score_and_divergence(state[:, :d], level)
        return torch.cat([state[:, :d] + score, -(d + divergence)[:, None]], 1)

    return slope


def flow(model, d):
    """The same in the log-SNR, with the arguments in the order both libraries want."""
    slope = excess(model, d)
    return lambda log_snr, state: torch.sigmoid(-log_snr) / 2 * slope(state, log_snr)


def started(model, x):
    state = torch.cat([x, x.new_zeros(len(x), 1)], 1)
    return CleanLeg.to(LEVELS.high).cross(excess(model, x.shape[1]), state, -1)[0]


def finished(prior, state):
    low = NoiseLevel.from_log_snr(torch.tensor(LEVELS.low, dtype=DTYPE))
    return prior.log_density(state[:, :-1], low) - state[:, -1]


def ours(model, prior, x, tolerance):
    return ode_log_density(model, prior, x, LEVELS, tolerance).value


def by_torchdiffeq(model, prior, x, tolerance):
    ends = torch.tensor([LEVELS.high, LEVELS.low], dtype=DTYPE)
    field = flow(model, x.shape[1])
    return finished(
        prior, odeint(field, started(model, x), ends, rtol=tolerance, atol=tolerance)[-1]
    )


def by_scipy(model, prior, x, tolerance):
    shape, field = (len(x), x.shape[1] + 1), flow(model, x.shape[1])

    def flat(log_snr, state):
        rows = torch.from_numpy(state.reshape(shape))
        return field(torch.tensor(log_snr, dtype=DTYPE), rows).numpy().ravel()

    start, span = started(model, x).numpy().ravel(), (LEVELS.high, LEVELS.low)
    end = solve_ivp(flat, span, start, method="DOP853", rtol=tolerance, atol=tolerance).y[:, -1]
    return finished(prior, torch.from_numpy(np.ascontiguousarray(end.reshape(shape))))


SOLVERS = {
    "fixed grids, row by row": (ours, (1e-3, 1e-4, 1e-6)),
    "torchdiffeq dopri5": (by_torchdiffeq, (1e-3, 1e-5, 1e-7)),
    "scipy DOP853": (by_scipy, (1e-3, 1e-5, 1e-7)),
}


def timed(solver, *arguments):
    seconds = []
    for _ in range(N_REPEATS):
        start = time.perf_counter()
        value = solver(*arguments)
        seconds.append(time.perf_counter() - start)
    return value, sorted(seconds)


@torch.no_grad()
def main():
    report = Report("ode_solvers", f"ODE log-densities of {N_ROWS} rows, three timings each")
    cases = {
        "exact mixture, 2 columns": exact_case(2),
        "exact mixture, 10 columns": exact_case(10),
        "learned, two moons": learned_case(),
    }
    for name, (model, prior, x) in cases.items():
        truth = by_torchdiffeq(model, prior, x, 1e-11)
        report(name)
        for label, (solver, tolerances) in SOLVERS.items():
            for tolerance in tolerances:
                value, seconds = timed(solver, model, prior, x, tolerance)
                error = (value - truth).abs()
                alone = torch.cat([solver(model, prior, x[i : i + 1], tolerance) for i in range(5)])
                subset = float((alone - value[:5]).abs().max())
                report(
                    f"  {label:<24} tolerance {tolerance:.0e}: error mean {error.mean():.1e} "
                    f"max {error.max():.1e}, subset {subset:.1e}, seconds "
                    f"{seconds[1]:.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"
                )
    report.save()


if __name__ == "__main__":
    main()
