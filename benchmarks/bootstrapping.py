"""Bootstrapped score matching against denoising: level by level, in a network, by dimension.

python benchmarks/bootstrapping.py [--replicates N] [--seeds N] [--epochs N] [--rows N ...]
    [--dimensions D ...] [--results FOLDER]

Three parts: regressions level by level on random features, with one path of noise a row; one
network for all levels; and the error of that network as columns without structure are added.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from _ladders import at_time, ladder_errors, network_regression, score_mse, wave_regression
from _report import RESULTS, Report
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm import BSM, VP, DSMDensityEstimator
from sklearn_dsm._transforms.chain import Chain
from sklearn_dsm._transforms.fitting import as_affine
from sklearn_dsm.datasets import GaussianMixtureLaw

TIMES = (0.4, 0.8, 1.6)
LADDERS = {
    "ratio 2": [1.6 / 2**k for k in range(5, -1, -1)],
    # Levels at the times that are compared, and others so that no ratio is above 1.3.
    "ratio 1.3": [t * 2 ** (k / 3) for t in (0.05, 0.1, 0.2, 0.4, 0.8) for k in range(3)] + [1.6],
    "step .05": [round(0.05 * k, 2) for k in range(1, 33)],
}
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
# Where networks are compared; the first of these is also where modes are apart.
NETWORK_TIMES = (0.1, *TIMES)
# With few rows the best weights come early, so that bootstrapping has to begin early too.
N_PLAIN_STEPS = 100
LOSSES = {
    "dsm": "dsm",
    "bsm 2": BSM(ratio=2.0, n_plain_steps=N_PLAIN_STEPS),
    "bsm 1.3": BSM(ratio=1.3, n_plain_steps=N_PLAIN_STEPS),
}
MODE, N_ROWS, N_TEST, N_BOUND = 0.9, 2000, 2000, 1000


def four_modes() -> GaussianMixtureLaw:
    """Deviations of .4 around the corners of a square of side 2."""
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1.0]])
    return GaussianMixtureLaw(corners, np.array([0.16 * np.eye(2)] * 4))


def modes_along_two(d: int) -> GaussianMixtureLaw:
    """Zero mean and unit covariance; four modes in two columns, independent normals beside."""
    means, covariance = np.zeros((4, d)), np.eye(d)
    means[:, :2] = MODE * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    covariance[[0, 1], [0, 1]] -= MODE**2
    return GaussianMixtureLaw(means, np.array([covariance] * 4))


def report_ratios(report: Report, label: str, errors: Sequence[np.ndarray]) -> np.ndarray:
    """A line of ratios of mean errors, with standard errors over replicates."""
    denoised, bootstrapped = np.moveaxis(np.array(errors), -1, 0)
    ratio = bootstrapped.mean(0) / denoised.mean(0)
    deviation = (bootstrapped - ratio * denoised).std(0, ddof=1) / np.sqrt(len(errors))
    line = f"{label:<44}"
    for value, error, own in zip(
        ratio, deviation / denoised.mean(0), denoised.mean(0), strict=True
    ):
        line += f"   {value:5.2f} (±{error:.2f}) of {own:.4f}"
    report(line)
    return ratio


def ladders_part(
    report: Report, sizes: Sequence[int], n_replicates: int
) -> dict[tuple, np.ndarray]:
    report("Level by level, four modes in two columns: squared error of the score, bootstrapped")
    report("over denoised (± one standard error) of the denoised one's, at t = .4, .8 and 1.6.")
    report("Ridge regression on 200 random waves, one path of noise a row:")
    law, found = four_modes(), {}
    for n in sizes:
        for name, times in LADDERS.items():
            for ridge in RIDGES:
                errors = [
                    ladder_errors(law, n, times, TIMES, wave_regression(2, ridge, seed), seed)
                    for seed in range(n_replicates)
                ]
                label = f"  {n:>4} rows, {name:<9}, ridge {ridge:g}"
                found[n, name, ridge] = report_ratios(report, label, errors)
    report("The same with more paths of noise a row, ridge 0.001:")
    for n_paths in (10, 50):
        errors = [
            ladder_errors(
                law,
                sizes[0],
                LADDERS["ratio 2"],
                TIMES,
                wave_regression(2, 1e-3, seed),
                seed,
                n_paths,
            )
            for seed in range(n_replicates)
        ]
        report_ratios(report, f"  {sizes[0]:>4} rows, ratio 2  , {n_paths} paths", errors)
    report("A network of two layers at each level, one path of noise a row:")
    for n in sizes:
        errors = [
            ladder_errors(law, n, LADDERS["ratio 2"], TIMES, network_regression(seed), seed)
            for seed in range(max(2, n_replicates // 3))
        ]
        report_ratios(report, f"  {n:>4} rows, ratio 2", errors)
    return found


class Errors(NamedTuple):
    """Squared errors of scores by time: in all columns, in the first two, and the reference's."""

    total: list[float]
    modes: list[float]
    reference: list[float]


