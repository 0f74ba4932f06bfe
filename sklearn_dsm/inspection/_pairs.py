"""Panels of one or two features: data against samples of a model."""

from __future__ import annotations

from itertools import product

import numpy as np

from ._axes import DATA, FILLED_DATA, MODEL
from ._columns import Feature, word_of
from ._regions import Regions

MAX_POINTS, MAX_BINS, MIN_BINS = 2000, 40, 10
# Half the distance between data and model beside each other, and half the width of a strip.
SHIFT, JITTER = 0.2, 0.12
LARGEST_CIRCLE = 500.0
MAX_LABEL, MAX_TICKS = 12, 7


def draw_marginal(ax, feature: Feature, data, samples) -> dict:
    """Histograms of both, or bars of the shares of categories; the artists by their name."""
    given = {"data": data, "model": samples}
    finite = {k: v[np.isfinite(v)] for k, v in given.items() if v is not None}
    if not finite:
        return {}
    draw = _draw_bars if feature.is_category else _draw_histograms
    return draw(ax, feature, finite)


def _draw_bars(ax, feature: Feature, finite: dict) -> dict:
    places = np.arange(len(feature.values or ()))
    artists = {}
    for name, values in finite.items():
        shares = np.bincount(values.astype(int), minlength=len(places)) / max(1, len(values))
        shift, colour = (-SHIFT, DATA) if name == "data" else (SHIFT, MODEL)
        artists[name] = ax.bar(places + shift, shares, 2 * SHIFT, color=colour, label=name)
    label_categories(ax.xaxis, feature)
    return artists


def _draw_histograms(ax, feature: Feature, finite: dict) -> dict:
    artists, edges = {}, bins_of(feature, ax.get_xlim(), len(next(iter(finite.values()))))
    for name, values in finite.items():
        # Shares of all values, those beyond the panel as well.
        heights = np.histogram(values, edges)[0] / (max(1, len(values)) * np.diff(edges))
        if name == "data":
            artists[name] = ax.stairs(heights, edges, fill=True, color=DATA, alpha=0.7, label=name)
        else:
            artists[name] = ax.stairs(heights, edges, color=MODEL, linewidth=1.4, label=name)
    return artists


def bins_of(feature: Feature, limits, n: int) -> np.ndarray:
    """Edges of the bins of a histogram: whole steps where numbers are on a grid."""
    low, high = limits
    n_bins = int(np.clip(2 * n ** (1 / 3), MIN_BINS, MAX_BINS))
    if feature.step is None:
        return np.linspace(low, high, n_bins + 1)
    width = feature.step * max(1, round((high - low) / (n_bins * feature.step)))
    start = (np.floor(low / feature.step) - 0.5) * feature.step
    return np.arange(start, high + width, width)


def draw_pair(ax, features: tuple[Feature, Feature], data, samples, regions, kind) -> dict:
    """Data and model over two features (x and y), by the artists' names."""
    n_categories = sum(feature.is_category for feature in features)
    if n_categories == 2:
        return _draw_circles(ax, features, data, samples)
    if n_categories == 1:
        return _draw_strips(ax, features, data, samples)
    return _draw_regions(ax, data, regions, kind)


def _draw_regions(ax, data, regions: Regions, kind: str) -> dict:
    from matplotlib import colormaps

    artists = {}
    levels = np.unique(regions.levels[regions.levels > 0])
    shades = colormaps["Blues"](np.linspace(0.5, 1.0, len(levels)) if len(levels) > 1 else [0.8])
    if data is not None:
        over = 3 if kind == "filled" else 1
        x, y = thinned(data)
        style = {"s": 4, "color": DATA if kind == "line" else FILLED_DATA, "linewidths": 0}
        artists["data"] = ax.scatter(x, y, alpha=0.6, zorder=over, rasterized=True, **style)
    if len(levels) and kind == "filled":
        ends = [*levels, max(regions.density.max(), levels[-1]) * 1.001]
        shades = colormaps["Blues"](np.linspace(0.25, 0.75, len(levels)))
        artists["model"] = ax.contourf(*regions[:3], levels=ends, colors=shades, zorder=2)
    elif len(levels):
        artists["model"] = ax.contour(
            *regions[:3], levels=levels, colors=shades, linewidths=1.3, zorder=2
        )
    return artists


