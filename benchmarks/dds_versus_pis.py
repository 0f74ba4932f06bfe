"""Smoothing against pinning: which sampler of an unnormalised density needs the smaller network.

python benchmarks/dds_versus_pis.py [--seeds N] [--steps N] [--widths W ...] [--results FOLDER]

DDS reverses an Ornstein-Uhlenbeck process, which smooths the target into a normal distribution. PIS
follows the Föllmer drift of a Brownian motion that starts at a point. Both have the same network,
number of steps, loss, training steps and prior scale. They are trained with and without the
gradient of the log-density as an input of the network.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from _report import RESULTS, Report

from sklearn_dsm import DiffusionSampler
from sklearn_dsm.datasets import Funnel, GaussianMixtureLaw, SeedsPosterior
from sklearn_dsm.metrics import energy_distance

N_DRAWS, BATCH_SIZE, N_STEPS = 2000, 128, 16
METHODS = ("dds", "pis")
COLOURS = {"dds": "C0", "pis": "C3"}
FIGURES = ("gap", "error", "ess", "energy")


class Case(NamedTuple):
    """A target with a known normalising constant, draws where there are any, and a prior scale."""

    name: str
    target: Any
    draw: Callable[[int], np.ndarray] | None
    prior_scale: Any


def cases() -> list[Case]:
    """A funnel and a mixture in ten features, and a posterior in 26."""
    mixture = GaussianMixtureLaw(np.random.RandomState(0).uniform(-4, 4, (10, 10)))
    funnel = Funnel(10)
    return [
        Case("funnel", funnel, partial(draws_of, funnel), 1.0),
        Case("mixture", mixture, partial(draws_of, mixture), 3.0),
        Case("posterior", SeedsPosterior(), None, "auto"),
    ]


def draws_of(law, seed: int) -> np.ndarray:
    return law.sample(N_DRAWS, seed)


def plain(target) -> Callable:
    """The log-density as a function of arrays, whose gradient no sampler sees."""

    def log_density(x):
        return target.log_density(np.asarray(x))

    return log_density


def outcome(case: Case, method: str, guided: bool, width: int, n_steps: int, seed: int) -> dict:
    """One fit: the gap of the bound, the error of log Z, effective paths, energy distance."""
    target = case.target
    sampler = DiffusionSampler(
        target.log_density if guided else plain(target),
        n_features=target.n_features,
        method=method,
        prior_scale=case.prior_scale,
        hidden_layer_sizes=(width, width),
        max_iter=n_steps,
        batch_size=BATCH_SIZE,
        n_steps=N_STEPS,
        random_state=seed,
    ).fit()
    truth = getattr(target, "log_normalizer", 0.0)
    found = {
        "gap": truth - sampler.elbo_,
        "error": sampler.log_normalizer_ - truth,
        "ess": sampler.ess_,
        "energy": np.nan,
    }
    if case.draw is not None:
        rows = sampler.sample(N_DRAWS, random_state=seed)
        found["energy"] = energy_distance(rows, case.draw(seed + 1), squared=True)
    return found


def spread(found: list[dict], name: str) -> str:
    values = np.array([each[name] for each in found])
    if np.isnan(values).all():
        return f"{'-':>18}"
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():>10.3f} ±{deviation:<6.3f}"


def draw(path: Path, results: dict, widths: list[int]) -> None:
    names = list(dict.fromkeys(name for name, *_ in results))
    figure, panels = plt.subplots(
        1, len(names), figsize=(4 * len(names), 3.6), layout="constrained", squeeze=False
    )
    for panel, name in zip(panels[0], names, strict=True):
        for method in METHODS:
            for guided in (True, False):
                values = np.array(
                    [[e["gap"] for e in results[name, method, guided, w]] for w in widths]
                )
                label = f"{method.upper()}, {'with' if guided else 'without'} gradients"
                panel.plot(
                    widths,
                    values.mean(1),
                    marker="o" if guided else "s",
                    linestyle="-" if guided else "--",
                    color=COLOURS[method],
                    label=label,
                )
                panel.fill_between(
                    widths, values.min(1), values.max(1), color=COLOURS[method], alpha=0.15, lw=0
                )
        panel.set_xscale("log", base=2)
        panel.set_xticks(widths, [str(w) for w in widths])
        panel.set_yscale("log")
        panel.set_xlabel("width of both layers")
        panel.set_title(name)
    panels[0, 0].set_ylabel("log Z less the bound, nats")
    panels[0, 0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None, only: list[Case] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    report = Report("dds_versus_pis", "Smoothing (DDS) against pinning (PIS)", options.results)
    report(
        f"{options.seeds} seeds, {options.steps} training steps of {BATCH_SIZE} paths of "
        f"{N_STEPS} steps; mean ± deviation over seeds.\n"
        "Gap: log Z less the evidence lower bound. Energy: squared energy distance to draws."
    )
    warnings.simplefilter("ignore")
    results, started = {}, time.process_time()
    for case in cases() if only is None else only:
        report(f"\n{case.name}, {case.target.n_features} features")
        report(
            f"{'method':<7} {'gradients':<10} {'width':>5}"
            + "".join(f"{name:>18}" for name in FIGURES)
        )
        for guided in (True, False):
            for width in options.widths:
                for method in METHODS:
                    found = [
                        outcome(case, method, guided, width, options.steps, seed)
                        for seed in range(options.seeds)
                    ]
                    results[case.name, method, guided, width] = found
                    report(
                        f"{method:<7} {'yes' if guided else 'no':<10} {width:>5}"
                        + "".join(spread(found, name) for name in FIGURES)
                    )
    report(f"\n{time.process_time() - started:.0f} s of processor time in all")
    report.save()
    draw(report.path.with_suffix(".png"), results, options.widths)


if __name__ == "__main__":
    main()
