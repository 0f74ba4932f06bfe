"""Samples and normalising constants of densities that are known up to a constant."""

from ._annealed import AnnealedSampler

__all__ = ["AnnealedSampler"]
