"""Every loss at the same seconds of fit: scores, log-densities, time and gradient variance.

python benchmarks/losses.py [--seconds S] [--seeds N] [--clock CLOCK] [--data FOLDER] [--redraw]

For every seed all losses take their turn, so that what else the machine does hits all alike. On
a machine that does much else, count the processor's seconds: with one thread these are the
seconds that a fit takes where nothing else runs.
Without the file of the third problem's table, that problem is left out.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from _loss_report import BASE, draw, write_report
from _noised_laws import NoisedLaw, image, noise_errors, ring
from _report import RESULTS, machine
from _tables import default_folder, file_of, load
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm import BSM, DSM, DSMDensityEstimator
from sklearn_dsm._core.likelihood.bound import HeldOutBound
from sklearn_dsm._core.losses.loss import ScoreLoss, TrainingRows
from sklearn_dsm._core.losses.registry import LOSSES, resolve_loss
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LevelLaw
from sklearn_dsm._core.precision import half_precision
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._transforms.chain import Chain
from sklearn_dsm._transforms.fitting import as_affine
from sklearn_dsm.datasets import Funnel, GaussianMixtureLaw

METHODS: dict[str, str | ScoreLoss] = {name: name for name in LOSSES} | {
    "dsm, simple": DSM(weighting="simple"),
    "dsm, edm": DSM(weighting="edm"),
}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
LOG_SNRS = (-6, -4, -2, 0, 2, 4, 6, 8)
N_SCORED, N_NOISED, BOUND_DRAWS = 500, 2000, 64
# The mean gradient of an objective takes more draws than the variance.
MEAN_DRAWS = 6


class Problem(NamedTuple):
    """Rows to fit and to test, what is known of their law, and how columns are mapped."""

    train: np.ndarray
    test: np.ndarray
    truth: float | None
    law: Funnel | GaussianMixtureLaw | None
    marginals: str


def mixture(folder: Path, seed: int) -> Problem:
    law = ring()
    train, test = law.sample(5000, seed), law.sample(5000, 1000 + seed)
    return Problem(train, test, law.log_density(test[:N_SCORED]).mean(), law, "standardize")


def funnel(folder: Path, seed: int) -> Problem:
    table = load("funnel_10", folder, seed)
    truth = table.truth[:N_SCORED].mean()
    return Problem(table.train, table.test, truth, Funnel(10), "standardize")


def pendigits(folder: Path, seed: int) -> Problem:
    table = load("pendigits+noise", folder, seed)
    return Problem(table.train, table.test, None, None, "auto")


PROBLEMS: dict[str, Callable[[Path, int], Problem]] = {
    "mixture": mixture,
    "funnel": funnel,
    "pendigits": pendigits,
}
TITLES = {
    "mixture": "Mixture: 8 narrow modes on a ring, 2 columns, 5000 rows",
    "funnel": "Funnel: 10 columns, 20000 rows",
    "pendigits": "Pendigits with uniform noise of one quantum: 16 columns",
}


def jobs(options: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Problem, seed and loss; denoising comes first, whose weights serve all the gradients."""
    for seed in range(options.seeds):
        for name in options.problems:
            path = file_of("pendigits+noise", options.data)
            if name == "pendigits" and (path is None or not path.exists()):
                print(f"{path} is not there: pendigits is left out", flush=True)
                continue
            for loss in losses(options):
                yield name, seed, loss


def losses(options: argparse.Namespace) -> list[str]:
    return [BASE, *(loss for loss in options.losses if loss != BASE)]


def warm_up(options: argparse.Namespace) -> None:
    """What is loaded at first use is no part of a fit's seconds."""
    X = ring().sample(300, 0)
    for name in losses(options):
        loss = METHODS[name]
        DSMDensityEstimator(loss=loss, reference="gaussian", max_epochs=1).fit(X).score(X)


def measured(options: argparse.Namespace) -> list[dict]:
    """A record of every fit, the gradients' figures in it."""
    records: list[dict] = []
    warm_up(options)
    for name, seed, loss in jobs(options):
        problem = PROBLEMS[name](options.data, seed)
        fit = DSMDensityEstimator(
            loss=METHODS[loss],
            reference="gaussian",
            marginals=problem.marginals,
            max_fit_time=options.seconds,
            device="cpu",
            random_state=seed,
        )
        started = time.perf_counter()
        fit.fit(problem.train)
        seconds = time.perf_counter() - started
        record = {"problem": name, "seed": seed, "loss": loss, "fit_seconds": seconds}
        records.append(record | quality(fit, problem, seed) | {"truth": problem.truth})
        print(told(records[-1]), flush=True)
        if loss == BASE:
            denoised = fit
        if loss == losses(options)[-1]:
            add_gradients(records, denoised, problem, options)
            keep(options, records)
    return records


def quality(fit: DSMDensityEstimator, problem: Problem, seed: int) -> dict:
    """What a fit is worth on rows it has not seen."""
    rows = problem.test[:N_SCORED]
    return {
        "n_epochs": fit.n_epochs_,
        "stop": fit.stop_reason_,
        "ode": float(fit.score_samples(rows).mean()),
        "bound": bound(fit, rows, seed),
        "errors": errors(fit, problem, seed),
    }


