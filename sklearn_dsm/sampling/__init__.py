"""Samples and normalising constants of densities that are known up to a constant."""

from ._annealed import AnnealedSampler
from ._diffusion import DiffusionSampler
from ._predicted import PredictedLogWeight
from ._tilted import TiltedSampler

__all__ = ["AnnealedSampler", "DiffusionSampler", "PredictedLogWeight", "TiltedSampler"]
