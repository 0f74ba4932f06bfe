"""Whether drawn samples give away those of the fit."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors


def memorisation(
    train: np.ndarray,
    holdout: np.ndarray,
    drawn: np.ndarray,
    train_scores: np.ndarray,
    holdout_scores: np.ndarray,
    seed: int,
) -> dict[str, float]:
    """Distances to the closest record by halves, gap of log-probabilities, and membership attacks.

    Parameters
    ----------
    train, holdout, drawn : ndarray of shape (n, n_inputs)
        Samples as numbers of comparable size.
    train_scores, holdout_scores : ndarray of shape (n,)
        Log-probabilities.
    seed : int
        Of the choice of as many training samples as others.
    """
    random = np.random.RandomState(seed)
    n = min(len(train), len(holdout))
    halves = [rows[random.permutation(len(rows))[:n]] for rows in (train, holdout)]
    to_train, to_holdout = (_closest(drawn, half) for half in halves)
    closer = (to_train < to_holdout) + 0.5 * (to_train == to_holdout)
    gap = train_scores.mean() - holdout_scores.mean()
    variance = sum(scores.var() / len(scores) for scores in (train_scores, holdout_scores))
    distances = [-_closest(half, drawn) for half in halves]
    return {
        "closer_to_train": float(closer.mean()),
        "closer_to_train_stderr": float(closer.std() / np.sqrt(len(closer))),
        "median_distance_train": float(np.median(to_train)),
        "median_distance_holdout": float(np.median(to_holdout)),
        "log_probability_gap": float(gap),
        "log_probability_gap_stderr": float(np.sqrt(variance)),
        "membership_auc_log_probability": _attack(train_scores, holdout_scores),
        "membership_auc_distance": _attack(*distances),
    }


def _closest(rows: np.ndarray, records: np.ndarray) -> np.ndarray:
    return NearestNeighbors(n_neighbors=1).fit(records).kneighbors(rows)[0][:, 0]


def _attack(members: np.ndarray, others: np.ndarray) -> float:
    is_member = np.repeat([1, 0], [len(members), len(others)])
    lowest = np.finfo(float).min
    return float(roc_auc_score(is_member, np.maximum(np.r_[members, others], lowest)))
