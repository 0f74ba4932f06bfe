"""Helpers for those who write estimators of their own."""

from .estimator_checks import (
    check_density_estimator,
    parametrize_with_density_checks,
    yield_density_checks,
)

__all__ = [
    "check_density_estimator",
    "parametrize_with_density_checks",
    "yield_density_checks",
]
