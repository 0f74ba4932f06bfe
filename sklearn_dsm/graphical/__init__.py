"""Estimators of undirected graphs by score matching: which features depend on which."""

from ._exponential_family import ExponentialFamilyEstimator
from ._pairwise import PairwiseScoreMatching
from ._regularized import RegularizedScoreMatching
from ._regularized_cv import RegularizedScoreMatchingCV

__all__ = [
    "ExponentialFamilyEstimator",
    "PairwiseScoreMatching",
    "RegularizedScoreMatching",
    "RegularizedScoreMatchingCV",
]
