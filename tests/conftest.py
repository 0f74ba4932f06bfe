"""Builders shared by the tests. Every random number comes from an explicit generator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.mixture import GaussianMixtureScore
from sklearn_dsm._core.noise.level import NoiseLevel

CLEAN = NoiseLevel(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))


class Problem(NamedTuple):
    """A Gaussian mixture as an exact score model, and the Gaussian of the same moments."""

    model: GaussianMixtureScore
    gaussian: GaussianScore
    weights: Tensor
    means: Tensor
    covariances: Tensor

    def draw(self, n: int, seed: int) -> Tensor:
        return self.model.sample(n, CLEAN, _generator(seed))

    def log_density(self, x: Tensor) -> Tensor:
        return self.model.log_density(x, CLEAN)

    def whitened(self) -> Problem:
        """The mixture in coordinates of zero mean and unit covariance, as estimators use it."""
        law = self.gaussian
        whitening = law.axes / law.eigenvalues.sqrt()
        covariances = whitening.T @ self.covariances @ whitening
        return _problem(self.weights, (self.means - law.mean) @ whitening, covariances)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _problem(weights: Tensor, means: Tensor, covariances: Tensor) -> Problem:
    mean = weights @ means
    outer = torch.einsum("k,ki,kj->ij", weights, means, means)
    covariance = torch.einsum("k,kij->ij", weights, covariances) + outer - mean.outer(mean)
    return Problem(
        GaussianMixtureScore(weights, means, covariances),
        GaussianScore(mean, covariance),
        weights,
        means,
        covariances,
    )


def _mixture(n_features: int, n_components: int = 3, seed: int = 0) -> Problem:
    """A random mixture: separated components, full covariances, neither centred nor scaled."""
    generator = _generator(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = normal(n_components, n_features, n_features) * 0.5 / n_features**0.5
    return _problem(
        (0.5 * normal(n_components)).softmax(0),
        1.2 * normal(n_components, n_features) + 0.3,
        factors @ factors.mT + 0.1 * torch.eye(n_features, dtype=torch.float64),
    )


def _bimodal(separation: float) -> Problem:
    """The symmetric one-dimensional mixture with modes at +-m and unit variances, standardised."""
    variance = 1 + separation**2
    mode = separation / variance**0.5
    return _problem(
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        torch.tensor([[-mode], [mode]], dtype=torch.float64),
        torch.full((2, 1, 1), 1 / variance, dtype=torch.float64),
    )


@torch.no_grad()
def _randomized(network: nn.Module, seed: int) -> nn.Module:
    """The network in float64 with noise added to every parameter."""
    generator = _generator(seed)
    network = network.double()
    for parameter in network.parameters():
        shape = parameter.shape
        parameter += 0.3 * torch.randn(shape, generator=generator, dtype=parameter.dtype)
    return network


def _energy_p_value(x: Tensor, y: Tensor, seed: int, n_permutations: int = 499) -> float:
    """Permutation p-value of the energy distance between two equally large samples."""
    n, generator = len(x), _generator(seed)
    signs = torch.cat([x.new_ones(n), -x.new_ones(n)])
    orders = [torch.randperm(2 * n, generator=generator) for _ in range(n_permutations)]
    signs = torch.stack([signs] + [signs[order] for order in orders])
    distances = torch.cdist(torch.cat([x, y]), torch.cat([x, y]))
    energies = -((signs @ distances) * signs).sum(1)
    return float((energies >= energies[0]).double().mean())


@pytest.fixture(scope="session")
def generator():
    """seed -> torch.Generator."""
    return _generator


@pytest.fixture(scope="session")
def mixture():
    """(n_features, n_components, seed) -> Problem."""
    return _mixture


@pytest.fixture(scope="session")
def bimodal():
    """separation -> one-dimensional Problem."""
    return _bimodal


@pytest.fixture(scope="session")
def problem():
    """(weights, means, covariances) -> Problem."""
    return _problem


@pytest.fixture(scope="session")
def randomized():
    """(network, seed) -> the network in float64 with every parameter moved."""
    return _randomized


@pytest.fixture(scope="session")
def energy_p_value():
    """(x, y, seed) -> p-value of the hypothesis that both samples have one law."""
    return _energy_p_value


@pytest.fixture(scope="session")
def clean():
    """The level of the data themselves."""
    return CLEAN


def _assert_pulled_back(rows_map, Z, tolerance):
    """Gradients of a smooth function of the mapped rows, against differences along random lines."""
    step = 1e-5

    def value(Z):
        Y, log_slope = rows_map.forward(Z)
        return -0.5 * (Y**2).sum(1) + np.sin(Y[:, 0]) + log_slope

    Y, _ = rows_map.forward(Z)
    gradient = -Y
    gradient[:, 0] += np.cos(Y[:, 0])
    direction = np.random.RandomState(2).standard_normal(Z.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    slope = (value(Z + step * direction) - value(Z - step * direction)) / (2 * step)
    pulled = (rows_map.pull_back(Z, gradient) * direction).sum(1)
    np.testing.assert_allclose(pulled, slope, rtol=tolerance, atol=tolerance)


@pytest.fixture
def assert_pulled_back():
    return _assert_pulled_back


# Cases of lists of checks, which no decorator can mark.
SLOW_CHECKS = (
    ("LocationMixtureScoreEstimator", "check_sample_weight_equivalence_on_dense_data"),
    ("LocationMixtureScoreEstimator(n_levels=12)", "check_samples_follow_density"),
    ("LocationMixtureScoreEstimator(n_levels=12)", "check_mass_two_columns"),
    ("LocationMixtureScoreEstimator(n_levels=12)", "check_refit_same_seed"),
    ("LocationMixtureScoreEstimator(n_levels=12)", "check_grid_search_without_scoring"),
    ("test_density_checks_but_for_the_mass", "check_units_of_columns-fast"),
)


def pytest_collection_modifyitems(items):
    for item in items:
        if any(all(part in item.name for part in parts) for parts in SLOW_CHECKS):
            item.add_marker(pytest.mark.slow)
