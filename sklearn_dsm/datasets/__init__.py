"""Data for examples, tests and benchmarks."""

from ._pancakes import GaussianPancakes, make_gaussian_pancakes
from ._sachs import load_sachs

__all__ = ["GaussianPancakes", "load_sachs", "make_gaussian_pancakes"]
