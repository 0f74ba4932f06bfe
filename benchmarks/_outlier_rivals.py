"""Outlier detectors with their defaults, as functions from samples to fit and to score.

Each returns the oddness of the scored samples and a note. In the unsupervised protocol, where both
are the same samples, detectors that can leave a sample out of its own neighbours do so.
"""

from __future__ import annotations

import numpy as np
from _methods import Method
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from sklearn_dsm import DSMOutlierDetector

OURS = "DSMOutlierDetector"
# Of the method of the paper, whose time estimates have the ranking of this distance.
DTE_NEIGHBOURS = 5


def unsupervised(job: dict) -> bool:
    return job["protocol"] == "unsupervised"


def ours(A: np.ndarray, B: np.ndarray, job: dict) -> tuple[np.ndarray, str]:
    detector = DSMOutlierDetector(random_state=job["seed"]).fit(A)
    return -detector.score_samples(B), detector.criterion_


def forest(A, B, job):
    return -IsolationForest(random_state=job["seed"]).fit(A).score_samples(B), ""


def local_factor(A, B, job):
    if unsupervised(job):
        return -LocalOutlierFactor().fit(A).negative_outlier_factor_, ""
    return -LocalOutlierFactor(novelty=True).fit(A).score_samples(B), ""


def support_vectors(A, B, job):
    return -OneClassSVM().fit(A).score_samples(B), ""


def kernel_density(A, B, job):
    return -KernelDensity().fit(A).score_samples(B), ""


def mixture(A, B, job):
    return -GaussianMixture(random_state=job["seed"]).fit(A).score_samples(B), ""


def neighbours(A, B, job):
    from pyod.models.knn import KNN

    fitted = KNN().fit(A)
    return (fitted.decision_scores_ if unsupervised(job) else fitted.decision_function(B)), ""


def empirical_tails(A, B, job):
    from pyod.models.ecod import ECOD

    fitted = ECOD().fit(A)
    return (fitted.decision_scores_ if unsupervised(job) else fitted.decision_function(B)), ""


def diffusion_time(A, B, job):
    tree = NearestNeighbors(n_neighbors=DTE_NEIGHBOURS).fit(A)
    distances = tree.kneighbors(None if unsupervised(job) else B)[0]
    return distances.mean(1), ""


def contraction(A, B, job):
    from karkcm.estimator import KCM

    if unsupervised(job):
        fitted = KCM(assume_scaled=True, novelty=False).fit(A)
        if len(fitted.loo_score_samples_) == len(B):
            return -fitted.loo_score_samples_, ""
    return -KCM(assume_scaled=True).fit(A).score_samples(B), ""


METHODS = {
    OURS: Method("_outlier_rivals:ours"),
    "IsolationForest": Method("_outlier_rivals:forest"),
    "LocalOutlierFactor": Method("_outlier_rivals:local_factor"),
    "OneClassSVM": Method("_outlier_rivals:support_vectors"),
    "KernelDensity": Method("_outlier_rivals:kernel_density"),
    "GaussianMixture": Method("_outlier_rivals:mixture"),
    "kNN": Method("_outlier_rivals:neighbours", "pyod"),
    "ECOD": Method("_outlier_rivals:empirical_tails", "pyod"),
    "DTE-NP": Method("_outlier_rivals:diffusion_time"),
    "KCM": Method("_outlier_rivals:contraction", "karkcm"),
}
