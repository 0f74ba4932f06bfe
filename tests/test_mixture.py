"""Laws of mixtures fitted by score matching."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, ShuffleSplit

from sklearn_dsm import ISM, LCSS, GMMScoreEstimator
from sklearn_dsm._core.distributions.mixture_network import MixtureNetwork
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._mixtures.em import WeightedEM, start_posterior
from sklearn_dsm.mixture._canonical import CanonicalForm
from sklearn_dsm.mixture._likelihood import information
from sklearn_dsm.mixture._row_losses import LEVELS, DenoisingRowLosses, RowLosses

KINDS = ["full", "tied", "diag", "spherical"]
LOSSES = ["dsm", "ism", "ssm", "lcss"]


def clusters(n=600, seed=0):
    random = np.random.RandomState(seed)
    label = random.rand(n) < 0.6
    left = random.standard_normal((n, 2)) @ [[1.0, 0.5], [0.0, 0.4]] + [-2.0, 0.0]
    return np.where(label[:, None], left, 0.5 * random.standard_normal((n, 2)) + [2.0, 1.0])


def line(n, separation, seed, weight=0.5):
    random = np.random.RandomState(seed)
    sign = np.where(random.rand(n) < weight, 1.0, -1.0)
    return (random.standard_normal(n) + separation * sign)[:, None]


def random_network(d, seed, kind="full", k=3):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = 0.4 * normal(1 if kind == "tied" else k, d, d)
    covariances = factors @ factors.mT + 0.1 * torch.eye(d, dtype=torch.float64)
    network = MixtureNetwork(normal(k).softmax(0), normal(k, d), covariances, kind, 1e-6)
    with torch.no_grad():
        network.angles += 0.3 * normal(*network.angles.shape)
    return network


# The mixture as a network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("log_snr", [-3.0, 1.0, 6.0])
def test_the_network_is_the_exact_score(kind, log_snr):
    network = random_network(3, 0, kind)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    level = NoiseLevel.from_log_snr(torch.tensor(log_snr, dtype=torch.float64))
    noise, trace = network.forward_and_divergence(x, level.log_snr)
    score, divergence = network.exact().score_and_divergence(x, level)
    torch.testing.assert_close(noise, -level.v.sqrt() * score)
    torch.testing.assert_close(trace, -level.v.sqrt() * divergence)
    torch.testing.assert_close(network(x, level.log_snr), noise)


@pytest.mark.parametrize("kind", KINDS)
def test_covariances_keep_their_kind_wherever_the_optimiser_goes(kind):
    network = random_network(3, 2, kind)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1
    covariances = network.covariances()
    assert len(covariances) == (1 if kind == "tied" else 3)
    assert (torch.linalg.eigvalsh(covariances) > 0).all()
    if kind in ("diag", "spherical"):
        torch.testing.assert_close(covariances, torch.diag_embed(covariances.diagonal(0, 1, 2)))
    if kind == "spherical":
        diagonal = covariances.diagonal(0, 1, 2)
        torch.testing.assert_close(diagonal, diagonal[:, :1].expand(-1, 3))


# Losses


@pytest.mark.parametrize("seed", range(20))
def test_the_denoising_loss_is_the_negative_log_likelihood(seed):
    """T2.1: log g - loss = log p for any mixture, in one column by quadrature."""
    network = random_network(1, seed)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    losses = DenoisingRowLosses(x, LEVELS.low, 12.0, 48, 32, torch.Generator())
    with torch.no_grad():
        loss = losses.part(network, slice(None))
    base = torch.from_numpy(norm.logpdf(x[:, 0].numpy()))
    clean = NoiseLevel(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))
    exact = network.exact().log_density(x, clean)
    assert float((base - loss - exact).mean().abs()) < 2e-3


def test_curvature_smoothing_tends_to_the_implicit_loss():
    """T4.3: the mean over directions differs by O(sigma^2)."""
    network = random_network(2, 3)
    x = torch.randn(1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    many = x.expand(200_000, 2)
    implicit = RowLosses(ISM(), x, torch.Generator())
    exact = float(implicit.part(network, slice(None)).detach())
    gaps = []
    for sigma in (0.08, 0.04):
        losses = RowLosses(LCSS(sigma=sigma), many, torch.Generator().manual_seed(1))
        gaps.append(float(losses.part(network, slice(None)).mean().detach()) - exact)
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.35)


# Against maximum likelihood


def test_one_column_agrees_with_maximum_likelihood():
    """T2.3: far closer than either is to the truth."""
    X = line(2000, 1.5, 0)
    ours = GMMScoreEstimator(2, random_state=0).fit(X)
    theirs = GaussianMixture(2, tol=1e-12, max_iter=5000, random_state=0).fit(X)
    order, other = ours.means_.ravel().argsort(), theirs.means_.ravel().argsort()
    errors = ours.standard_errors_
    for name, mine, reference in (
        ("weights", ours.weights_, theirs.weights_),
        ("means", ours.means_, theirs.means_),
        ("covariances", ours.covariances_, theirs.covariances_),
    ):
        gap = np.abs(mine[order] - reference[other]) / errors[name][order]
        assert gap.max() < 0.15, name


@pytest.mark.parametrize("kind", KINDS)
def test_two_columns_are_as_likely_as_by_maximum_likelihood(kind):
    X, fresh = clusters(), clusters(2000, 1)
    ours = GMMScoreEstimator(2, covariance_type=kind, random_state=0).fit(X)
    theirs = GaussianMixture(2, covariance_type=kind, random_state=0).fit(X)
    assert ours.score(fresh) > theirs.score(fresh) - 0.02


@pytest.mark.slow
def test_implicit_score_matching_is_far_less_efficient():
    """The paper's headline: the weight of two far modes cannot be read from the data's score."""
    weights = {"dsm": [], "ism": []}
    for seed in range(12):
        X = line(400, 3.0, seed)
        for loss, found in weights.items():
            fit = GMMScoreEstimator(2, loss=loss, standard_errors=False, random_state=0).fit(X)
            found.append(fit.weights_[fit.means_.ravel().argmax()] - 0.5)
    squares = {loss: np.mean(np.square(found)) for loss, found in weights.items()}
    assert squares["ism"] > 10 * squares["dsm"]
    # n times the variance is a quarter at least, by counting.
    assert 400 * squares["dsm"] < 1.0


def test_sampled_noise_finds_nearly_the_same_mixture():
    X, fresh = clusters(3000), clusters(3000, 1)
    expected, sampled = (
        GMMScoreEstimator(2, n_noise=n_noise, standard_errors=False, random_state=0).fit(X)
        for n_noise in (None, 2)
    )
    assert sampled.score(fresh) > expected.score(fresh) - 0.01
    order, other = (fit.means_[:, 0].argsort() for fit in (expected, sampled))
    np.testing.assert_allclose(sampled.means_[other], expected.means_[order], atol=0.1)
    np.testing.assert_allclose(sampled.weights_[other], expected.weights_[order], atol=0.02)


# Weights and standard errors


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("loss", LOSSES)
def test_integer_weights_are_repeated_rows(loss):
    X = clusters(150)
    count = np.random.RandomState(0).randint(0, 4, len(X))
    options = {"loss": loss, "standard_errors": False, "random_state": 0, "max_iter": 30}
    with np.errstate(all="raise"):
        weighted = GMMScoreEstimator(2, **options).fit(X, sample_weight=count)
        repeated = GMMScoreEstimator(2, **options).fit(np.repeat(X, count, axis=0))
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-6)


def test_standard_errors_of_one_gaussian():
    """The mean has sigma / sqrt(n), a variance sqrt((m4 - sigma^4) / n)."""
    X = 3 * np.random.RandomState(0).standard_normal((1500, 1)) + 5
    fit = GMMScoreEstimator(1, random_state=0).fit(X)
    x = X[:, 0] - X.mean()
    of_variance = np.sqrt((np.mean(x**4) - np.mean(x**2) ** 2) / len(x))
    assert fit.standard_errors_["means"][0, 0] == pytest.approx(x.std() / np.sqrt(1500), rel=0.02)
    assert fit.standard_errors_["covariances"].ravel()[0] == pytest.approx(of_variance, rel=0.05)
    assert fit.standard_errors_["weights"][0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_noise", [None, 1])
def test_standard_errors_where_all_axes_are_alike(kind, n_noise):
    """Of variances sqrt(2 / n), of covariances sqrt(1 / n): axes are anyone's, entries are not."""
    n, errors = 1500, []
    for seed in range(3):
        X = np.random.RandomState(seed).standard_normal((n, 2))
        fit = GMMScoreEstimator(1, covariance_type=kind, n_noise=n_noise, random_state=seed).fit(X)
        errors.append(fit.standard_errors_["covariances"].ravel())
        np.testing.assert_allclose(fit.standard_errors_["means"], 1 / np.sqrt(n), rtol=0.1)
    one = np.array([np.sqrt(2), 1, 1, np.sqrt(2)])
    expected = {"diag": one[[0, 3]], "spherical": np.ones(1)}.get(kind, one) / np.sqrt(n)
    np.testing.assert_allclose(np.mean(errors, axis=0), expected, rtol=0.15)


