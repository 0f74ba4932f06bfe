"""Local curvature smoothing: where it agrees with the exact trace, what it costs, where it breaks.

python benchmarks/curvature.py [--tiny]

Fits are bare: all steps of all losses are the same in number, size and precision, and no
held-out rows choose weights or correct what a loss gets wrong.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from _noised_laws import noise_errors, ring
from _report import RESULTS, Report

from sklearn_dsm import DSM, ISM, LCSS, SSM
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.losses.loss import NoisedRows, ScoreLoss, TrainingRows
from sklearn_dsm._core.losses.registry import LOSSES
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LevelLaw, LogisticLevels, SingleLevel
from sklearn_dsm._core.precision import half_precision
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork
from sklearn_dsm._training import TrainingSettings, train_module
from sklearn_dsm.datasets import GaussianMixtureLaw

LEVELS = LogisticLevels(-12.0, 13.8)
LOG_SNRS = (-6, -4, -2, 0, 2, 4, 6, 8)
WIDTHS, BATCH, LEARNING_RATE = (64, 64), 512, 8e-3
DEEP, SHALLOW = (128, 128, 128, 128), (128, 128)
TIMED = ("dsm", "lcss", "fd_ssm", "ssm", "ssm_vr", "ism")
# Modes at +-sqrt(1 - w^2), of this deviation w; single fits add noise that is far below it.
MODE_WIDTHS, CLEAN_LOG_SNR = (0.3, 0.15), 12.0
VARIANTS = {
    "clean norm, two-sided": {},
    "clean norm, one-sided": {"two_sided": False},
    "noisy norm, two-sided": {"norm_at": "noisy"},
    "noisy norm, one-sided": {"norm_at": "noisy", "two_sided": False},
}


class Size(NamedTuple):
    """How much is done."""

    n_rows: int = 10_000
    n_test: int = 20_000
    seeds: int = 2
    all_levels_epochs: int = 25
    one_level_epochs: int = 12
    sigmas: Sequence[float] = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0)
    shares: Sequence[float] = (1 / 30, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
    columns: Sequence[int] = (2, 5, 10, 25, 50, 100, 200)
    n_repeats: int = 5


TINY = Size(500, 500, 1, 1, 1, (0.1, 0.5), (0.1, 1.0), (2, 5), 1)


class LastWeights:
    """Keeps the last averaged weights, whatever they are."""

    baseline = -math.inf

    def __init__(self) -> None:
        self.n_epochs = 0

    def measure(self, module):
        self.n_epochs += 1
        return float(self.n_epochs), module.state_dict()

    def restore(self, module, state) -> None:
        module.load_state_dict(state)


def fresh(d: int, widths: Sequence[int], seed: int) -> CorrectedScore:
    """A white Gaussian with an untrained correction."""
    network = ScoreNetwork(d, widths, torch_generator(seed))
    return CorrectedScore(GaussianScore(torch.zeros(d), torch.eye(d)), network)


def fitted(
    loss: ScoreLoss, levels: LevelLaw, X: np.ndarray, n_epochs: int, seed: int
) -> CorrectedScore:
    """A network trained by a loss on rows of about unit variance, in float64 to evaluate."""
    rows, generator = torch.from_numpy(X).float(), torch_generator(seed)
    model, objective = fresh(X.shape[1], WIDTHS, seed), loss

    def batch_loss(model, rows, weight):
        return objective(model, TrainingRows(rows, weight), levels, generator)

    settings = TrainingSettings(n_epochs, BATCH, LEARNING_RATE, n_iter_no_change=n_epochs)
    data = rows, torch.ones(len(rows))
    record = train_module(model, batch_loss, data, LastWeights(), settings, generator)
    if record.stop_reason == "interrupted":
        raise KeyboardInterrupt
    assert record.weights is not None
    model.load_state_dict({k: torch.from_numpy(v) for k, v in record.weights.items()})
    return model.double().eval()


@torch.no_grad()
def score_of(model: CorrectedScore, X: np.ndarray, a: float, v: float) -> np.ndarray:
    level = NoiseLevel(*torch.tensor([a, v], dtype=torch.float64))
    return model.score(torch.from_numpy(X), level).numpy()


@torch.no_grad()
def integrands(loss: ScoreLoss, model: CorrectedScore, X: np.ndarray) -> torch.Tensor:
    """The loss of every row, in nats, noised to the same levels with the same noise each time."""
    rows, generator = torch.from_numpy(X), torch_generator(0)
    log_snr = LEVELS.stratified(len(rows), generator, rows)[:, None]
    noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    batch = NoisedRows(rows[:, None], noise[:, None], log_snr)
    product, square = loss.batch_terms(model, batch, generator)
    return ((square / 2 - product) * LEVELS.importance(log_snr)).squeeze(1)


def agreement(report: Report, size: Size) -> dict[str, list]:
    """Over all levels: the loss's value beside the exact one, and the scores that are learned."""
    law = ring()
    report("Agreement with ism over all levels: ring of 8 narrow modes, 2 columns")
    report(f"{size.n_rows} rows, layers {WIDTHS}, {size.all_levels_epochs} epochs of 32 steps")
    learned = fitted(DSM(), LEVELS, law.sample(size.n_rows, 0), size.all_levels_epochs, 0)
    test = law.sample(size.n_test, 100)
    exact = float(integrands(ISM(), learned, test).mean())
    report(f"value of ism at the network that dsm learned: {exact:.4f} nats a row")
    # Along the same directions; its expectation is that of ism, and noise common to both cancels.
    sliced = integrands(SSM(variance_reduced=True, direction="gaussian"), learned, test)

    def error(loss: ScoreLoss) -> float:
        found = []
        for seed in range(size.seeds):
            X = law.sample(size.n_rows, seed)
            model = fitted(loss, LEVELS, X, size.all_levels_epochs, seed)

            def score(Z, a, v, model=model):
                return score_of(model, Z, a, v)

            errors = noise_errors(score, law, test[:4000], LOG_SNRS, seed)
            found.append(float(np.sqrt(np.mean(errors**2))))
        return float(np.mean(found))

    figures: dict[str, list] = {"sigma": list(size.sigmas), "gap": [], "gap error": []}
    figures |= {"two-sided": [], "one-sided": []}
    figures |= {"ism": [error(ISM())], "dsm": [error(DSM())]}
    report(
        f"error of the predicted noise: ism {figures['ism'][0]:.4f}, dsm {figures['dsm'][0]:.4f}"
    )
    report(f"{'sigma':>7}{'lcss - ism, nats (s.e.)':>28}{'error two-sided':>18}{'one-sided':>12}")
    for sigma in size.sigmas:
        gaps = integrands(LCSS(sigma=sigma), learned, test) - sliced
        gap, gap_error = float(gaps.mean()), float(gaps.std()) / math.sqrt(len(gaps))
        two, one = (error(LCSS(sigma=sigma, two_sided=sides)) for sides in (True, False))
        report(f"{sigma:>7g}{gap:>18.4f} ({gap_error:.4f}){two:>18.4f}{one:>12.4f}")
        for name, value in zip(
            ("gap", "gap error", "two-sided", "one-sided"), (gap, gap_error, two, one), strict=True
        ):
            figures[name].append(value)
    return figures


