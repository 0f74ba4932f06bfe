"""A page that tells how well a density fits data."""

from __future__ import annotations

from html import escape
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._compat import Interval, validate_parameter_constraints
from .._summary import html_of_summary
from ._axes import figure_class
from ._columns import Feature, features_of, numbers_of, require_methods, samples_of, word_of
from ._density import DensityDisplay
from ._evidence import (
    ColumnFit,
    Mean,
    column_fits,
    normal_log_density,
    odd_samples,
    unusual_by_contribution,
    unusual_given_others,
)
from ._fit import FitDisplay
from ._page import note, page, paragraph, picture, section, table, write_whole
from ._pairs import draw_marginal

MAX_MARGINALS, COLUMNS_OF_PANELS, N_PAIRED = 12, 4, 4
MAX_WORST, N_ODD, N_REASONS = 15, 10, 3
ROW_HEIGHT = 2.1


class Report:
    """A page of HTML that needs no other file and no network.

    :func:`~sklearn_dsm.report` makes one. A notebook shows it in a frame.

    Parameters
    ----------
    html : str
        The whole document.

    Attributes
    ----------
    html : str
    """

    def __init__(self, html: str):
        self.html = html

    def save(self, path) -> Path:
        """Write the page to a file.

        If writing fails, a file that was there before is left as it was.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        pathlib.Path

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        target = Path(path)
        write_whole(target, self.html)
        return target

    def _repr_html_(self) -> str:
        # In a frame, its style does not reach the notebook.
        return (
            f'<iframe srcdoc="{escape(self.html)}" title="Report" '
            'style="width: 100%; height: 50rem; border: 1px solid #ccc"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Report({len(self.html) / 2**20:.1f} MiB of HTML)"


class _Material(NamedTuple):
    """What the sections of a report tell of."""

    estimator: Any
    X: Any
    features: list[Feature]
    data: np.ndarray
    samples: np.ndarray
    log_density: np.ndarray
    fits: list[ColumnFit]

    @property
    def is_numeric(self) -> bool:
        """Whether all that is modelled are densities of numbers."""
        measures = getattr(self.estimator, "log_measure_", {}).values()
        return all(each == "density" for each in measures) and bool(np.isfinite(self.data).all())


def report(estimator, X, path=None, *, X_train=None, n_samples=5000, random_state=None):
    """Make a page that tells how well a fitted density fits data.

    The page has the mean log-density with its standard error, beside that of a multivariate normal
    distribution if all features are continuous, the features whose samples differ most from the
    data, pictures of marginals and pairs of features, the samples of the lowest log-density, and
    the course of the fit where the estimator keeps it. Needs matplotlib.

    Parameters
    ----------
    estimator : object
        A fitted density estimator of this package or of scikit-learn, with ``score_samples`` and
        ``sample``.
    X : DataFrame or array-like of shape (n_samples, n_features)
        Data that the fit has not seen. On data of the fit, a density looks better than it is.
    path : str or path-like, default=None
        Where to write the page. None writes none.
    X_train : DataFrame or array-like of shape (n_train, n_features), default=None
        Data of the fit, to which the normal distribution is then fitted. None fits it to X, which
        favours it; the page says which.
    n_samples : int, default=5000
        Samples of the model that are compared with the data.
    random_state : int, RandomState or None, default=None
        Seed of these samples.

    Returns
    -------
    sklearn_dsm.inspection.Report
        With the attribute ``html`` and the method ``save(path)``.

    Raises
    ------
    TypeError
        If the estimator has no ``score_samples`` or no ``sample``, or is a regressor; or if X is
        a path.
    ImportError
        If matplotlib is not installed.
    ValueError
        If X does not have the columns of the fit, or fewer than two samples.
    OSError
        If the page cannot be written. A file that was there before is left as it was.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import KernelScoreEstimator, report
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> page = report(KernelScoreEstimator().fit(X[:200]), X[200:], random_state=0)
    >>> page.html[:15]
    '<!DOCTYPE html>'
    """
    require_methods(estimator, "report", "score_samples", "sample")
    if hasattr(estimator, "predict_interval"):
        raise TypeError(
            f"report is for densities of a whole table, and {type(estimator).__name__} is a "
            "regressor. Draw a CalibrationDisplay instead."
        )
    check_is_fitted(estimator)
    if isinstance(X, str | PathLike):
        raise TypeError(f"X is {str(X)!r}, and must hold the samples: report(estimator, X, path).")
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(path)!r} does not exist. Create it first.")
    # Before anything is computed.
    figure_class()
    validate_parameter_constraints(
        {"n_samples": [Interval(Integral, 2, None, closed="left")]},
        {"n_samples": n_samples},
        caller_name="report",
    )
    material = _material(estimator, X, n_samples, random_state)
    name = type(estimator).__name__
    sections = [
        _summary_section(material),
        _score_section(material, X_train),
        _columns_section(material),
        _marginals_section(material),
        _pairs_section(material),
        _odd_section(material),
        _fit_section(material),
    ]
    made = Report(page(f"{name}: density report", [each for each in sections if each]))
    if path is not None:
        made.save(path)
    return made


def _material(estimator, X, n_samples: int, random_state) -> _Material:
    features = features_of(estimator)
    data = numbers_of(X, features)
    if len(data) < 2:
        raise ValueError(f"X has {len(data)} sample(s), and a report needs at least two.")
    log_density = np.asarray(estimator.score_samples(X), dtype=float)
    samples = numbers_of(samples_of(estimator, n_samples, random_state), features)
    fits = column_fits(features, data, samples)
    return _Material(estimator, X, features, data, samples, log_density, fits)


def _summary_section(material: _Material) -> str:
    n, d = material.data.shape
    told = paragraph(f"{n} samples of {d} feature{'s' if d > 1 else ''} were compared.")
    if not hasattr(material.estimator, "summary"):
        return told
    return told + "\n" + section("The fit", html_of_summary(material.estimator.summary()))


def _score_section(material: _Material, X_train) -> str:
    log_density = material.log_density
    impossible = np.isneginf(log_density)
    lines = [_line("fitted density", Mean.of(log_density[~impossible]))] if any(~impossible) else []
    notes = ["Means over the samples of X, in nats per sample, with standard errors."]
    if impossible.any():
        notes.append(
            f"{int(impossible.sum())} samples have the log-density -inf: the model holds them to "
            "be impossible. The means are over the others."
        )
    if material.is_numeric:
        train = material.data if X_train is None else numbers_of(X_train, material.features)
        normal = normal_log_density(material.data, train)[~impossible]
        source = "X itself, which favours it" if X_train is None else "the training data"
        lines.append(_line(f"multivariate normal, fitted to {source}", Mean.of(normal)))
        lines.append(_line("difference", Mean.of(log_density[~impossible] - normal)))
    else:
        notes.append(
            "There is no comparison with a normal distribution: some values are missing, or have "
            "probabilities rather than densities."
        )
    heads = ["", "mean log-density", "standard error"]
    return section("Mean log-density", table(heads, lines), note(" ".join(notes)))


def _line(name: str, mean: Mean) -> list:
    return [name, mean.value, mean.error]


def _columns_section(material: _Material) -> str:
    fits = material.fits
    # Samples have missing values only where these are part of the model.
    columns = ("missing in X", "missing in samples")
    holed = [k for k in (0, 1) if any(fit.missing[k] for fit in fits)]
    heads = ["feature", "distance", "by chance", "Wasserstein / sd", *(columns[k] for k in holed)]
    lines = [
        [
            material.features[fit.place].name,
            fit.distance,
            fit.by_chance,
            "–" if np.isnan(fit.shift) else fit.shift,
            *(f"{fit.missing[k]:.1%}" for k in holed),
        ]
        for fit in fits[:MAX_WORST]
    ]
    told = (
        f"Distances between X and {len(material.samples)} samples of the model: Kolmogorov "
        "distances of numbers and total variations of categories, both from 0 to 1. "
        '"By chance" is the mean distance of samples of one distribution. The features with the '
        "largest multiples of it are first."
    )
    if len(fits) > MAX_WORST:
        told += f" {len(fits) - MAX_WORST} further features are left out."
    return section("Features that fit worst", table(heads, lines), note(told))


def _marginals_section(material: _Material) -> str:
    shown = material.fits[:MAX_MARGINALS]
    n_columns = min(COLUMNS_OF_PANELS, len(shown))
    n_rows = -(-len(shown) // n_columns)
    figure = _figure(2.3 * n_columns, ROW_HEIGHT * n_rows + 0.3)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, fit in zip(panels, shown, strict=False):
        feature, column = material.features[fit.place], material.data[:, fit.place]
        display = DensityDisplay([feature], column[:, None], material.samples[:, [fit.place]])
        ax.set_xlim(display.limits(0))
        draw_marginal(ax, feature, column, material.samples[:, fit.place])
        ax.set(yticks=[])
        ax.set_xlabel(feature.name, fontsize="small")
        ax.tick_params(labelsize=7)
        ax.spines[["left", "right", "top"]].set_visible(False)
    for ax in panels[len(shown) :]:
        ax.set_axis_off()
    panels[0].legend(fontsize="x-small", frameon=False)
    told = "Grey is X, blue are samples of the model. The features that fit worst are first."
    if len(material.fits) > len(shown):
        told += f" {len(material.fits) - len(shown)} further features are left out."
    return section("Marginals", picture(figure, "Histograms of each feature"), note(told))


def _pairs_section(material: _Material) -> str:
    if len(material.features) < 2:
        return ""
    places = sorted(fit.place for fit in material.fits[:N_PAIRED])
    size = 2.0 * len(places) + 1.0
    figure = _figure(size, size)
    display = DensityDisplay._of_samples(
        material.estimator, material.features, places, material.data, material.samples
    )
    display.plot(ax=figure.subplots())
    told = "Pairs of the features that fit worst: X in grey, the model in blue."
    return section("Pairs of features", picture(figure, "Pairs of features"), note(told))


def _odd_section(material: _Material) -> str:
    explained = hasattr(material.estimator, "explain")
    if explained:
        unusual, unit = unusual_by_contribution(material.estimator, material.X), "nats"
        told = (
            "In brackets, the nats by which a value lowers the log-density given the features "
            "before it, beyond the median of the feature."
        )
    else:
        unusual, unit = unusual_given_others(material.data), "sd"
        told = (
            "In brackets, the distance of a value from its prediction by a linear regression on "
            "the other features, in standard deviations of the residuals."
        )
    framed = hasattr(material.X, "iloc")
    labels = list(material.X.index if framed else range(len(material.data)))
    lines = [
        [
            str(labels[odd.row]),
            odd.log_density,
            ", ".join(_reason(material, odd.row, place, by, unit) for place, by in odd.reasons),
        ]
        for odd in odd_samples(material.log_density, unusual, N_ODD, N_REASONS)
    ]
    heads = ["sample", "log-density", "most unusual values"]
    return section("Samples of the lowest log-density", table(heads, lines), note(told))


def _reason(material: _Material, row: int, place: int, by: float, unit: str) -> str:
    feature, number = material.features[place], material.data[row, place]
    if np.isnan(number):
        value = "missing"
    else:
        value = word_of(number if feature.values is None else feature.values[int(number)])
    return f"{feature.name} = {value} ({by:.1f} {unit})"


def _fit_section(material: _Material) -> str:
    if not hasattr(material.estimator, "loss_curve_"):
        return ""
    figure = _figure(8.5, 5.0)
    FitDisplay.from_estimator(material.estimator, ax=figure.subplots())
    return section("Training", picture(figure, "Validation scores and losses by epoch"))


def _figure(width: float, height: float):
    return figure_class()(figsize=(width, height), layout="constrained")