@pytest.mark.slow
def test_standard_errors_halve_with_four_times_the_rows():
    few, many = (GMMScoreEstimator(2, random_state=0).fit(line(n, 2.0, 0)) for n in (500, 2000))
    ratio = few.standard_errors_["weights"][0] / many.standard_errors_["weights"][0]
    assert ratio == pytest.approx(2, rel=0.15)


def test_weights_add_up_to_one_in_their_covariance():
    fit = GMMScoreEstimator(2, random_state=0).fit(clusters(300))
    block = fit.parameter_covariance_[:2, :2]
    np.testing.assert_allclose(block.sum(1), 0, atol=1e-9)
    assert len(fit.parameter_covariance_) == 2 + 4 + 8


def test_standard_errors_can_be_left_out():
    fit = GMMScoreEstimator(2, standard_errors=False, random_state=0).fit(clusters(100))
    assert fit.parameter_covariance_ is None and fit.standard_errors_ is None


# As a drop-in


@pytest.mark.parametrize("kind", KINDS)
def test_what_scikit_learn_computes_from_the_same_parameters(kind):
    X = clusters(200)
    ours = GMMScoreEstimator(2, covariance_type=kind, standard_errors=False, random_state=0).fit(X)
    theirs = GaussianMixture(2, covariance_type=kind)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        setattr(theirs, name, getattr(ours, name))
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-6)
    assert ours.aic(X) == pytest.approx(theirs.aic(X), rel=1e-6)