def bound(fit: DSMDensityEstimator, rows: np.ndarray, seed: int) -> float:
    """The likelihood bound of rows, with the same draws for every fit of one seed."""
    Z, log_slope = Chain.from_arrays(fit.latent_map_).forward(rows)
    value = float(np.mean(fit.reference_.score_samples(Z) + log_slope))
    if not fit.network_weights_:
        return value
    builder = fit._builder()
    model = builder.score_model(fit.reference_, fit.network_weights_).float().eval()
    drawn = HeldOutBound.draw(
        torch.from_numpy(Z).float(), builder.levels, BOUND_DRAWS, torch_generator(seed)
    )
    return value + float(drawn.gain(model).mean())


def errors(fit: DSMDensityEstimator, problem: Problem, seed: int) -> list[float] | None:
    """Errors of the predicted noise by level; None where the law is unknown."""
    if problem.law is None:
        return None
    latent, density = Chain.from_arrays(fit.latent_map_), fit._latent_density()
    truth: NoisedLaw = image(problem.law, *as_affine(latent))

    def score(Z: np.ndarray, a: float, v: float) -> np.ndarray:
        return density.score(Z, NoiseLevel(*torch.tensor([a, v], dtype=torch.float64)))

    Z = latent.forward(problem.test[-N_NOISED:])[0]
    return noise_errors(score, truth, Z, LOG_SNRS, seed).tolist()


def add_gradients(
    records: list[dict], fit: DSMDensityEstimator, problem: Problem, options: argparse.Namespace
) -> None:
    """Variance of each loss's gradient at the weights of one fit, into the last records."""
    batch = fit._resolved_batch_size(round((1 - fit.validation_fraction) * len(problem.train)))
    Z = Chain.from_arrays(fit.latent_map_).forward(problem.train[:batch])[0]
    rows, builder = torch.from_numpy(Z).float(), fit._builder()
    model = builder.score_model(fit.reference_, fit.network_weights_).float()
    means = {}
    for record in records[-len(losses(options)) :]:
        loss = resolve_loss(METHODS[record["loss"]])
        if isinstance(loss, BSM):
            loss = BSM(n_plain_steps=0)
        n = options.gradients * (MEAN_DRAWS if isinstance(loss, DSM) else 1)
        levels = loss.levels(fit.process_, builder.levels)
        variance, mean, seconds = gradient_moments(loss, model, levels, rows, n, record["seed"])
        if isinstance(loss, DSM):
            means[loss.weighting] = mean
        # All losses of one weighting have one mean, up to the bias of finite steps.
        record |= {"variance": variance / means[loss.weighting], "step_seconds": seconds}


def gradient_moments(
    loss: ScoreLoss,
    model: CorrectedScore,
    levels: LevelLaw,
    rows: torch.Tensor,
    n: int,
    seed: int,
) -> tuple[float, float, float]:
    """Summed variance of a batch's gradient over levels, noise and directions; its squared mean,
    without bias; and the median seconds that one takes.
    """
    objective, generator = loss.started(model), torch_generator(seed)
    weights, weight = list(model.network.parameters()), torch.ones(len(rows))
    gradients, seconds = [], []
    for _ in range(n + 1):
        started = time.perf_counter()
        with half_precision(rows.device, loss.half_precision):
            value = objective(model, TrainingRows(rows, weight), levels, generator)
        parts = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
        seconds.append(time.perf_counter() - started)
        gradients.append(torch.cat([part.flatten() for part in parts]))
    drawn = torch.stack(gradients[1:])
    variance = float(drawn.var(0).sum())
    squared = float(drawn.mean(0).square().sum()) - variance / n
    return variance, squared, float(np.median(seconds[1:]))


def told(record: dict) -> str:
    """One line on a fit as it comes."""
    error = "" if record["errors"] is None else f", noise error {rms(record['errors']):.4f}"
    return (
        f"{record['problem']}, seed {record['seed']}, {record['loss']:<12} "
        f"ODE {record['ode']:9.4f}, bound {record['bound']:9.4f}{error}, {record['n_epochs']} "
        f"epochs in {record['fit_seconds']:.1f} s ({record['stop']})"
    )


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def keep(options: argparse.Namespace, records: list[dict]) -> None:
    """Write the records so far."""
    head = {
        "machine": machine(),
        "seconds": options.seconds,
        "clock": options.clock,
        "log_snrs": LOG_SNRS,
    }
    kept = head | {"titles": TITLES, "records": records}
    (options.results / "losses.json").write_text(json.dumps(kept, indent=1) + "\n")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_folder())
    parser.add_argument("--seconds", type=float, default=15.0, help="of every fit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--losses", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--gradients", type=int, default=40, help="draws behind a variance")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--redraw", action="store_true", help="report the last run again")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    warnings.simplefilter("ignore", ConvergenceWarning)
    if not options.redraw:
        with patch("time.perf_counter", CLOCKS[options.clock]):
            measured(options)
    kept = json.loads((options.results / "losses.json").read_text())
    write_report(kept, options.results)
    draw(kept, options.results / "losses.png")


if __name__ == "__main__":
    main()
