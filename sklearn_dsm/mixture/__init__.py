"""Mixtures fitted by score matching."""

from ._gmm import GMMScoreEstimator
from ._location import LocationMixtureScoreEstimator

__all__ = ["GMMScoreEstimator", "LocationMixtureScoreEstimator"]