def test_draws_have_the_components_shares():
    fit = GMMScoreEstimator(2, standard_errors=False, random_state=0).fit(clusters())
    drawn, labels = fit.sample(4000, random_state=0, return_labels=True)
    np.testing.assert_array_equal(drawn, fit.sample(4000, random_state=0))
    np.testing.assert_allclose(np.bincount(labels) / 4000, fit.weights_, atol=0.03)
    share = np.bincount(fit.predict(fit.sample(4000, random_state=0))) / 4000
    np.testing.assert_allclose(share, fit.weights_, atol=0.03)


def test_grid_search_without_scoring_finds_the_components():
    grid = {"n_components": [1, 2, 3], "covariance_type": ["full", "spherical"]}
    base = GMMScoreEstimator(standard_errors=False, random_state=0)
    search = GridSearchCV(base, grid, cv=ShuffleSplit(3, random_state=0)).fit(clusters(400))
    assert search.best_params_["n_components"] >= 2
    assert search.best_params_["covariance_type"] == "full"


def test_single_and_double_precision_input_agree():
    X = clusters(200).astype(np.float32)
    fit = GMMScoreEstimator(2, standard_errors=False, random_state=0)
    single = fit.fit(X).means_
    np.testing.assert_array_equal(single, fit.fit(X.astype(np.float64)).means_)


# The likelihood near its maximum


