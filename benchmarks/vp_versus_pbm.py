"""Smoothing against pinning: which process lets a small network learn a law.

python benchmarks/vp_versus_pbm.py [--seeds N] [--steps N] [--widths W ...] [--results FOLDER]

A process sets what a plain network has to be (the score less -x, or the drift of the pinned
process), and a clock: which levels are trained on, how they are weighed, and the steps of a
sampler. Divided by their deviations both processes are the same, so that either form can be
trained by either clock; all four are, and the package's own form under both processes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from _raw_networks import CLOCKS, generate, raw_model, train
from _report import RESULTS, Report
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._core.likelihood.bound import HeldOutBound
from sklearn_dsm._core.likelihood.solvers import sample
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm.datasets import Funnel, GaussianMixtureLaw
from sklearn_dsm.metrics import (
    distance_floor,
    energy_distance,
    maximum_mean_discrepancy,
    sliced_wasserstein_distance,
)

N_TRAIN, N_FRESH, BATCH_SIZE = 20_000, 1000, 128
# The bound is a mean over so many fresh rows, the same for all models of a seed.
N_BOUND, BOUND_DRAWS = 600, 8
SAMPLER_STEPS, ODE_STEPS = 100, 24
# All models are compared at the levels that both clocks train: t from 0.001 to 0.999.
LEVELS = LogisticLevels(-6.9, 6.9)
METRICS: dict[str, Callable[..., float]] = {
    "energy": partial(energy_distance, squared=True),
    "sliced": partial(sliced_wasserstein_distance, random_state=0),
    "MMD": maximum_mean_discrepancy,
}
# Lines of the tables: the form of the network and the clock; the package's have one form.
RAW = [("smoothed", "VP"), ("smoothed", "PBM"), ("pinned", "VP"), ("pinned", "PBM")]
OWN = [("package", "VP"), ("package", "PBM")]
CONTRASTS = {
    "the two processes as they are": (RAW[0], RAW[3]),
    "the form alone, clock of VP": (RAW[0], RAW[2]),
    "the form alone, clock of PBM": (RAW[1], RAW[3]),
    "the clock alone, smoothed form": (RAW[0], RAW[1]),
    "the clock alone, pinned form": (RAW[2], RAW[3]),
    "the package's form": tuple(OWN),
}
COLOURS = dict(zip(RAW + OWN, ("C0", "C9", "C1", "C3", "0.2", "0.6"), strict=True))
FIGURES = ("bound", "energy", "energy by ODE", "sliced", "MMD")

Line = tuple[str, str]
Found = dict[tuple[Line, int], list[dict[str, float]]]


class Target(NamedTuple):
    """A law in units of its columns' deviations: rows of a seed, and pairs for the floor."""

    name: str
    draw: Callable[[int], tuple[np.ndarray, np.ndarray]]
    pool: Callable[[int, int], np.ndarray] | np.ndarray
    n_fresh: int
    truth: float = np.nan


def law_target(name: str, law: Funnel | GaussianMixtureLaw) -> Target:
    known = law.sample(N_TRAIN, 0)
    location, scale = known.mean(0), known.std(0)

    def pool(n: int, seed: int) -> np.ndarray:
        return (law.sample(n, seed) - location) / scale

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return pool(N_TRAIN, 1000 + seed), pool(N_FRESH, 2000 + seed)

    truth = float(law.log_density(law.sample(N_TRAIN, 1)).mean() + np.log(scale).sum())
    return Target(name, draw, pool, N_FRESH, truth)


def digits_target() -> Target:
    """Images of digits; grey levels get noise, which gives them and empty pixels a density."""
    pixels = load_digits().data
    pixels = pixels + 0.5 * np.random.RandomState(0).standard_normal(pixels.shape)
    pool = (pixels - pixels.mean(0)) / pixels.std(0)

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.random.RandomState(seed).permutation(pool)
        return rows[600:], rows[:600]

    return Target("digits", draw, pool, 600)


def targets() -> list[Target]:
    means = np.random.RandomState(0).uniform(-4, 4, (10, 50))
    return [
        law_target("mixture", GaussianMixtureLaw(means)),
        law_target("funnel", Funnel(50)),
        digits_target(),
    ]


