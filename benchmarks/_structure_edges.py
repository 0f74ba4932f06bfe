"""Edges of pairwise graphs: do intervals cover, are null p-values uniform, are edges found?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from _budget import processor_timed
from scipy.stats import kstest
from sklearn.covariance import GraphicalLassoCV, graphical_lasso
from sklearn.metrics import roc_auc_score

from sklearn_dsm import PairwiseScoreMatching, RegularizedScoreMatchingCV
from sklearn_dsm.datasets import make_pairwise


class Setting(NamedTuple):
    """A model to draw from, and how many samples of how many features."""

    family: str
    graph: str
    n: int
    p: int

    def __str__(self) -> str:
        return f"{self.family} {self.graph} n={self.n} p={self.p}"

    def draw(self, seed: int):
        return make_pairwise(
            self.n, self.p, family=self.family, graph=self.graph, random_state=seed
        )


# The models of the published tables.
COVERAGE = (
    Setting("gaussian", "nearest", 300, 20),
    Setting("gaussian", "nearest", 300, 50),
    Setting("truncated_gaussian", "nearest", 1000, 20),
    Setting("exponential", "chain", 1000, 20),
    Setting("normal_conditionals", "nearest", 2000, 20),
)
N_REPLICATES, LEVEL = 500, 0.05
# Choices of the estimator were made on other seeds.
FIRST_SEED = 1000
# Two blocks of ten features, with a fifth of the pairs of a block.
AUC_SETTING = Setting("truncated_gaussian", "blocks", 600, 20)
AUC_WEIGHTS = ("min3", "log1p", "square")


class Coverage(NamedTuple):
    """Shares of intervals that cover, and of replicates with a false edge."""

    edges: float
    non_edges: float
    first_edge: float
    ks_pvalue: float
    family_wise_error: float
    standardised_bias: float
    error_ratio: float

    def __str__(self) -> str:
        return (
            f"edges {self.edges:.3f}  non-edges {self.non_edges:.3f}  first edge "
            f"{self.first_edge:.3f}  KS p {self.ks_pvalue:.3f}  family-wise error "
            f"{self.family_wise_error:.3f}  bias / s.e. {self.standardised_bias:+.2f}  "
            f"deviation / s.e. {self.error_ratio:.3f}"
        )


def coverage(setting: Setting, n_replicates: int = N_REPLICATES, **options) -> Coverage:
    """Of 95 % intervals, over replicates; null p-values are those of the first and last node."""
    covered, pvalues, false_edges, errors = [], [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + n_replicates):
        X, model = setting.draw(seed)
        fit = PairwiseScoreMatching(setting.family, **options).fit(X)
        low, high = np.moveaxis(fit.confint(1 - LEVEL), -1, 0)
        upper = np.triu_indices(setting.p, 1)
        truth = model.interaction
        covered.append(((low <= truth) & (truth <= high))[upper])
        errors.append(((fit.interaction_ - truth) / fit.edge_stderr_)[upper])
        pvalues.append(fit.edge_pvalues_[0, -1])
        graph = fit.adjacency(LEVEL, "holm")[upper]
        is_edge = truth[upper] != 0
        false_edges.append((graph & ~is_edge).any())
    covered_by, scaled = np.mean(covered, axis=0), np.array(errors)[:, is_edge]
    return Coverage(
        float(covered_by[is_edge].mean()),
        float(covered_by[~is_edge].mean()),
        float(covered_by[0]),
        float(kstest(pvalues, "uniform").pvalue),
        float(np.mean(false_edges)),
        float(scaled.mean()),
        float(scaled.std(0).mean()),
    )


def path_auc(path: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve of edges, ranked by the penalty at which they enter a path."""
    upper = np.triu_indices(len(truth), 1)
    entries = np.array([np.abs(K[upper]) for K in path])
    present = entries > 0
    first = np.where(present.any(0), present.argmax(0), len(path))
    return float(roc_auc_score(truth[upper] != 0, -first))


def edge_auc(seed: int, setting: Setting = AUC_SETTING) -> dict[str, float]:
    """Areas under the ROC curves of one data set, by weight, and of the graphical lasso."""
    X, model = setting.draw(seed)
    areas = {}
    for weight in AUC_WEIGHTS:
        fit = RegularizedScoreMatchingCV(60, domain="nonnegative", weight=weight, gamma=0.0).fit(X)
        areas[weight] = path_auc(fit.path_, model.interaction)
    areas["graphical lasso"] = graphical_lasso_auc(X, model.interaction, fit.alphas_)
    return areas


def graphical_lasso_auc(X: np.ndarray, truth: np.ndarray, alphas: np.ndarray) -> float:
    """The same for the path of the graphical lasso, and for its precision chosen by validation."""
    Z = X / np.sqrt((X**2).mean(0))
    covariance = np.cov(Z.T, bias=True)
    largest = np.abs(covariance - np.diag(np.diagonal(covariance))).max()
    path = []
    for alpha in largest * np.geomspace(1, 0.01, len(alphas)):
        path.append(graphical_lasso(covariance, alpha=alpha)[1])
    upper = np.triu_indices(len(truth), 1)
    chosen = GraphicalLassoCV().fit(Z).precision_
    by_validation = roc_auc_score(truth[upper] != 0, np.abs(chosen[upper]))
    return max(path_auc(np.array(path), truth), float(by_validation))


def graph_seconds(seed: int, setting: Setting = AUC_SETTING) -> dict[str, float]:
    """Processor seconds of one graph: the defaults of both estimators, and tests of all edges."""
    X, _ = setting.draw(seed)
    fits = {
        "RegularizedScoreMatchingCV": RegularizedScoreMatchingCV(domain="nonnegative"),
        "PairwiseScoreMatching": PairwiseScoreMatching("truncated_gaussian"),
        "GraphicalLassoCV": GraphicalLassoCV(),
    }
    return {name: processor_timed(lambda e=e: e.fit(X))[1] for name, e in fits.items()}
