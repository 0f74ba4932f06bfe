"""Outliers, by a density, by a distance at a noise level, or by both."""

from ._detector import DSMOutlierDetector

__all__ = ["DSMOutlierDetector"]