def white_log_density(rows: np.ndarray) -> float:
    """Mean log-density of rows under standard normals, which all raw models start as."""
    d = rows.shape[1]
    return float(-0.5 * (d * np.log(2 * np.pi) + (rows**2).sum(1).mean()))


def raw_figures(
    line: Line, width: int, rows: np.ndarray, fresh: np.ndarray, n_steps: int, seed: int
) -> dict[str, float]:
    form, name = line
    model = raw_model(rows.shape[1], width, form == "pinned", seed)
    train(model, CLOCKS[name], torch.from_numpy(rows).float(), n_steps, BATCH_SIZE, seed)
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.from_numpy(fresh).float()
    bound = HeldOutBound.draw(held_out[:N_BOUND], LEVELS, BOUND_DRAWS, generator)
    start = torch.randn(held_out.shape, generator=generator)
    with torch.no_grad():
        gain = float(bound.gain(model).mean())
        by_ode = sample(model, start, LEVELS, ODE_STEPS).numpy()
    rows = generate(model, CLOCKS[name].process, len(fresh), SAMPLER_STEPS, seed).numpy()
    n_weights = sum(weight.numel() for weight in model.network.parameters())
    return figures(rows, by_ode, fresh, n_weights, white_log_density(fresh[:N_BOUND]) + gain)


def own_figures(
    line: Line, width: int, rows: np.ndarray, fresh: np.ndarray, n_steps: int, seed: int
) -> dict[str, float]:
    n_epochs = max(1, round(n_steps / max(32, np.ceil(0.9 * len(rows) / BATCH_SIZE))))
    density = DSMDensityEstimator(
        line[1].lower(),
        marginals="standardize",
        reference="gaussian",
        hidden_layer_sizes=(width, width),
        max_epochs=n_epochs,
        n_iter_no_change=n_epochs,
        batch_size=BATCH_SIZE,
        likelihood="identity",
        random_state=seed,
    ).fit(rows)
    by_ode = density.sample(len(fresh), random_state=seed)
    n_weights = sum(weight.size for weight in density.network_weights_.values())
    return figures(by_ode, by_ode, fresh, n_weights, density.score(fresh[:N_BOUND]))


def figures(rows, by_ode, fresh, n_weights, bound) -> dict[str, float]:
    found = {"weights": n_weights, "bound": bound}
    if not (np.isfinite(rows).all() and np.isfinite(by_ode).all()):
        return found | dict.fromkeys(FIGURES[1:], np.nan)
    found |= {name: metric(rows, fresh) for name, metric in METRICS.items()}
    ode = found["energy"] if by_ode is rows else METRICS["energy"](by_ode, fresh)
    return found | {"energy by ODE": ode}


def measured(target: Target, widths: list[int], n_seeds: int, n_steps: int) -> Found:
    found: Found = {}
    for seed in range(n_seeds):
        rows, fresh = target.draw(seed)
        for width in widths:
            for line in lines_at(width, widths):
                take = own_figures if line in OWN else raw_figures
                figure = take(line, width, rows, fresh, n_steps, seed)
                found.setdefault((line, width), []).append(figure)
    return found


def lines_at(width: int, widths: list[int]) -> list[Line]:
    """The package's form, which takes longest, is fitted at every second width."""
    return RAW + OWN if width in widths[::2] else RAW


def spread(values: list[float], digits: int) -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ±{deviation:.{digits}f}"


def report_target(report: Report, target: Target, found: Found, widths: list[int]) -> dict:
    floors = {
        name: distance_floor(metric, target.pool, target.n_fresh, random_state=0)
        for name, metric in METRICS.items()
    }
    report(f"\n{target.name}, {target.n_fresh} rows against as many fresh ones")
    report(f"{'form':<9} {'clock':<5} {'width':>5} {'weights':>7}" + header())
    floor = "".join(f"{spread(list(floors[name].values), 4):>17}" for name in METRICS)
    truth = f"{target.truth:>17.3f}" if np.isfinite(target.truth) else " " * 17
    report(
        f"{'truth, and floor of the distances':<29}" + truth + floor[:17] + " " * 17 + floor[17:]
    )
    for width in widths:
        for line in lines_at(width, widths):
            values = found[line, width]
            text = f"{line[0]:<9} {line[1]:<5} {width:>5} {values[0]['weights']:>7}"
            for name in FIGURES:
                digits = 3 if name == "bound" else 4
                text += f"{spread([value[name] for value in values], digits):>17}"
            report(text)
    return {name: floor.mean for name, floor in floors.items()}


