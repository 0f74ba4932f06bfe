"""Samples and normalising constants of densities that are known up to a constant."""

from ._diffusion import DiffusionSampler

__all__ = ["DiffusionSampler"]
