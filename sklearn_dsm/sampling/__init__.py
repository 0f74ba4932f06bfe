"""Samples and normalising constants of densities that are known up to a constant."""

from ._tilted import TiltedSampler

__all__ = ["TiltedSampler"]
