"""Undirected graphs: pairwise interactions of features, fitted by score matching."""

from ._pairwise import PairwiseScoreMatching
from ._regularized import RegularizedScoreMatching
from ._regularized_cv import RegularizedScoreMatchingCV

__all__ = ["PairwiseScoreMatching", "RegularizedScoreMatching", "RegularizedScoreMatchingCV"]
