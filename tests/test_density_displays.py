"""Laws of the pictures of densities, scores, fits and calibration."""

from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.contour import QuadContourSet
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from sklearn_dsm import (
    DSM,
    DSMDensityEstimator,
    DSMRegressor,
    GMMScoreEstimator,
    KernelScoreEstimator,
    LocationMixtureScoreEstimator,
    TableDensityEstimator,
)
from sklearn_dsm._summary import html_of_summary
from sklearn_dsm.inspection import (
    CalibrationDisplay,
    DensityDisplay,
    FitDisplay,
    ScoreFieldDisplay,
    TrajectoryDisplay,
)

pandas = pytest.importorskip("pandas")

RANDOM = np.random.default_rng(0)
X = np.concatenate([RANDOM.normal(size=(200, 2)) * 0.5, RANDOM.normal([3, 1], 0.4, (200, 2))])
TALL = np.column_stack([X, X[:, 0] + 0.3 * RANDOM.normal(size=400)])


def mixed_table(n=200):
    random = np.random.default_rng(1)
    group = random.choice(["a", "b & <c>"], size=n)
    table = pandas.DataFrame(
        {
            "group": group,
            "yes": random.uniform(size=n) < 0.3,
            "count": random.poisson(30, size=n),
            "size": random.normal(size=n) + 2 * (group == "a"),
        }
    )
    table.loc[:9, "size"] = np.nan
    return table


@pytest.fixture(autouse=True)
def closed_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fits():
    network = {"hidden_layer_sizes": (16,), "random_state": 0, "max_epochs": 3}
    gaussian = {"marginals": "standardize", "reference": "gaussian", **network}
    random = np.random.default_rng(2)
    y = X[:, 0] + 0.2 * random.normal(size=len(X))
    regressor = DSMRegressor(max_iter=10, max_epochs=0, random_state=0)
    return {
        "dsm": DSMDensityEstimator(**gaussian).fit(X),
        "level": DSMDensityEstimator(loss=DSM(noise_level=0.1), **gaussian).fit(X),
        "untrained": DSMDensityEstimator(reference="gmm", max_fit_time=1e-6).fit(X),
        "kernel": KernelScoreEstimator(bandwidth=0.3).fit(X),
        "gmm": GMMScoreEstimator(2, random_state=0).fit(X),
        "sklearn": GaussianMixture(2, random_state=0).fit(X),
        "kde": KernelDensity(bandwidth=0.3).fit(X),
        "tall": GMMScoreEstimator(2, random_state=0).fit(
            pandas.DataFrame(TALL, columns=["u", "v", "w"])
        ),
        "table": TableDensityEstimator(max_epochs=3, random_state=0).fit(mixed_table()),
        "regressor": regressor.fit(X[:, 1:], y),
        "counts": clone(regressor).set_params(y_step=1).fit(X[:, 1:], np.round(4 * y)),
        "two targets": clone(regressor).fit(X[:, 1:], np.column_stack([y, X[:, 0]])),
    }


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
EXACT = ["dsm", "kernel", "gmm", "sklearn", "kde"]


def of(display, fits, name, *args, **options):
    return display.from_estimator(fits[name], *args, random_state=0, **options)


@pytest.mark.parametrize("name", EXACT)
def test_regions_hold_their_shares_of_the_mass(name, fits):
    """Of fresh samples."""
    display = of(DensityDisplay, fits, name, X, shares=(0.5, 0.9), resolution=20)
    levels = display.regions[1, 0].levels
    if name == "sklearn":
        fresh = fits[name].sample(3000)[0]
    else:
        fresh = fits[name].sample(3000, random_state=1)
    density = np.exp(fits[name].score_samples(fresh))
    np.testing.assert_allclose((density[:, None] >= levels).mean(0), [0.5, 0.9], atol=0.04)


