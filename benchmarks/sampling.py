"""Samplers: tilted densities and unnormalised targets, with known normalising constants.

python benchmarks/sampling.py [--parts NAME ...] [--seeds N] [--results FOLDER] [--smoke]

Parts: "tilted" (the methods of TiltedSampler on a mixture with a known tilted density, and the
variances of what they regress on), "constants" (log Z of published targets by AnnealedSampler and
DiffusionSampler, beside published estimates) and "rivals" (AnnealedSampler beside the samplers of
other packages, where these are installed).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _sampling_constants as constants
import _sampling_rivals as rivals
import _sampling_tilted as tilted
from _report import Report, run_parts

METHODS = ("csm", "nsm", "tsm", "adjoint", "cmcd", "nets")
# Seeds of the parts where none are told.
SEEDS = {"tilted": 3, "constants": 10, "rivals": 3}
QUICK = {"n_train": 500, "max_epochs": 2, "n_paths": 200, "n_steps": 10}


def tilted_part(report: Report, options: argparse.Namespace) -> None:
    floor, before = tilted.floor_and_base()
    n_seeds = options.seeds or SEEDS["tilted"]
    report(
        f"Tilted mixture, {n_seeds} seeds: sliced 2-Wasserstein distance (other draws of the "
        f"density {floor:.3f}, base {before:.3f}), log Z, effective paths, processor seconds"
    )
    settings = QUICK if options.smoke else {}
    for method in METHODS:
        found = [tilted.outcome(method, seed, **settings) for seed in range(n_seeds)]
        report(f"  {method:<8} {tilted.mean_and_spread(found)}")
    report("Variance of the regression targets given the noised sample, by squared signal")
    report("           " + "".join(f"{signal:>12g}" for signal in tilted.SIGNALS))
    for name, values in tilted.target_variances(2000 if options.smoke else 200_000).items():
        report(f"  {name:<8} " + "".join(f"{value:12.4g}" for value in values))


def constants_part(report: Report, options: argparse.Namespace) -> None:
    for line in constants.lines(options.seeds or SEEDS["constants"], options.smoke):
        report(line)


def rivals_part(report: Report, options: argparse.Namespace) -> None:
    for line in rivals.lines(options.seeds or SEEDS["rivals"], options.smoke):
        report(line)


PARTS = {"tilted": tilted_part, "constants": constants_part, "rivals": rivals_part}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, help="by default those of each part")
    parser.add_argument("--results", type=Path, help="folder to write to")
    parser.add_argument("--smoke", action="store_true", help="one seed, a temporary folder")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.seeds = 1
    run_parts(PARTS, options, "sampling", "Samplers")


if __name__ == "__main__":
    main()
