"""Laws of the report on a density."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy.stats import ks_2samp, multivariate_normal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.mixture import GaussianMixture

from sklearn_dsm import DSMDensityEstimator, DSMRegressor, TableDensityEstimator, report
from sklearn_dsm.inspection._columns import Feature
from sklearn_dsm.inspection._evidence import (
    Mean,
    column_fits,
    normal_log_density,
    odd_samples,
    unusual_given_others,
)

pandas = pytest.importorskip("pandas")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 3)) * [1, 10, 0.1]
EVIL = "<script>alert(1)</script>"


def mixed_table(n=200):
    random = np.random.default_rng(1)
    table = pandas.DataFrame(
        {
            EVIL: random.choice([EVIL, "b & c"], size=n),
            "size": random.normal(size=n),
        },
        index=[f"<i>{k}</i>" for k in range(n)],
    )
    table.loc[table.index[:9], "size"] = np.nan
    table.loc[table.index[-1], "size"] = 40.0
    return table


class Page(HTMLParser):
    """The text of a page, its tags and attributes; unbalanced tags are errors."""

    VOID = ("meta", "img", "br", "input")

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "\n".join(self.words)


@pytest.fixture(scope="module")
def fits():
    options = {"marginals": "standardize", "reference": "gaussian", "random_state": 0}
    return {
        "dsm": DSMDensityEstimator(hidden_layer_sizes=(16,), max_epochs=3, **options).fit(X[:200]),
        "table": TableDensityEstimator(max_epochs=3, random_state=0).fit(mixed_table()),
        "sklearn": GaussianMixture(random_state=0).fit(X[:200]),
    }


@pytest.fixture(scope="module")
def pages(fits):
    data = {"dsm": X[200:], "table": mixed_table(), "sklearn": X[200:]}
    return {
        name: report(fit, data[name], n_samples=500, random_state=0) for name, fit in fits.items()
    }


@pytest.mark.parametrize("name", ["dsm", "table", "sklearn"])
def test_pages_are_whole_and_need_nothing_else(name, pages):
    page = Page(pages[name].html)
    assert page.tags[0] == "html" and "script" not in page.tags and "link" not in page.tags
    sources = [value for key, value in page.attributes if key in ("src", "href", "action")]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not any(key.startswith("on") for key, _ in page.attributes)
    for address in ("http:", "https:", "url(", "@import"):
        assert address not in pages[name].html
    titles = ["Mean log-density", "Features that fit worst", "Marginals", "Pairs of features"]
    assert all(title in page.text for title in [*titles, "Samples of the lowest log-density"])
    assert ("Training" in page.words) == (name == "dsm")


def test_text_of_the_user_is_escaped(pages):
    page = Page(pages["table"].html)
    assert EVIL not in pages["table"].html and EVIL in page.text
    assert "<i>199</i>" in page.words


def test_odd_samples_come_with_the_values_that_make_them_odd(pages):
    words = Page(pages["table"].html).words
    line = words.index("<i>199</i>")
    assert words[line + 2].startswith("size = 40 (")


def test_the_mean_and_its_error_are_those_of_the_log_density(fits, pages):
    log_density = fits["dsm"].score_samples(X[200:])
    normal = multivariate_normal(X[200:].mean(0), np.cov(X[200:].T, bias=True)).logpdf(X[200:])
    words = Page(pages["dsm"].html).words
    for name, values in (
        ("fitted density", log_density),
        ("multivariate normal, fitted to X itself, which favours it", normal),
        ("difference", log_density - normal),
    ):
        mean, error = map(float, words[words.index(name) + 1 : words.index(name) + 3])
        np.testing.assert_allclose(mean, values.mean(), atol=2e-3)
        np.testing.assert_allclose(error, values.std(ddof=1) / 10, atol=2e-3)


def test_the_normal_distribution_of_the_training_data_is_told(fits):
    made = report(fits["sklearn"], X[200:], X_train=X[:200], n_samples=50, random_state=0)
    words = Page(made.html).words
    line = words.index("multivariate normal, fitted to the training data")
    assert float(words[line + 1]) == pytest.approx(fits["sklearn"].score(X[200:]), abs=2e-3)
    assert "no comparison" in Page(report(fits["table"], mixed_table(), n_samples=50).html).text


def test_the_same_seed_makes_the_same_page(fits):
    first, second = (
        report(fits["dsm"], X[200:], n_samples=200, random_state=3).html for _ in range(2)
    )
    assert first == second


def test_tables_of_every_kind_are_reported():
    polars = pytest.importorskip("polars")
    columns = {name: list(column) for name, column in mixed_table(60).items()}
    for table in (polars.DataFrame(columns, strict=False), mixed_table(60).to_numpy()):
        fit = TableDensityEstimator(max_epochs=0, random_state=0).fit(table)
        text = Page(report(fit, table, n_samples=50, random_state=0).html).text
        assert ("size = 40" in text) == hasattr(table, "schema")


def test_no_figure_is_left_open(fits):
    before = plt.get_fignums()
    report(fits["sklearn"], X[200:], n_samples=50)
    assert plt.get_fignums() == before


def test_pages_are_written_whole_or_not_at_all(fits, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    made = report(fits["sklearn"], X[200:], path, n_samples=50, random_state=0)
    assert path.read_text(encoding="utf-8") == made.html
    assert made.save(str(path)) == path and list(tmp_path.iterdir()) == [path]

    def fail(*_args, **_options):
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    made.html = "another"
    with pytest.raises(OSError, match="no space"):
        made.save(path)
    assert path.read_text(encoding="utf-8") != "another" and list(tmp_path.iterdir()) == [path]


def test_notebooks_show_the_page_in_a_frame(pages):
    made = pages["sklearn"]
    page = Page(made._repr_html_())
    assert page.tags == ["iframe"]
    assert dict(page.attributes)["srcdoc"] == made.html


def test_one_feature_and_impossible_samples_are_reported():
    class Box(GaussianMixture):
        def score_samples(self, X):
            return np.where(np.abs(X[:, 0]) < 2, super().score_samples(X), -np.inf)

    text = Page(report(Box().fit(X[:, :1]), X[:, :1], n_samples=50).html).text
    n_impossible = int((np.abs(X[:, 0]) >= 2).sum())
    assert f"{n_impossible} samples have the log-density -inf" in text
    assert "Pairs of features" not in text


def test_what_cannot_be_reported_says_why(fits):
    regressor = DSMRegressor(max_iter=2, max_epochs=0).fit(X[:, :2], X[:, 2])
    with pytest.raises(TypeError, match="is a regressor"):
        report(regressor, X)
    with pytest.raises(NotFittedError):
        report(DSMDensityEstimator(), X)
    with pytest.raises(ValueError, match="at least two"):
        report(fits["sklearn"], X[:1])
    with pytest.raises(ValueError, match="X has 2 features"):
        report(fits["sklearn"], X[:, :2])
    with pytest.raises(ValueError, match="n_samples"):
        report(fits["sklearn"], X, n_samples=0)


def test_columns_are_in_the_order_of_their_distances():
    random = np.random.default_rng(2)
    data = np.column_stack([random.normal(size=(400, 2)), [0.0, 1.0] * 200])
    samples = data + np.array([0.0, 1.0, 0.0])
    samples[:100, 2] = 1.0
    features = [Feature("a"), Feature("b"), Feature("c", ("x", "y"))]
    found = column_fits(features, data, samples)
    assert found[0].place == 1 and found[-1].place == 0
    assert found[0].distance == ks_2samp(data[:, 1], samples[:, 1]).statistic
    np.testing.assert_allclose(found[0].shift, 1 / data[:, 1].std())
    assert {fit.place: fit.distance for fit in found}[2] == pytest.approx(0.125)


def test_distances_by_chance_are_means():
    random = np.random.default_rng(3)
    features = [Feature("a"), Feature("b", (0, 1, 2))]
    found = []
    for _ in range(200):
        tables = [
            np.column_stack([random.normal(size=n), random.integers(0, 3, size=n)])
            for n in (150, 400)
        ]
        fits = {fit.place: fit for fit in column_fits(features, *tables)}
        found.append([[fits[j].distance, fits[j].by_chance] for j in (0, 1)])
    distance, by_chance = np.mean(found, axis=0).T
    np.testing.assert_allclose(distance, by_chance, rtol=0.1)


def test_evidence_of_small_tables():
    values = np.array([1.0, 2.0, 4.0])
    assert Mean.of(values) == (values.mean(), values.std(ddof=1) / np.sqrt(3))
    expected = multivariate_normal(X.mean(0), np.cov(X.T, bias=True)).logpdf(X)
    np.testing.assert_allclose(normal_log_density(X, X), expected, atol=1e-3)
    unusual = unusual_given_others(np.c_[values, [0, 0, 0]])
    assert np.isnan(unusual[:, 1]).all()
    np.testing.assert_allclose(unusual[:, 0], np.abs(values - values.mean()) / values.std())
    odd = odd_samples(np.array([0.0, -5.0, -1.0]), unusual, 2, 3)
    assert [each.row for each in odd] == [1, 2] and odd[0].reasons == [(0, unusual[1, 0])]


def test_values_are_unusual_by_the_residuals_of_regressions():
    random = np.random.default_rng(0)
    data = random.normal(size=(500, 3)) @ random.normal(size=(3, 3)) + 5
    unusual = unusual_given_others(data)
    for j in range(3):
        others = np.delete(data, j, 1)
        residual = data[:, j] - LinearRegression().fit(others, data[:, j]).predict(others)
        np.testing.assert_allclose(unusual[:, j], np.abs(residual) / residual.std(), rtol=1e-4)


def test_a_report_is_refused_before_it_is_computed(fits, tmp_path):
    density = fits["dsm"]
    with pytest.raises(FileNotFoundError, match="folder"):
        report(density, X, tmp_path / "nowhere" / "page.html")
    with pytest.raises(TypeError, match=r"X is 'page\.html'"):
        report(density, "page.html")