@pytest.mark.parametrize("kind", KINDS)
def test_slope_and_information_are_derivatives_of_the_likelihood(kind):
    X = clusters(40)
    weight = np.random.RandomState(1).uniform(1, 3, len(X))
    em = WeightedEM(X, weight, kind, 1e-10)
    parameters = em.maximize(em.moments(start_posterior(X, weight, 3, np.random.RandomState(0))))
    form = CanonicalForm(kind, 3, 2)
    free = form.free(parameters)

    def mean_log_density(free):
        weights, means, covariances = form.parameters(free)
        factors = torch.linalg.cholesky(covariances)
        white = torch.linalg.solve_triangular(
            factors[:, None], (em.rows - means[:, None])[..., None], upper=False
        )
        log_joint = weights.log()[:, None] - 0.5 * white.square().sum((-2, -1))
        log_joint = log_joint - factors.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]
        return em.weight @ log_joint.logsumexp(0)

    expected = torch.autograd.functional.jacobian(mean_log_density, free)
    moments, _ = em.expect(parameters)
    torch.testing.assert_close(form.slope(parameters, moments), expected, atol=1e-10, rtol=1e-6)
    bread, _ = information(form, parameters, em.rows, em.weight)
    curvature = torch.autograd.functional.hessian(mean_log_density, free)
    torch.testing.assert_close(bread, -curvature, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_ends_where_the_likelihood_is_largest(kind):
    """A hundredth of a standard error from where EM ends up that never stops early."""
    X = line(1500, 1.2, 3) if kind == "full" else clusters(800, 2)
    options = {"covariance_type": kind, "random_state": 0}
    ours = GMMScoreEstimator(2, **options).fit(X)
    endless = GMMScoreEstimator(2, tol=0, max_iter=3000, means_init=ours.means_, **options).fit(X)
    for name, errors in ours.standard_errors_.items():
        gap = getattr(ours, f"{name}_") - getattr(endless, f"{name}_")
        assert np.abs(gap / errors.clip(min=1e-12)).max() < 0.03, name


# Starts


def test_components_keep_the_order_of_the_means_they_start_from():
    X, means = clusters(), np.array([[2.0, 1.0], [-2.0, 0.0]])
    for order in ([0, 1], [1, 0]):
        fit = GMMScoreEstimator(2, means_init=means[order], standard_errors=False).fit(X)
        np.testing.assert_allclose(fit.means_, means[order], atol=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_at_the_maximum_stays_there(kind):
    X, options = clusters(), {"covariance_type": kind, "standard_errors": False}
    fit = GMMScoreEstimator(2, random_state=0, **options).fit(X)
    again = GMMScoreEstimator(
        2,
        weights_init=fit.weights_,
        means_init=fit.means_,
        precisions_init=fit.precisions_,
        **options,
    ).fit(X)
    assert again.n_iter_ == 2
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(again, name), getattr(fit, name), atol=2e-4)


def test_a_warm_start_goes_on_from_the_last_fit():
    X = line(1000, 1.0, 0)
    fit = GMMScoreEstimator(2, warm_start=True, random_state=0, standard_errors=False).fit(X)
    first = fit.means_.copy()
    fit.fit(X)
    assert fit.n_iter_ == 2
    np.testing.assert_allclose(fit.means_, first, atol=1e-3)
    # A start of another kind or size is none.
    assert fit.set_params(covariance_type="tied").fit(X).covariances_.shape == (1, 1)
    assert fit.set_params(n_components=3).fit(X).means_.shape == (3, 1)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_start_finds_two_clusters(init_params):
    X, fresh = clusters(), clusters(1000, 1)
    best = GaussianMixture(2, random_state=0).fit(X)
    fit = GMMScoreEstimator(2, init_params=init_params, n_init=3, random_state=0).fit(X)
    assert fit.score(fresh) > best.score(fresh) - 0.02


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"means_init": [[0.0, 1.0]]}, r"means_init must hold finite numbers in shape \(2, 2\)"),
        ({"means_init": [[0, np.nan], [0, 1]]}, "must hold finite numbers"),
        ({"weights_init": [0.5, 0.6]}, "must be positive and sum to one"),
        ({"precisions_init": -np.stack([np.eye(2)] * 2)}, "must be positive definite"),
    ],
)
def test_impossible_starts_are_refused(start, message):
    with pytest.raises(ValueError, match=message):
        GMMScoreEstimator(2, **start).fit(clusters(50))


# Hard tables


@pytest.mark.parametrize("narrow", [1e-3, 1e-6, 1e-8])
def test_nearly_collinear_columns_are_as_good_as_others(narrow):
    """The log-density moves with a linear map by its log-determinant, however close to singular."""
    X = clusters(500)
    matrix = np.array([[1.0, 1.0], [0.0, narrow]])
    plain, mapped = GMMScoreEstimator(1).fit(X), GMMScoreEstimator(1).fit(X @ matrix)
    # What is left of the second column once it is written beside the first.
    rounding = 1e-15 / narrow
    np.testing.assert_allclose(
        mapped.score_samples(X @ matrix),
        plain.score_samples(X) - np.log(narrow),
        atol=1e-6 + 100 * rounding,
    )
    drawn = mapped.sample(4000, random_state=0)
    spread = narrow * X[:, 1].std()
    assert np.diff(drawn, axis=1).std() == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e5])
