"""Log-densities from exact scores: how far the ODE and the identity are from the truth."""

from __future__ import annotations

import torch
from _models import DTYPE, random_mixture
from _report import Report

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.likelihood.identity import hermite_nodes, identity_log_density, sobol_nodes
from sklearn_dsm._core.likelihood.ode import ode_log_density
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels

CLEAN = NoiseLevel(torch.ones((), dtype=DTYPE), torch.zeros((), dtype=DTYPE))
LEVELS = LogisticLevels(-12.0, 13.8)
SEEDS = range(5)


def worst_errors(n_features, tolerance):
    """The largest error over 500 rows of each of five mixtures."""
    for seed in SEEDS:
        model, prior = random_mixture(n_features, seed=seed)
        x = model.sample(500, CLEAN, torch.Generator().manual_seed(seed))
        truth = model.log_density(x, CLEAN)
        value = ode_log_density(model, prior, x, LEVELS, tolerance).value
        yield float((value - truth).abs().max())


def identity_errors(nodes, n_features):
    for seed in SEEDS:
        model, prior = random_mixture(n_features, seed=seed)
        x = model.sample(500, CLEAN, torch.Generator().manual_seed(seed))
        value = identity_log_density(model, prior, x, nodes)
        yield float((value - model.log_density(x, CLEAN)).abs().max())


def gaussian_error(n_levels, n_noise, n_features=5):
    """refG on Gaussian data: exact for any nodes."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(n_features, n_features, generator=generator, dtype=DTYPE)
    model = GaussianScore(
        torch.ones(n_features, dtype=DTYPE), factor @ factor.T + torch.eye(n_features, dtype=DTYPE)
    )
    x = 3 * torch.randn(200, n_features, generator=generator, dtype=DTYPE)
    nodes = sobol_nodes(n_levels, n_noise, n_features, -8.0, 8.0)
    value = identity_log_density(model, model, x, nodes)
    return float((value - model.log_density(x, CLEAN)).abs().max())


def spread(errors):
    errors = sorted(errors)
    return f"median {errors[len(errors) // 2]:.1e}, largest {errors[-1]:.1e}"


def main():
    report = Report("exactness", "Largest error of a log-density over 500 rows, five mixtures")
    for n_features in (1, 2, 10):
        for tolerance in (1e-2, 1e-3, 1e-4, 1e-6):
            line = spread(worst_errors(n_features, tolerance))
            default = "  (default)" if tolerance == 1e-3 else ""
            report(f"ODE, {n_features:2d} columns, tolerance {tolerance:.0e}: {line}{default}")
    for n_levels, n_noise in ((24, 32), (40, 64)):
        line = spread(identity_errors(hermite_nodes(n_levels, n_noise, -6.0, 11.0), 1))
        report(f"identity, 1 column, {n_levels} levels x {n_noise} Gauss-Hermite nodes: {line}")
    for n_noise in (32, 256):
        line = spread(identity_errors(sobol_nodes(24, n_noise, 2, -8.0, 11.0), 2))
        report(f"identity, 2 columns, 24 levels x {n_noise} Sobol nodes: {line}")
    for n_levels, n_noise in ((1, 2), (3, 4)):
        error = gaussian_error(n_levels, n_noise)
        report(f"identity on Gaussian data, {n_levels} x {n_noise} nodes: largest {error:.1e}")
    report.save()


if __name__ == "__main__":
    main()