def test_a_region_is_drawn_where_the_density_is_high_enough(fits):
    display = of(DensityDisplay, fits, "gmm", X, resolution=60)
    regions = display.regions[1, 0]
    contours = display.artists_[1, 0]["model"]
    assert isinstance(contours, QuadContourSet)
    np.testing.assert_array_equal(contours.levels, np.sort(regions.levels))
    x, y = np.meshgrid(regions.x, regions.y)
    expected = np.exp(fits["gmm"].score_samples(np.column_stack([x.ravel(), y.ravel()])))
    np.testing.assert_allclose(regions.density.ravel(), expected)


def test_features_can_be_drawn_in_another_order(fits):
    plain, turned = (
        of(DensityDisplay, fits, "gmm", X, features=order, resolution=15).regions[1, 0]
        for order in ([0, 1], [1, 0])
    )
    np.testing.assert_allclose(turned.density, plain.density.T)
    np.testing.assert_allclose(turned.levels, plain.levels)


def test_data_are_the_points(fits):
    points = of(DensityDisplay, fits, "kernel", X).artists_[1, 0]["data"]
    assert isinstance(points, PathCollection)
    np.testing.assert_allclose(points.get_offsets(), X)
    assert "data" not in of(DensityDisplay, fits, "kernel").artists_[1, 0]


@pytest.mark.parametrize(
    "estimator",
    [GMMScoreEstimator(2, random_state=0), LocationMixtureScoreEstimator(0.5, random_state=0)],
    ids=lambda estimator: type(estimator).__name__,
)
def test_one_feature_is_a_curve_that_integrates_to_one(estimator):
    fit = clone(estimator).fit(X[:, :1])
    for data in (X[:, :1], None):
        display = DensityDisplay.from_estimator(fit, data, random_state=0)
        x, y = display.artists_[0, 0]["model"].get_data()
        np.testing.assert_allclose(y, np.exp(fit.score_samples(x[:, None])))
        assert abs(np.trapezoid(y, x) - 1) < 0.02
        assert display.ax_.get_ylim()[1] > y.max()


def test_marginals_of_a_joint_density_are_those_of_samples(fits, tmp_path):
    display = of(DensityDisplay, fits, "tall", pandas.DataFrame(TALL, columns=["u", "v", "w"]))
    assert display.axes_.shape == (3, 3)
    assert sorted(display.artists_) == [(i, j) for i in range(3) for j in range(i + 1)]
    assert [ax.get_xlabel() for ax in display.axes_[-1]] == ["u", "v", "w"]
    samples = display.samples
    for (i, j), regions in display.regions.items():
        np.testing.assert_allclose(regions.density.sum() * _cell(regions), 1, atol=0.05)
        columns = np.searchsorted(_edges(regions.x), samples[:, j]) - 1
        rows = np.searchsorted(_edges(regions.y), samples[:, i]) - 1
        inside = (columns >= 0) & (columns < 80) & (rows >= 0) & (rows < 80)
        found = np.where(inside, regions.density[rows.clip(0, 79), columns.clip(0, 79)], 0)
        np.testing.assert_allclose(
            (found[:, None] >= regions.levels).mean(0), [0.5, 0.8, 0.95], atol=0.01
        )
    display.figure_.savefig(tmp_path / "grid.png")


def _edges(middles):
    step = middles[1] - middles[0]
    return np.append(middles - step / 2, middles[-1] + step / 2)


def _cell(regions):
    return (regions.x[1] - regions.x[0]) * (regions.y[1] - regions.y[0])


def test_two_of_three_features_are_marginals_by_name(fits):
    display = of(DensityDisplay, fits, "tall", TALL, features=["w", "u"], kind="filled")
    assert display.ax_.get_xlabel() == "w" and display.ax_.get_ylabel() == "u"
    assert len(display.regions[1, 0].x) == 80
    np.testing.assert_allclose(display.artists_[1, 0]["data"].get_offsets(), TALL[:, [2, 0]])