def network_errors(density: DSMDensityEstimator, law: GaussianMixtureLaw, seed: int) -> Errors:
    """At rows noised in the fit's own white space, in the units of the input."""
    shift, matrix = as_affine(Chain.from_arrays(density.latent_map_))
    covariances = matrix.T @ law.covariances @ matrix
    white = GaussianMixtureLaw((law.means - shift) @ matrix, covariances)
    random, found = np.random.default_rng(seed), Errors([], [], [])
    for moment in NETWORK_TIMES:
        level = at_time(moment)
        a, v = float(level.a), float(level.v)
        rows = white.sample(N_TEST, random)
        rows = a * rows + np.sqrt(v) * random.standard_normal(rows.shape)
        truth = white.noised_score(rows, a, v) @ matrix.T
        process_time = float(VP().time(level.log_snr))
        score = density.stein_score(rows @ np.linalg.inv(matrix) + shift, process_time)
        found.total.append(score_mse(score, truth))
        found.modes.append(score_mse(score[:, :2], truth[:, :2]))
        found.reference.append(score_mse(-rows @ matrix.T, truth))
    return found


def fitted(loss, rows: np.ndarray, n_epochs: int, seed: int) -> DSMDensityEstimator:
    return DSMDensityEstimator(
        "vp",
        loss=loss,
        marginals="standardize",
        reference="gaussian",
        hidden_layer_sizes=(64, 64),
        batch_size=256,
        max_epochs=n_epochs,
        likelihood="identity",
        random_state=seed,
    ).fit(rows)


def networks_part(
    report: Report, sizes: Sequence[int], n_seeds: int, n_epochs: int
) -> dict[tuple, np.ndarray]:
    report(
        "\nOne network for all levels, fresh noise at every step, the same law: squared error of"
    )
    report(
        "the score at t = .1, .4, .8 and 1.6, and held-out bound, nats; "
        f"{n_seeds} seeds, ± deviation."
    )
    law, found = four_modes(), {}
    fresh = law.sample(N_BOUND, 10**6)
    report(f"  truth: {law.log_density(fresh).mean():.4f} nats")
    for n in sizes:
        plain: np.ndarray | None = None
        for name, loss in LOSSES.items():
            figures = []
            for seed in range(n_seeds):
                density = fitted(loss, law.sample(n, seed), n_epochs, seed)
                errors = network_errors(density, law, seed).total
                figures.append([*errors, density.score(fresh)])
            values = found[n, name] = np.array(figures)
            plain = values if plain is None else plain
            line = f"  {n:>5} rows, {name:<8}"
            for column in values.T:
                line += f"   {column.mean():8.4f} ±{column.std(ddof=1):.4f}"
            if name != "dsm":
                ratio = values[:, :-1].mean(0) / plain[:, :-1].mean(0)
                gain = values[:, -1] - plain[:, -1]
                line += "   over dsm " + " ".join(f"{value:.2f}" for value in ratio)
                line += f", bound {gain.mean():+.4f} ±{gain.std(ddof=1):.4f}"
            report(line)
    return found


def dimensions_part(
    report: Report, dimensions: Sequence[int], n_seeds: int, n_epochs: int
) -> dict[str, np.ndarray]:
    report(
        f"\nBy dimension: {N_ROWS} rows, four modes in two columns and independent normals in the"
    )
    report("others. Squared error of the score at t = .1 and .4 in all columns, in the two with")
    report(f"modes, and per other column; the fitted Gaussian's alone in all; {n_seeds} seeds.")
    heads = [
        f"{f't = {t:g}: all':>17}{'modes':>9}{'other':>9}{'Gaussian':>10}"
        for t in NETWORK_TIMES[:2]
    ]
    report(" " * 21 + "".join(heads))
    found: dict[str, list] = {"dsm": [], "bsm 2": []}
    for d in dimensions:
        law = modes_along_two(d)
        for name, values in found.items():
            runs = []
            for seed in range(n_seeds):
                density = fitted(LOSSES[name], law.sample(N_ROWS, seed), n_epochs, seed)
                runs.append(np.array(network_errors(density, law, seed)))
            values.append(np.array(runs))
            line = f"  {d:>3} columns, {name:<6}"
            for moment in (0, 1):
                total, modes, reference = np.array(runs)[:, :, moment].T
                other = (total - modes).mean() / (d - 2) if d > 2 else np.nan
                line += f"{total.mean():>10.3f} ±{total.std(ddof=1):.3f}{modes.mean():>9.3f}"
                line += f"{other:>9.4f}{reference.mean():>10.3f}"
            report(line)
    for name, values in found.items():
        line = f"  {name:<6} growth with the dimension from {dimensions[-4:][0]} on, power:"
        for label, part in (("all columns", 0), ("columns with modes", 1)):
            errors = np.array(values)[-4:, :, part].mean(1)
            slopes = np.polyfit(np.log(dimensions[-4:]), np.log(errors), 1)[0]
            line += f"  {label} {slopes[0]:.2f} and {slopes[1]:.2f}"
        report(line)
    return {name: np.array(values) for name, values in found.items()}