def step_seconds(d: int, widths: Sequence[int], n_repeats: int) -> dict[str, float]:
    """Median seconds of a training step by loss, the losses taking turns."""
    model, generator = fresh(d, widths, 0), torch_generator(1)
    optimizer = torch.optim.AdamW(model.network.parameters(), fused=True)
    rows, weight = torch.randn(BATCH, d, generator=generator), torch.ones(BATCH)
    seconds: dict[str, list[float]] = {name: [] for name in TIMED}
    for _ in range(n_repeats + 1):
        for name in TIMED:
            loss = LOSSES[name]()
            started = time.perf_counter()
            with half_precision(rows.device, loss.half_precision):
                value = loss(model, TrainingRows(rows, weight), LEVELS, generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def cost(report: Report, size: Size) -> dict[str, list[dict[str, float]]]:
    """Time of a step as columns are added."""
    figures = {}
    for widths in (DEEP, SHALLOW):
        report("")
        report(f"Milliseconds of a step by columns: layers {widths}, {BATCH} rows noised twice")
        report(f"{'columns':>7}" + "".join(f"{name:>9}" for name in TIMED) + "   ism / lcss")
        found = [step_seconds(d, widths, size.n_repeats) for d in size.columns]
        for d, seconds in zip(size.columns, found, strict=True):
            line = "".join(f"{1e3 * seconds[name]:>9.1f}" for name in TIMED)
            report(f"{d:>7}{line}{seconds['ism'] / seconds['lcss']:>13.2f}")
        figures[str(widths)] = found
    return figures


def two_modes(width: float) -> GaussianMixtureLaw:
    m = math.sqrt(1 - width**2)
    return GaussianMixtureLaw([[-m], [m]], np.full((2, 1, 1), width**2))


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


def single_errors(width: float, share: float | None, size: Size) -> dict[str, float]:
    """Relative errors of the clean score, for a smoothing of this share of a mode's width.

    Without one, that of the exact trace.
    """
    law = two_modes(width)
    test = law.sample(size.n_test, 100)
    exact, clean = law.score(test), SingleLevel(CLEAN_LOG_SNR)
    found: dict[str, list[float]] = {}
    for seed in range(size.seeds):
        X = law.sample(size.n_rows, seed)

        def error(loss: ScoreLoss, level: SingleLevel, X=X, seed=seed) -> float:
            model = fitted(loss, level, X, size.one_level_epochs, seed)
            v = 1 / (1 + math.exp(level.log_snr))
            a = math.sqrt(1 - v)
            # A row x stands for a x there, whose score is the smoothed law's over a.
            return relative(a * score_of(model, a * test, a, v), exact)

        if share is None:
            found.setdefault("ism", []).append(error(ISM(), clean))
            continue
        delta = share * width
        sigma = delta * math.sqrt(1 + math.exp(CLEAN_LOG_SNR))
        losses = {name: LCSS(sigma=sigma, **options) for name, options in VARIANTS.items()}
        for name, loss in losses.items():
            found.setdefault(name, []).append(error(loss, clean))
        smooth = SingleLevel(-2 * math.log(delta))
        found.setdefault("dsm", []).append(error(DSM(), smooth))
    return {name: float(np.mean(values)) for name, values in found.items()}


def minimisers(width: float, share: float, size: Size) -> tuple[float, float]:
    """Relative errors of what the clean and the noisy norm aim at, with all rows there are."""
    law = two_modes(width)
    test, v = law.sample(size.n_test, 100), (share * width) ** 2
    ratio = np.exp(law.noised_log_density(test, 1.0, v) - law.log_density(test))
    smooth, exact = law.noised_score(test, 1.0, v), law.score(test)
    return relative(smooth * ratio[:, None], exact), relative(smooth, exact)


def breaking(report: Report, size: Size) -> dict[float, list[dict[str, float]]]:
    """At one level: relative error of the score as the smoothing reaches a mode's width."""
    figures = {}
    names = [*VARIANTS, "dsm"]
    for width in MODE_WIDTHS:
        report("")
        exact = single_errors(width, None, size)["ism"]
        report(
            f"Two modes of width {width:g}, {size.n_rows} rows, one level: relative error of the "
            f"score; ism {exact:.3f}"
        )
        report(
            f"{'sigma/w':>8}"
            + "".join(f"{name:>23}" for name in names)
            + "   aims: clean norm, noisy norm or dsm"
        )
        found = []
        for share in size.shares:
            errors = single_errors(width, share, size)
            aims = minimisers(width, share, size)
            report(
                f"{share:>8.3f}"
                + "".join(f"{errors[name]:>23.3f}" for name in names)
                + f"{aims[0]:>20.3f}{aims[1]:>22.3f}"
            )
            found.append(errors | {"ism": exact, "clean aim": aims[0], "noisy aim": aims[1]})
        figures[width] = found
    return figures


def draw(size: Size, near: dict, costs: dict, broken: dict, path: Path) -> None:
    figure, panels = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
    draw_agreement(panels[0, 0], panels[1, 0], near)
    for panel, (widths, found) in zip(panels[:, 1], costs.items(), strict=True):
        for name in TIMED:
            panel.plot(size.columns, [1e3 * s[name] for s in found], "o-", markersize=4, label=name)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("columns")
        panel.set_ylabel("milliseconds of a step")
        panel.set_title(f"layers {widths}", fontsize="medium")
    for panel, (width, found) in zip(panels[:, 2], broken.items(), strict=True):
        draw_breaking(panel, size.shares, found, width)
    for panel in panels.flat:
        panel.grid(alpha=0.3)
        panel.legend(fontsize="x-small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_agreement(upper, lower, near: dict) -> None:
    sigma = np.array(near["sigma"])
    gap = np.abs(near["gap"])
    upper.errorbar(sigma, gap, near["gap error"], fmt="o-", markersize=4, label="|lcss - ism|")
    middle = len(sigma) // 2
    upper.plot(sigma, gap[middle] * (sigma / sigma[middle]) ** 2, "k:", label="sigma squared")
    upper.set_ylabel("nats a row")
    upper.set_title("value of the loss, all levels", fontsize="medium")
    for name in ("two-sided", "one-sided"):
        lower.plot(sigma, near[name], "o-", markersize=4, label=f"lcss, {name}")
    for name, style in (("ism", "--"), ("dsm", ":")):
        lower.axhline(near[name][0], color="black", linestyle=style, label=name)
    lower.set_ylabel("error of the predicted noise")
    lower.set_title("fitted scores, all levels", fontsize="medium")
    for panel in (upper, lower):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("sigma, in units of the level's noise")


def draw_breaking(panel, shares: Sequence[float], found: list[dict], width: float) -> None:
    for name in (*VARIANTS, "dsm"):
        panel.plot(shares, [errors[name] for errors in found], "o-", markersize=4, label=name)
    for name, style in (("clean aim", ":"), ("noisy aim", "-.")):
        values = [errors[name] for errors in found]
        panel.plot(shares, values, style, color="grey", label=name)
    panel.axhline(found[0]["ism"], color="black", linestyle="--", label="ism")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_ylim(top=20)
    panel.set_xlabel("smoothing, in widths of a mode")
    panel.set_ylabel("relative error of the score")
    panel.set_title(f"one level, two modes of width {width:g}", fontsize="medium")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="for trying out; means nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    size = TINY if options.tiny else Size()
    report = Report("curvature", "Local curvature smoothing (lcss) of the score", options.results)
    near, costs, broken = agreement(report, size), cost(report, size), breaking(report, size)
    report.save()
    draw(size, near, costs, broken, options.results / "curvature.png")


if __name__ == "__main__":
    main()