def test_categories_are_bars_circles_and_strips(fits, tmp_path):
    table = mixed_table()
    display = of(DensityDisplay, fits, "table", table)
    bars = display.artists_[0, 0]
    shares = table["group"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose([bar.get_height() for bar in bars["data"]], shares)
    assert abs(sum(bar.get_height() for bar in bars["model"]) - 1) < 1e-9
    areas = display.artists_[1, 0]["data"].get_sizes()
    counts = table.groupby(["group", "yes"]).size()
    np.testing.assert_allclose(areas / areas.sum(), counts / counts.sum())
    # Values that are missing are nowhere.
    strip = display.artists_[3, 0]["data"]
    assert np.isfinite(strip.get_offsets().filled(np.nan)).all(axis=1).sum() == len(table) - 10
    assert (3, 2) in display.regions and (3, 0) not in display.regions
    labels = [label.get_text() for label in display.axes_[-1, 0].get_xticklabels()]
    assert labels == ["a", "b & <c>"]
    display.figure_.savefig(tmp_path / "table.png")


def test_bins_of_whole_numbers_hold_equally_many_of_them(fits):
    display = of(DensityDisplay, fits, "table", mixed_table(), features=["count"])
    edges = display.artists_[0, 0]["data"].get_data().edges
    widths = np.diff(edges)
    np.testing.assert_allclose(widths, widths[0])
    assert widths[0] == round(widths[0]) and (edges % 1 == 0.5).all()


def test_given_axes_are_used(fits):
    figure, axes = plt.subplots(1, 2)
    assert of(DensityDisplay, fits, "gmm", ax=axes[0]).ax_ is axes[0]
    grid = of(DensityDisplay, fits, "tall", ax=axes[1])
    assert grid.figure_ is figure and grid.axes_.shape == (3, 3)
    assert of(ScoreFieldDisplay, fits, "gmm", ax=axes[0]).ax_ is axes[0]
    assert FitDisplay.from_estimator(fits["dsm"], ax=plt.subplots()[1]).axes_.shape == (2,)
    _, ax = plt.subplots()
    assert CalibrationDisplay.from_estimator(fits["regressor"], kind="pit", ax=ax).ax_ is ax
    _, ax = plt.subplots()
    assert of(TrajectoryDisplay, fits, "gmm", kind="paths", ax=ax).ax_ is ax


@pytest.mark.parametrize(
    "options, match",
    [
        ({"features": [0, 0]}, "each of them once"),
        ({"features": ["z"]}, "no index"),
        ({"shares": (0.5, 1.0)}, "between 0 and 1"),
        ({"kind": "dots"}, "'kind'"),
        ({"X": X}, "X has 2 features"),
    ],
)
def test_densities_that_cannot_be_drawn(options, match, fits):
    with pytest.raises(ValueError, match=match):
        DensityDisplay.from_estimator(fits["tall"], **options)


def test_what_is_no_density_says_what_is(fits):
    with pytest.raises(TypeError, match="needs score_samples and sample"):
        DensityDisplay.from_estimator(BaseEstimator())
    with pytest.raises(TypeError, match="needs stein_score"):
        ScoreFieldDisplay.from_estimator(fits["sklearn"])
    with pytest.raises(TypeError, match="Pass a fitted DSMDensityEstimator"):
        FitDisplay.from_estimator(fits["gmm"])
    with pytest.raises(TypeError, match="DSMRegressor"):
        CalibrationDisplay.from_estimator(fits["gmm"])
    for display in (DensityDisplay, ScoreFieldDisplay, FitDisplay):
        with pytest.raises(NotFittedError):
            display.from_estimator(DSMDensityEstimator())


@pytest.mark.parametrize("name, level", [("gmm", 0.0), ("kernel", 0.3), ("dsm", 0.2)])
def test_arrows_are_stein_scores(name, level, fits):
    display = of(ScoreFieldDisplay, fits, name, X, noise_level=level, n_arrows=6)
    expected = fits[name].stein_score(display.grid, noise_level=level)
    np.testing.assert_allclose(display.scores, expected)
    np.testing.assert_allclose(display.arrows_.get_offsets(), display.grid)
    # In the panel, arrows lie along the gradient with respect to the place in the panel.
    spans = [high - low for low, high in display.limits]
    drawn = np.column_stack([display.arrows_.U, display.arrows_.V])
    wanted = expected * spans
    lengths, steepness = (np.linalg.norm(each, axis=1) for each in (drawn, wanted))
    np.testing.assert_allclose((drawn * wanted).sum(1) / lengths / steepness, 1)
    order = np.argsort(steepness)
    assert (np.diff(lengths[order]) >= -1e-12).all() and lengths.max() < 1.2 / 6


def test_other_features_are_held(fits):
    display = of(
        ScoreFieldDisplay, fits, "tall", TALL, features=["w", "v"], at=[2, 0, 0], n_arrows=4
    )
    points = np.column_stack([np.full(16, 2.0), display.grid[:, 1], display.grid[:, 0]])
    expected = fits["tall"].stein_score(pandas.DataFrame(points, columns=["u", "v", "w"]))
    np.testing.assert_allclose(display.scores, expected[:, [2, 1]])
    assert "u = 2" in display.ax_.get_title()
    with pytest.raises(ValueError, match="at has shape"):
        of(ScoreFieldDisplay, fits, "tall", TALL, at=[1.0])


def test_contours_behind_arrows_are_log_densities(fits):
    display = of(ScoreFieldDisplay, fits, "gmm", X, contours=True, n_arrows=4)
    values = display.log_density[2]
    np.testing.assert_allclose(display.contours_.levels, values.max() - np.array([8, 4.5, 2, 0.5]))
    with pytest.raises(ValueError, match="noised data"):
        of(ScoreFieldDisplay, fits, "gmm", X, contours=True, noise_level=0.1)


def test_paths_in_one_panel_end_in_the_samples(fits):
    display = of(TrajectoryDisplay, fits, "dsm", n_paths=20, kind="paths")
    assert isinstance(display.lines_, LineCollection)
    ends = np.array([segment[-1] for segment in display.lines_.get_segments()])
    np.testing.assert_allclose(ends, fits["dsm"].sample(20, random_state=0))
    np.testing.assert_allclose(display.scatters_[0].get_offsets(), ends)
    with pytest.raises(ValueError, match="'kind'"):
        of(TrajectoryDisplay, fits, "dsm", kind="lines")


def test_the_course_of_a_fit_is_what_the_estimator_keeps(fits):
    fit = fits["dsm"]
    display = FitDisplay.from_estimator(fit)
    np.testing.assert_array_equal(display.loss_line_.get_ydata(), fit.loss_curve_)
    np.testing.assert_array_equal(display.validation_line_.get_ydata(), fit.validation_scores_)
    values = {name: line.get_ydata()[0] for name, line in display.lines_.items()}
    assert values == fit.validation_log_likelihood_
    assert fit.selected_ in display.axes_[0].get_title()
    assert fit.stop_reason_ in display.axes_[0].get_title()
    best = 1 + int(np.argmax(fit.validation_scores_)) if fit.network_weights_ else None
    assert display.selected_epoch == best
    assert (display.epoch_line_ is None) == (best is None)


def test_fits_without_log_densities_or_networks_are_drawn(fits, tmp_path):
    level = FitDisplay.from_estimator(fits["level"])
    assert level.lines_ == {} and "gain" in level.axes_[0].get_ylabel()
    untrained = FitDisplay.from_estimator(fits["untrained"])
    assert [text.get_text() for text in untrained.axes_[1].texts] == ["no network was trained"]
    assert set(untrained.lines_) == {"normal", "reference", "selected"}
    for k, display in enumerate((level, untrained)):
        display.figure_.savefig(tmp_path / f"{k}.png")


def test_log_likelihoods_of_the_validation_set():
    """Of one Gaussian, all three are the same; those of a mixture are in order."""
    normal = np.random.default_rng(3).normal(size=(2000, 2)) * [1, 100]
    options = {"max_epochs": 2, "hidden_layer_sizes": (16,), "random_state": 0}
    fit = DSMDensityEstimator(reference="gaussian", marginals="standardize", **options).fit(normal)
    found = fit.validation_log_likelihood_
    assert abs(found["normal"] - fit.score(normal)) < 0.15
    assert abs(found["normal"] - found["reference"]) < 0.01
    apart = DSMDensityEstimator(reference="gmm", **options).fit(X)
    found = apart.validation_log_likelihood_
    assert found["normal"] < found["reference"] - 0.3 <= found["selected"]
    assert all(type(value) is float for value in found.values()) and apart.fit_time_ > 0


def test_calibration_is_that_of_the_transforms(fits):
    fit = fits["regressor"]
    display = CalibrationDisplay.from_estimator(fit)
    assert len(display.axes_) == len(display.bands_) == 2
    pit = fit.calibration_["pit"]
    heights = [bar.get_height() for bar in display.histogram_]
    np.testing.assert_allclose(heights, np.histogram(pit, np.linspace(0, 1, 11))[0] / len(pit))
    nominal, found = display.line_.get_data()
    for coverage, share in fit.calibration_["coverage"].items():
        np.testing.assert_allclose(np.interp(coverage, nominal, found), share, atol=1e-9)
    y = X[:, 0]
    given = CalibrationDisplay.from_estimator(fit, X[:, 1:], y, kind="coverage")
    assert not hasattr(given, "histogram_")
    np.testing.assert_allclose(given.pit, fit.cdf(X[:, 1:], y))


def test_bands_hold_what_chance_gives():
    inside = []
    for seed in range(40):
        display = CalibrationDisplay(np.random.default_rng(seed).uniform(size=150), level=0.9)
        shares = np.histogram(display.pit, np.linspace(0, 1, 11))[0] / 150
        low, high = display._chance(0.1)
        inside.append((shares >= low) & (shares <= high))
    assert 0.88 <= np.mean(inside) <= 0.97


def test_counts_are_spread_over_the_jumps_of_their_distribution(fits):
    fit, y = fits["counts"], np.round(4 * X[:, 0])
    pit = CalibrationDisplay.from_estimator(fit, X[:, 1:], y, random_state=0).pit
    upper = fit.cdf(X[:, 1:], y)
    mass = np.exp(fit.score_samples(X[:, 1:], y))
    assert (pit <= upper).all() and (pit >= upper - mass - 1e-9).all()
    assert len(np.unique(pit)) > 300


def test_calibration_that_is_not_known(fits):
    with pytest.raises(ValueError, match="2 targets"):
        CalibrationDisplay.from_estimator(fits["two targets"])
    with pytest.raises(ValueError, match="both X and y"):
        CalibrationDisplay.from_estimator(fits["regressor"], X[:, 1:])
    with pytest.raises(ValueError, match="from 0 to 1"):
        CalibrationDisplay.from_predictions([0.5, 1.5])
    with pytest.raises(ValueError, match="'kind'"):
        CalibrationDisplay.from_predictions([0.5], kind="qq")


class Balanced(HTMLParser):
    """Which tags are open."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("input", "br", "meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["dsm", "level", "untrained", "table", "regressor", "two targets"])
def test_notebooks_show_a_summary_below_the_parameters(name, fits):
    fit = fits[name]
    below = fit._html_below()
    parser = Balanced()
    parser.feed(below)
    assert parser.open == []
    assert all(type(text) is str for text in fit.summary().values())
    assert f"{fit.fit_time_:.1f} s" in below
    shown = fit._repr_html_()
    assert shown.endswith(below) and "sk-top-container" in shown
    assert fit._repr_mimebundle_()["text/html"].endswith(below)
    with config_context(display="text"):
        assert "text/html" not in fit._repr_mimebundle_() and not hasattr(fit, "_repr_html_")


def test_no_summary_before_a_fit():
    for estimator in (DSMDensityEstimator(), TableDensityEstimator(), DSMRegressor()):
        assert estimator._html_below() == ""
        with pytest.raises(NotFittedError):
            estimator.summary()


def test_text_of_summaries_is_escaped():
    html = html_of_summary({"<b>": "</td><script>"})
    assert "<script>" not in html and "&lt;script&gt;" in html and "&lt;b&gt;" in html