@pytest.mark.parametrize("kind", KINDS)
def test_clusters_many_widths_apart(distance, kind):
    random = np.random.RandomState(0)
    label = random.randint(0, 3, 900)
    X = distance * label[:, None] + random.standard_normal((900, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = GMMScoreEstimator(3, covariance_type=kind, random_state=0).fit(X)
    spread = np.sort([X[label == k].var() for k in range(3)])
    if kind == "tied":
        spread = np.average(spread, weights=np.bincount(label)).reshape(1)
    np.testing.assert_allclose(np.sort(fit.covariances_.ravel()), spread, rtol=0.02)
    drawn, labels = fit.sample(3000, random_state=0, return_labels=True)
    assert (drawn - fit.means_[labels]).std() == pytest.approx(1, rel=0.05)
    np.testing.assert_array_equal(fit.predict(drawn), labels)


def test_impossible_values_cost_the_others_nothing():
    """A hundredth of rows that stand for missing values, on clean rows; EM alike."""
    random = np.random.RandomState(0)
    X, fresh = random.standard_normal((2, 3000, 3))
    X[::100, 1] = -99999.0
    ours = GMMScoreEstimator(2, random_state=0).fit(X)
    theirs = GaussianMixture(2, random_state=0).fit(X)
    assert ours.score(fresh) == pytest.approx(theirs.score(fresh), abs=5e-3)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_rows_that_span_no_covariance_get_a_shrunk_one(kind):
    """In 60 correlated columns a shrunk covariance is nearer to the truth than a diagonal one."""
    random = np.random.RandomState(0)
    factor = np.eye(60) + 0.5 * random.standard_normal((60, 3)) @ random.standard_normal((3, 60))
    X, fresh = (random.standard_normal((n, 60)) @ factor for n in (40, 1000))
    shrunk = GMMScoreEstimator(1, covariance_type=kind).fit(X)
    diagonal = GMMScoreEstimator(1, covariance_type="diag").fit(X)
    assert shrunk.score(fresh) > diagonal.score(fresh)
    assert shrunk.standard_errors_ is None
    # The variances stay the sample's.
    np.testing.assert_allclose(shrunk.covariances_.reshape(60, 60).diagonal(), X.var(0), rtol=1e-6)
    with pytest.raises(ValueError, match="X has 40 distinct samples"):
        GMMScoreEstimator(1, covariance_type=kind, standard_errors=True).fit(X)


def test_a_time_limit_ends_the_fit():
    X = line(20_000, 0.8, 0)
    with pytest.warns(ConvergenceWarning, match="Raise max_fit_time or tol"):
        fit = GMMScoreEstimator(8, tol=0, max_iter=10**6, max_fit_time=0.2, random_state=0).fit(X)
    assert not fit.converged_ and np.isfinite(fit.score(X))


# Trouble


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_collinear_columns_and_equal_rows_stay_finite(loss):
    X = clusters(80)
    X = np.column_stack([X, X[:, 0]])
    X[:30] = X[0]
    fit = GMMScoreEstimator(3, loss=loss, max_iter=50, random_state=0).fit(X)
    for name in ("weights_", "means_", "covariances_"):
        assert np.isfinite(getattr(fit, name)).all(), name
    assert np.isfinite(fit.score_samples(X)).all()


def test_more_components_than_rows():
    with pytest.raises(ValueError, match=r"needs as many distinct samples .*; X has 2"):
        GMMScoreEstimator(3).fit([[0.0], [0.0], [1.0]])


def test_only_denoising_samples_noise():
    with pytest.raises(ValueError, match="n_noise=2 is for loss='dsm'"):
        GMMScoreEstimator(2, loss="ism", n_noise=2).fit(clusters(50))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_row_far_from_all_others():
    X = np.vstack([clusters(100), [[1e4, 1e4]]])
    fit = GMMScoreEstimator(2, max_iter=50, random_state=0).fit(X)
    assert np.isfinite(fit.score_samples(X)).all()
    far = fit.predict_proba([[1e8, -1e8]])
    assert far.sum() == pytest.approx(1) and fit.score_samples([[1e8, 0]])[0] < -1e3