def header() -> str:
    names = ("bound", "energy", "... by ODE", "sliced W", "MMD")
    return "".join(f"{name:>17}" for name in names)


def report_contrasts(report: Report, target: Target, found: Found, widths: list[int]) -> None:
    """Ratios of energy distances and differences of bounds, pair by pair of the same seed."""
    for kind, title in (
        ("energy", "energy distance, first over second; below 1 where the first is better"),
        ("energy by ODE", "the same, all sampled by one ODE"),
        ("bound", "likelihood bound, first less second, nats; above 0 where the first is better"),
    ):
        report(f"\n{target.name}: {title}: mean over seeds, (least, largest)")
        report(f"{'width':<32}" + "".join(f"{width:>23}" for width in widths))
        for name, (first, second) in CONTRASTS.items():
            text = f"{name:<32}"
            for width in widths:
                if (first, width) not in found:
                    text += f"{'-':>23}"
                    continue
                one, other = (
                    np.array([value[kind] for value in found[line, width]])
                    for line in (first, second)
                )
                values = one - other if kind == "bound" else one / other
                ends = f"({values.min():.2f}, {values.max():.2f})"
                text += f"{values.mean():>8.2f} {ends:>14}"
            report(text)


def draw(path: Path, results: list[tuple[Target, Found, dict]], widths: list[int]) -> None:
    figure, panels = plt.subplots(
        2, len(results), figsize=(4.2 * len(results), 7), layout="constrained", squeeze=False
    )
    for column, (target, found, floors) in zip(panels.T, results, strict=True):
        for panel, kind in zip(column, ("energy", "bound"), strict=True):
            for line in RAW + OWN:
                fitted = [width for width in widths if (line, width) in found]
                values = np.array([[v[kind] for v in found[line, width]] for width in fitted])
                deviation = values.std(1, ddof=1) if values.shape[1] > 1 else None
                panel.errorbar(
                    fitted,
                    values.mean(1),
                    deviation,
                    fmt=".--" if line in OWN else ".-",
                    color=COLOURS[line],
                    label=f"{line[0]}, clock of {line[1]}",
                )
            panel.set_xscale("log")
            panel.set_xticks(widths, [str(width) for width in widths])
            panel.minorticks_off()
            panel.set_xlabel("width of both layers")
        column[0].set_title(target.name)
        column[0].set_yscale("log")
        column[0].axhline(floors["energy"], color="black", linewidth=1, linestyle=":")
        if np.isfinite(target.truth):
            column[1].axhline(target.truth, color="black", linewidth=1, linestyle=":")
    panels[0, 0].set_ylabel("energy distance (dotted: of the law to itself)")
    panels[1, 0].set_ylabel("likelihood bound, nats (dotted: the law)")
    panels[0, 0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None, only: list[Target] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    title = "Smoothing (VP) against pinning (PBM), columns standardised"
    report = Report("vp_versus_pbm", title, options.results)
    report(
        f"{options.seeds} seeds, {options.steps} steps of {BATCH_SIZE} rows with the noise of both "
        f"signs; mean ± deviation over seeds. Samples by {SAMPLER_STEPS} Euler steps of the clock."
    )
    report(
        "Energy distances are squared; the bound is on the log-density, nats a row. The package's "
        "form also whitens the rows and averages the weights, and samples by the ODE alone."
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    results, started = [], time.process_time()
    for target in targets() if only is None else only:
        found = measured(target, options.widths, options.seeds, options.steps)
        floors = report_target(report, target, found, options.widths)
        report_contrasts(report, target, found, options.widths)
        results.append((target, found, floors))
    report(f"\n{time.process_time() - started:.0f} s of processor time in all")
    report.save()
    draw(report.path.with_suffix(".png"), results, options.widths)


if __name__ == "__main__":
    main()
