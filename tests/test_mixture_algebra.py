"""Laws of the algebra of a Gaussian mixture, whatever its parameters are made of."""

import pytest
import torch

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.mixture import GaussianMixtureScore
from sklearn_dsm._core.distributions.mixture_algebra import responsibilities
from sklearn_dsm._core.distributions.mixture_network import MixtureNetwork
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._mixtures.parameters import Parameters
from sklearn_dsm.mixture._inference import EntriesMixture
from sklearn_dsm.mixture._units import of_kind

KINDS = ("full", "tied", "diag", "spherical")
D, K, N = 3, 4, 7


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


LEVELS = {"clean": (1.0, 0.0), "between": (0.7, 0.51), "noise": (0.1, 0.99)}
at_every_level = pytest.mark.parametrize(
    "level", [NoiseLevel(tensor(a), tensor(v)) for a, v in LEVELS.values()], ids=LEVELS
)


def network(kind):
    random = torch.Generator().manual_seed(0)
    draw = torch.randn(K, D, D, generator=random, dtype=torch.float64)
    covariances = draw @ draw.mT + 0.3 * torch.eye(D, dtype=torch.float64)
    covariances = covariances[:1] if kind == "tied" else covariances
    means = torch.randn(K, D, generator=random, dtype=torch.float64)
    weights = tensor([0.1, 0.2, 0.3, 0.4])
    return MixtureNetwork(weights, means, covariances, kind, 1e-6)


def parameters(kind):
    """Those of the network."""
    with torch.no_grad():
        mixture = network(kind)
        covariances = of_kind(mixture.covariances(), kind)
        return Parameters(mixture.logits.softmax(0), mixture.means, covariances)


def mixtures():
    for kind in KINDS:
        yield f"{kind}-axes", network(kind)
        yield f"{kind}-entries", EntriesMixture(parameters(kind), kind)
        yield f"{kind}-exact", network(kind).exact()


MIXTURES = dict(mixtures())
every_mixture = pytest.mark.parametrize("name", MIXTURES)


def rows():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@every_mixture
@at_every_level
def test_the_score_and_its_derivatives_are_those_of_the_log_density(name, level):
    x = rows().requires_grad_()
    terms = MIXTURES[name].terms(x, level)
    slope = torch.autograd.grad(terms.log_density().sum(), x, create_graph=True)[0]
    score, diagonal = terms.score_and_jacobian_diagonal()
    close(score, slope)
    close(terms.score(), slope)
    bends = [
        torch.autograd.grad(slope[:, j].sum(), x, retain_graph=True)[0][:, j] for j in range(D)
    ]
    close(diagonal, torch.stack(bends, 1))
    close(terms.score_and_divergence()[1], diagonal.sum(-1))


@every_mixture
@at_every_level
def test_all_kinds_of_parameters_say_the_same(name, level):
    kind = name.split("-")[0]
    found, expected = (MIXTURES[each].terms(rows(), level) for each in (name, f"{kind}-exact"))
    close(found.log_joint, expected.log_joint)
    close(found.score(), expected.score())


def test_responsibilities_are_probabilities_however_far_apart_the_components_are():
    log_joint = tensor([[0.0, -1.0, -1e5], [-1e8, -1e8, -1e8 - 1], [3e5, 0.0, 0.0]])
    posterior = responsibilities(log_joint)
    close(posterior.sum(-1), torch.ones(3, dtype=torch.float64))
    close(posterior, log_joint.softmax(-1))


@at_every_level
def test_one_component_is_a_gaussian(level):
    covariance = network("full").covariances()[0].detach()
    mean = tensor([0.5, -1.0, 2.0])
    one = GaussianMixtureScore(tensor([1.0]), mean[None], covariance[None])
    gaussian = GaussianScore(mean, covariance)
    for method in ("score", "divergence", "log_density"):
        close(getattr(one, method)(rows(), level), getattr(gaussian, method)(rows(), level))


@at_every_level
def test_the_order_of_the_components_and_the_axes_do_not_matter(level):
    weights, means = tensor([0.1, 0.2, 0.3, 0.4]), network("full").means.detach()
    covariances, order = network("full").covariances().detach(), torch.tensor([2, 0, 3, 1])
    plain = GaussianMixtureScore(weights, means, covariances)
    permuted = GaussianMixtureScore(weights[order], means[order], covariances[order])
    close(permuted.score(rows(), level), plain.score(rows(), level))
    turn = torch.linalg.qr(rows()[:D]).Q
    turned = GaussianMixtureScore(weights, means @ turn, turn.T @ covariances @ turn)
    close(turned.score(rows() @ turn, level), plain.score(rows(), level) @ turn)
    close(turned.log_density(rows() @ turn, level), plain.log_density(rows(), level))