def _draw_strips(ax, features, data, samples) -> dict:
    """By category: data as points, the middle half and nine tenths of the samples as bars."""
    along = 0 if features[0].is_category else 1
    n = len(features[along].values)
    artists = {}
    if data is not None:
        places, numbers = thinned(data)[[along, 1 - along]]
        jitter = np.random.default_rng(0).uniform(-JITTER, JITTER, len(places))
        points = _turned(places - SHIFT + jitter, numbers, along)
        artists["data"] = ax.scatter(*points, s=4, color=DATA, alpha=0.6, linewidths=0)
    artists["model"] = []
    # Bars of many categories would cover each other.
    width = min(5.0, 24.0 / n)
    for k in range(n):
        numbers = samples[samples[:, along] == k, 1 - along]
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            continue
        low, first, middle, third, high = np.quantile(numbers, [0.05, 0.25, 0.5, 0.75, 0.95])
        place = np.full(2, k + SHIFT)
        artists["model"] += [
            *ax.plot(*_turned(place, np.array([low, high]), along), color=MODEL, linewidth=0.8),
            *ax.plot(
                *_turned(place, np.array([first, third]), along),
                color=MODEL,
                linewidth=width,
                solid_capstyle="butt",
            ),
            *ax.plot(
                *_turned(place[:1], np.array([middle]), along),
                color="white",
                marker="o",
                markersize=0.6 * width,
            ),
        ]
    label_categories((ax.xaxis, ax.yaxis)[along], features[along])
    return artists


def _turned(places, numbers, along: int):
    return (places, numbers) if along == 0 else (numbers, places)


def _draw_circles(ax, features, data, samples) -> dict:
    """Areas are the shares of pairs of categories: discs of the data, rings of the model."""
    shape = tuple(len(feature.values) for feature in features)
    places = np.array(list(product(*map(range, shape))), dtype=float)
    artists, tables = {}, {"data": data, "model": samples}
    shares = {k: _shares(table, shape) for k, table in tables.items() if table is not None}
    largest = max(float(share.max()) for share in shares.values()) or 1.0
    for name, share in shares.items():
        sizes = LARGEST_CIRCLE * share.ravel() / largest / max(shape) ** 0.5
        colours = {"color": DATA} if name == "data" else {"facecolors": "none", "edgecolors": MODEL}
        artists[name] = ax.scatter(*places.T, s=sizes, linewidths=1.2, **colours)
    for axis, feature in zip((ax.xaxis, ax.yaxis), features, strict=True):
        label_categories(axis, feature)
    return artists


def _shares(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    table = table[np.isfinite(table).all(axis=1)].astype(int)
    counts = np.bincount(np.ravel_multi_index(table.T, shape), minlength=int(np.prod(shape)))
    return counts.reshape(shape) / max(1, len(table))


def thinned(data: np.ndarray) -> np.ndarray:
    """Columns (2, n) of evenly spaced samples (n, 2): more points would cover each other."""
    return data[:: max(1, -(-len(data) // MAX_POINTS))].T


def label_categories(axis, feature: Feature) -> None:
    """Ticks with the names of categories, shortened where long, and of some where they are many."""
    values = feature.values or ()
    step = -(-len(values) // MAX_TICKS)
    labels = [_shortened(word_of(value)) for value in values[::step]]
    axis.set_ticks(range(0, len(values), step), labels)
    if axis.axis_name == "x" and (len(labels) > 3 or max(map(len, labels), default=0) > 5):
        for label in axis.get_ticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"
