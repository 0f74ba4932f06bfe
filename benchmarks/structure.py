"""Graphs and causal orders: coverage, recovery, published figures, and other libraries.

python benchmarks/structure.py [--parts NAME ...] [--replicates N] [--results FOLDER] [--smoke]

Parts: "edges" (do intervals cover, are null p-values uniform), "recovery" (edges of truncated
normal data), "families" (polynomial exponential families), "orders" (published figures of causal
orders), "sachs", "rates" (order divergence against samples, curvature and features), "rivals"
(other libraries on the same data), "cost" (seconds and memory).
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import _structure_edges as edges
import _structure_orders as orders
import numpy as np
from _budget import processor_timed
from _report import Report, run_parts
from _structure_rivals import RIVALS, installed, quietly

from sklearn_dsm import ExponentialFamilyEstimator, PairwiseScoreMatching
from sklearn_dsm.datasets import load_sachs, make_anm, make_polynomial_family
from sklearn_dsm.metrics import structural_hamming_distance, structural_intervention_distance

# The edges of test bed "quartic", and the six of the Sachs data that the authors of the pairwise
# models publish, all with positive interactions.
QUARTIC_EDGES = {(0, 1), (1, 2), (2, 3)}
PUBLISHED_EDGES = (
    ("PKA", "PKC"),
    ("PKA", "P38"),
    ("PKA", "Jnk"),
    ("PKA", "Plcg"),
    ("PKA", "PIP2"),
    ("PIP3", "PKC"),
)


def edges_part(report: Report, options: argparse.Namespace) -> None:
    report(
        f"Edges: coverage of 95 % intervals, {options.replicates} replicates; p-value of the test "
        "that null p-values are uniform; share of replicates with a false edge (Holm)"
    )
    for setting in edges.COVERAGE[: 1 if options.smoke else None]:
        found, seconds = processor_timed(
            lambda setting=setting: edges.coverage(setting, options.replicates)
        )
        report(f"  {setting!s:<40} {found}  {seconds / options.replicates:.2f} s a replicate")


def recovery_part(report: Report, options: argparse.Namespace) -> None:
    seeds = range(edges.FIRST_SEED, edges.FIRST_SEED + (1 if options.smoke else 5))
    areas = [edges.edge_auc(seed) for seed in seeds]
    report("Edges of truncated normal data, 20 features, 600 samples: area under the ROC curve")
    for name in areas[0]:
        values = np.array([area[name] for area in areas])
        report(f"  {name:<18} {values.mean():.3f}  by seed " + " ".join(f"{v:.3f}" for v in values))
    report("  processor seconds of one graph with the defaults")
    seconds = [edges.graph_seconds(seed) for seed in seeds]
    for name in seconds[0]:
        report(f"    {name:<28} {np.mean([row[name] for row in seconds]):.2f} s")


def families_part(report: Report, options: argparse.Namespace) -> None:
    n_seeds = 1 if options.smoke else 10
    report("Polynomial families: exact structure, test bed 'quartic', threshold .3")
    for n in (2000, 8000):
        hits = 0
        for seed in range(n_seeds):
            X, _ = make_polynomial_family(n, "quartic", random_state=seed)
            fit = ExponentialFamilyEstimator(4, threshold=0.3).fit(X)
            cliques = {tuple(map(int, clique)) for clique in fit.maximal_cliques_}
            hits += cliques == QUARTIC_EDGES
        report(f"  {n} samples: {hits} of {n_seeds} seeds")
    sizes = (1000, 2000, 4000, 8000, 16000)
    errors = np.array(
        [[largest_error(n, seed) for n in sizes] for seed in range(1 if options.smoke else 8)]
    )
    means = errors.mean(0)
    slope = np.polyfit(np.log(sizes), np.log(means), 1)[0]
    report(
        "  test bed 'multilinear', largest error at "
        + ", ".join(f"{n}: {mean:.3f}" for n, mean in zip(sizes, means, strict=True))
        + f"; slope of the logarithms {slope:.3f}"
    )


def largest_error(n: int, seed: int) -> float:
    X, family = make_polynomial_family(n, "multilinear", random_state=seed)
    fit = ExponentialFamilyEstimator(3, interaction_order=3, multilinear=True, base_degree=4).fit(X)
    truth = dict(zip(map(tuple, family.exponents), family.coef, strict=True))
    expected = np.array([truth.get(tuple(row), 0.0) for row in fit.exponents_])
    return float(np.abs(fit.coef_ - expected).max())


def orders_part(report: Report, options: argparse.Namespace) -> None:
    n_repeats = 1 if options.smoke else 10
    report(
        f"Causal orders of random additive noise models, 1000 samples, {n_repeats} seeds: SHD "
        "(standard deviation), SID, order divergence; sort by variance; published"
    )
    for name in orders.TARGETS:
        for noise in orders.NOISE_VARIANCES:
            found = orders.published(name, noise, n_repeats)
            ours, baseline = found["score"], found["by_variance"]
            report(
                f"  {name:<9} noise {noise:<6} {ours['shd']:5.2f} ({ours['shd_std']:.2f}) "
                f"{ours['sid']:6.2f} {ours['divergence']:5.2f};  {baseline['shd']:5.2f} "
                f"{baseline['sid']:6.2f} {baseline['divergence']:5.2f};  {found['target']}"
            )


def sachs_part(report: Report, options: argparse.Namespace) -> None:
    report("Sachs, 853 samples: order divergence / SHD / SID")
    for name, found in orders.sachs().items():
        divergence = found.get("divergence", "-")
        report(f"  {name:<24} {divergence} / {found['shd']} / {found['sid']}")
    data = load_sachs(observational=False)
    for weight in ("log1p", "square"):
        fit = PairwiseScoreMatching("exponential", weight=weight).fit(data.data)
        upper = np.triu_indices(11, 1)
        found = (fit.edge_pvalues_[upper] < 0.01).sum()
        report(f"  7466 samples, exponential family, {weight}: {found} of 55 edges at p < .01")
        for first, second in PUBLISHED_EDGES:
            i, j = data.feature_names.index(first), data.feature_names.index(second)
            z = fit.interaction_[i, j] / fit.edge_stderr_[i, j]
            report(f"    {first}-{second:<5} z {z:7.1f}  p {fit.edge_pvalues_[i, j]:.1e}")


def rates_part(report: Report, options: argparse.Namespace) -> None:
    path = report.path.with_suffix(".csv")
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(orders.Rate._fields)
        for score, (_, n_models, base, curves) in orders.RATES.items():
            others = ", ".join(f"{name} {value}" for name, value in base.items())
            report(
                f"{score}: order divergence, mean of {n_models} models (standard error), {others}"
            )
            found = list(orders.rates(score, options.smoke))
            table.writerows(found)
            for name in curves:
                points = [each for each in found if each.property == name]
                line = "  ".join(
                    f"{each.value:g}: {each.mean:.2f} ({each.standard_error:.2f})"
                    for each in points
                )
                report(f"  {name:<11} {line}")


def rivals_part(report: Report, options: argparse.Namespace) -> None:
    n_seeds = 1 if options.smoke else 5
    report(
        f"Other libraries on the same data: Gaussian-process mechanisms, 10 features, 1000 "
        f"samples, one edge a feature, {n_seeds} seeds: SHD, SID (graphs without cycle and with "
        "all directions only), processor seconds"
    )
    methods: dict[str, Callable] = {
        "ScoreCausalDiscovery": lambda X: orders.discovered(X).adjacency_,
        **installed(),
    }
    for name in sorted(set(RIVALS) - set(methods)):
        report(f"  {name}: not installed")
    draws = [make_anm(1000, 10, edges_per_node=1, random_state=seed) for seed in range(n_seeds)]
    for name, run in methods.items():
        distances, seconds, interventions = [], [], []
        for draw in draws:
            found, taken = processor_timed(lambda run=run, X=draw.data: quietly(run, X))
            seconds.append(taken)
            distances.append(structural_hamming_distance(draw.adjacency, found))
            if not (found & found.T).any():
                interventions.append(structural_intervention_distance(draw.adjacency, found))
        sid = f"{np.mean(interventions):6.2f}" if interventions else "     -"
        report(
            f"  {name:<22} SHD {np.mean(distances):5.2f} ({np.std(distances):.2f})  SID {sid}  "
            f"{np.mean(seconds):.2f} s"
        )


def cost_part(report: Report, options: argparse.Namespace) -> None:
    report("Processor seconds of a causal order with pruning, and memory")
    sizes = ((1000, 10),) if options.smoke else ((1000, 10), (1000, 50), (1000, 100))
    for n, d in sizes:
        report(f"  {n} samples, {d} features: {orders.seconds(n, d, n_repeats=1):.2f} s")
    if options.smoke:
        return
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import _structure_orders as orders; "
        "print(orders.peak_gibibytes(5000, 10))"
    )
    folder = str(Path(__file__).parent)
    peak = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    ).stdout
    report(f"  5000 samples, 10 features: {float(peak):.2f} GiB, the largest of the process")
    report("20000 samples, 10 features: order divergence, SHD, processor seconds, of 3 models")
    for name, found in orders.many_samples().items():
        rows = ";  ".join(
            f"{each['divergence']} {each['shd']} {each['seconds']:.1f} s" for each in found
        )
        report(f"  {name:<40} {rows}")


PARTS = {
    "edges": edges_part,
    "recovery": recovery_part,
    "families": families_part,
    "orders": orders_part,
    "sachs": sachs_part,
    "rates": rates_part,
    "rivals": rivals_part,
    "cost": cost_part,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--results", type=Path, help="folder to write to")
    parser.add_argument("--smoke", action="store_true", help="one seed, a temporary folder")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.replicates = 3
    run_parts(PARTS, options, "structure", "Graphs and causal orders")


if __name__ == "__main__":
    main()
