"""Laws of the pictures of paths and of their weights."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PathCollection
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from sklearn_dsm import (
    AnnealedSampler,
    DiffusionSampler,
    DSMDensityEstimator,
    GMMScoreEstimator,
    KernelScoreEstimator,
    SteinScoreEstimator,
    TiltedSampler,
)
from sklearn_dsm.inspection import TrajectoryDisplay, WeightsDisplay
from sklearn_dsm.metrics import effective_sample_size

X = np.random.default_rng(0).normal(size=(400, 2)) @ [[1.0, 0.5], [0.0, 2.0]] + [3.0, -1.0]
X[:200] += 4


def log_density(x):
    return torch.logsumexp(torch.stack([-((x - 1) ** 2).sum(1), -2 * ((x + 1) ** 2).sum(1)]), 0)


@pytest.fixture(autouse=True)
def closed_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fits():
    network = {"hidden_layer_sizes": (16,), "random_state": 0}
    learned = {"max_epochs": 3, "marginals": "standardize", "reference": "gaussian"}
    base = GMMScoreEstimator(2, random_state=0).fit(X)
    tilted = {"n_train": 1000, "max_epochs": 2, "n_paths": 500, "n_steps": 20, **network}
    sampler = {"n_features": 2, "max_iter": 30, "n_steps": 12, **network}
    return {
        "ode": DSMDensityEstimator(**learned, **network).fit(X),
        "sde": DSMDensityEstimator(sampler="sde", **learned, **network).fit(X),
        "mixture": base,
        "tilted": TiltedSampler(base, lambda x: x[:, 0] - x[:, 1], **tilted).fit(),
        "guided": TiltedSampler(base, lambda x: x[:, 0] - x[:, 1], method="cmcd", **tilted).fit(),
        "dds": DiffusionSampler(log_density, **sampler).fit(),
        "cmcd": DiffusionSampler(log_density, method="cmcd", **sampler).fit(),
        "bounded": DiffusionSampler(log_density, bounds=[(-3, 3), (0, None)], **sampler).fit(),
        "annealed": AnnealedSampler(
            log_density, n_features=2, n_temperatures=8, n_particles=200, random_state=0
        ).fit(),
    }


WITH_WEIGHTS = ["tilted", "guided", "dds", "cmcd", "bounded"]
DIFFUSIONS = ["ode", "sde", *WITH_WEIGHTS]


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_paths_end_in_the_samples(name, fits):
    display = TrajectoryDisplay.from_estimator(fits[name], n_paths=30, random_state=5)
    drawn = fits[name].sample(30, random_state=5)
    np.testing.assert_allclose(display.states[-1], drawn, rtol=1e-12)
    start = display.states[0]
    assert np.isfinite(display.states).all() and not np.allclose(start, drawn)
    # What was drawn is that.
    np.testing.assert_allclose(display.scatters_[-1].get_offsets(), drawn)
    np.testing.assert_allclose(display.scatters_[0].get_offsets(), start)


def test_particles_have_their_ancestors(fits):
    """Which are those of all particles where nothing is resampled."""
    fit = fits["annealed"]
    states = TrajectoryDisplay.from_estimator(fit, n_paths=210, random_state=2).states
    assert states.shape == (9, 210, 2)
    np.testing.assert_array_equal(states[-1], fit.sample_weighted(210, random_state=2)[0])
    assert len(np.unique(states[0], axis=0)) == 210
    fit.set_params(resample_below=1.0)
    often = fit._trajectories(210, 2)
    np.testing.assert_array_equal(often[-1], fit.sample_weighted(210, random_state=2)[0])
    fit.set_params(resample_below=0.3)
    counts = [len(np.unique(state, axis=0)) for state in often]
    assert counts == sorted(counts) and counts[0] < 150
    # Steps are short: a particle is near its own ancestors only.
    moves, spread = np.diff(often[-4:], axis=0).std(), often[-1].std()
    assert moves < spread


def test_paths_stay_within_bounds(fits):
    states = TrajectoryDisplay.from_estimator(fits["bounded"], n_paths=50).states
    assert (np.abs(states[..., 0]) <= 3).all() and (states[..., 1] >= 0).all()


def test_closed_forms_flow_along_their_scores(fits):
    """To their own distribution: the samples have its moments."""
    base = fits["mixture"]
    for fit in (base, KernelScoreEstimator().fit(X)):
        states = TrajectoryDisplay.from_estimator(fit, n_paths=2000, random_state=0).states
        np.testing.assert_allclose(states[-1].mean(0), X.mean(0), atol=0.3)
        np.testing.assert_allclose(np.cov(states[-1].T), np.cov(X.T), rtol=0.2)
    exact = base.score_samples(base.sample(2000, random_state=1)).mean()
    assert abs(base.score_samples(base._trajectories(2000, 0)[-1]).mean() - exact) < 0.15


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_the_shares_begin_at_one_and_end_at_that_of_the_weights(name, fits):
    display = WeightsDisplay.from_estimator(fits[name], n_paths=400, random_state=3)
    _, log_weights = fits[name].sample_weighted(400, random_state=3)
    np.testing.assert_allclose(display.log_weights, log_weights, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(display.ess[-1], effective_sample_size(log_weights))
    assert display.steps[0] == 0 and display.steps[-1] == len(fits[name]._trajectories(2, 0)) - 1
    # The start of guided steps is not where perfect steps back from the target lead.
    assert display.ess[0] > (0.6 if name in ("cmcd", "guided") else 0.95)
    np.testing.assert_array_equal(display.line_.get_xdata(), display.steps)
    np.testing.assert_array_equal(display.line_.get_ydata(), display.ess)


def test_perfect_steps_lose_no_paths(fits):
    """A weight of one needs no network: every path weighs the same up to every step."""
    same = TiltedSampler(fits["mixture"], lambda x: 0 * x[:, 0], n_train=500, max_epochs=1)
    same.set_params(n_paths=100, n_steps=5, random_state=0).fit()
    shares = WeightsDisplay.from_estimator(same, n_paths=50, random_state=0).ess
    np.testing.assert_allclose(shares, 1)


def test_paths_that_branch_off_weigh_the_same_on_average(fits):
    """Z, whatever the step."""
    for name in ("tilted", "guided", "cmcd"):
        fit = fits[name]
        log_weights, _, others = fit._branched_weights(3000, 1, 4)
        weights = np.exp(np.vstack([log_weights, others]) - fit.log_normalizer_)
        error = 4 * weights.std(1) / np.sqrt(3000) + 4 * fit.log_normalizer_stderr_
        assert (np.abs(weights.mean(1) - 1) < error).all()
        # From the start on they have nothing but the start in common, and later ever more.
        correlations = [np.corrcoef(weights[0], other)[0, 1] for other in weights[1:]]
        assert correlations[0] + 0.2 < correlations[-1]


def test_weights_of_particles_are_those_of_the_fit(fits):
    fit = fits["annealed"]
    display = WeightsDisplay.from_estimator(fit)
    np.testing.assert_array_equal(display.ess, [1.0, *fit.ess_by_step_])
    np.testing.assert_array_equal(display.log_weights, fit.log_weights_)
    assert display.axes_[0].get_xlabel() == "temperature"


def test_one_feature_is_drawn_as_lines_with_a_histogram(fits, tmp_path):
    display = TrajectoryDisplay.from_estimator(
        fits["tilted"], n_paths=40, features=[1], random_state=0
    )
    assert isinstance(display.lines_, LineCollection)
    segments = display.lines_.get_segments()
    assert len(segments) == 40
    np.testing.assert_array_equal(segments[7][:, 1], display.states[:, 7, 0])
    assert sum(bar.get_width() for bar in display.histogram_) == 40
    # One colour for each path, by the place of its sample.
    np.testing.assert_array_equal(
        np.argsort(display.lines_.get_array()), np.argsort(display.states[-1, :, 0])
    )
    display.figure_.savefig(tmp_path / "lines.png")
    assert (tmp_path / "lines.png").stat().st_size > 1000


def test_two_features_are_drawn_at_five_moments(fits, tmp_path):
    display = TrajectoryDisplay.from_estimator(fits["dds"], n_paths=40, random_state=0)
    assert len(display.axes_) == len(display.scatters_) == 5
    assert all(isinstance(each, PathCollection) for each in display.scatters_)
    titles = [panel.get_title() for panel in display.axes_]
    assert titles == ["noise", "step 3", "step 6", "step 9", "samples"]
    display.figure_.savefig(tmp_path / "moments.png")
    assert (tmp_path / "moments.png").stat().st_size > 1000


def test_a_single_feature_is_found(fits):
    fit = GMMScoreEstimator(random_state=0).fit(X[:, :1])
    assert TrajectoryDisplay.from_estimator(fit, n_paths=5).names == ["x0"]


def test_names_of_features_are_found_and_shown(fits):
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["u", "v"])
    fit = GMMScoreEstimator(random_state=0).fit(frame)
    display = TrajectoryDisplay.from_estimator(fit, n_paths=5, features=["v", "u"])
    assert display.axes_[0].get_xlabel() == "v" and display.axes_[0].get_ylabel() == "u"
    single = TrajectoryDisplay.from_estimator(fit, n_paths=5, features="v")
    assert single.axes_[0].get_ylabel() == "v"


@pytest.mark.parametrize("display", [TrajectoryDisplay, WeightsDisplay])
def test_panels_take_the_place_of_given_axes(display, fits, tmp_path):
    figure, axes = plt.subplots(1, 2)
    found = display.from_estimator(fits["tilted"], n_paths=20, random_state=0, ax=axes[1])
    assert found.figure_ is figure and all(each.figure is figure for each in found.axes_)
    found.plot()
    assert found.figure_ is not figure
    figure.savefig(tmp_path / "both.png")
    alone = plt.figure().add_axes([0, 0, 1, 1])
    with pytest.raises(ValueError, match="ax has no place in a grid"):
        display.from_estimator(fits["tilted"], n_paths=20, ax=alone)


@pytest.mark.parametrize("features", [[0, 1, 1], [], [2], [-1], ["w"], [1.5]])
def test_features_that_are_not_there(features, fits):
    with pytest.raises(ValueError, match="features"):
        TrajectoryDisplay.from_estimator(fits["mixture"], features=features)


def test_what_has_no_paths_or_weights_says_what_has(fits):
    stein = SteinScoreEstimator().fit(X)
    for display, other in ((TrajectoryDisplay, stein), (WeightsDisplay, stein)):
        with pytest.raises(TypeError, match="Pass a fitted"):
            display.from_estimator(other)
    with pytest.raises(TypeError, match="have no weights"):
        WeightsDisplay.from_estimator(fits["ode"])
    with pytest.raises(TypeError, match="does not draw samples by paths"):
        TrajectoryDisplay.from_estimator(GaussianMixture().fit(X))
    for display in (TrajectoryDisplay, WeightsDisplay):
        with pytest.raises(NotFittedError):
            display.from_estimator(DiffusionSampler(log_density))
