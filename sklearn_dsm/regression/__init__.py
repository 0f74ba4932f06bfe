"""Conditional densities: what targets are, given features."""

from ._regressor import DSMRegressor

__all__ = ["DSMRegressor"]