def draw(
    path: Path, ladders: dict, networks: dict, by_dimension: dict, options: argparse.Namespace
) -> None:
    sizes, dimensions = options.rows, options.dimensions
    figure, panels = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    colours = dict(zip(RIDGES, plt.cm.viridis(np.linspace(0, 0.9, len(RIDGES))), strict=True))
    for (n, name, ridge), ratio in ladders.items():
        if n == sizes[0] and name != "ratio 1.3":
            style = "-" if name == "ratio 2" else "--"
            panels[0].plot(
                TIMES, ratio, style, color=colours[ridge], marker=".", label=f"{name}, {ridge:g}"
            )
    panels[0].set_title(f"random features, {sizes[0]} rows, one path each", fontsize="medium")
    panels[0].legend(title="ladder, ridge", fontsize="small", ncols=2, loc="lower left")
    for (n, name), values in networks.items():
        if name != "dsm":
            ratio = values[:, :-1].mean(0) / networks[n, "dsm"][:, :-1].mean(0)
            style = "-" if name == "bsm 2" else "--"
            label = f"{n} rows, ratio {name[4:]}"
            colour = f"C{sizes.index(n)}"
            panels[1].plot(NETWORK_TIMES, ratio, style, color=colour, marker=".", label=label)
    panels[1].set_title("one network, fresh noise", fontsize="medium")
    panels[1].legend(fontsize="small")
    for panel, times in zip(panels, (TIMES, NETWORK_TIMES), strict=False):
        panel.axhline(1, color="black", linewidth=1)
        panel.set_xscale("log")
        panel.set_xticks(times, [f"{t:g}" for t in times])
        panel.minorticks_off()
        panel.set_xlabel("Ornstein-Uhlenbeck time")
    panels[0].set_yscale("log")
    # Room for the legend.
    panels[0].set_ylim(bottom=panels[0].get_ylim()[0] / 8)
    panels[0].set_ylabel("error of the score, bootstrapped / denoised")
    for (name, values), colour in zip(by_dimension.items(), ("C0", "C3"), strict=True):
        panels[2].plot(dimensions, values[:, :, 0, 0].mean(1), "-o", color=colour, label=name)
        panels[2].plot(
            dimensions, values[:, :, 1, 0].mean(1), ":o", color=colour, label=f"{name}, in two"
        )
    gaussian = by_dimension["dsm"][:, :, 2, 0].mean(1)
    panels[2].plot(dimensions, gaussian, "--", color="0.5", label="the Gaussian alone")
    panels[2].set_xscale("log")
    panels[2].set_yscale("log")
    panels[2].set_xlabel("columns, two of which have modes")
    panels[2].set_ylabel("squared error of the score at t = .1")
    panels[2].set_title(f"{N_ROWS} rows", fontsize="medium")
    panels[2].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rows", type=int, nargs="+", default=[300, 2000, 20_000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 5, 10, 20, 50, 100, 200])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    started = time.process_time()
    title = "Bootstrapped score matching (BSM) against denoising (DSM)"
    report = Report("bootstrapping", title, options.results)
    ladders = ladders_part(report, options.rows[:2], options.replicates)
    networks = networks_part(report, options.rows, options.seeds, options.epochs)
    n_seeds = max(2, options.seeds - 2)
    by_dimension = dimensions_part(report, options.dimensions, n_seeds, options.epochs)
    report(f"\n{time.process_time() - started:.0f} s of processor time in all")
    report.save()
    draw(report.path.with_suffix(".png"), ladders, networks, by_dimension, options)


if __name__ == "__main__":
    main()
