"""Data, and distributions with known density, for examples, tests and benchmarks."""

from ._anm import make_anm
from ._funnel import Funnel, make_funnel
from ._mixture import GaussianMixtureLaw, make_gaussian_mixture
from ._pairwise import make_pairwise
from ._pancakes import GaussianPancakes, make_gaussian_pancakes
from ._planar import Checkerboard, TwoMoons
from ._polynomial_family import PolynomialFamily, make_polynomial_family
from ._sachs import load_sachs
from ._syntren import load_syntren

__all__ = [
    "Checkerboard",
    "Funnel",
    "GaussianMixtureLaw",
    "GaussianPancakes",
    "PolynomialFamily",
    "TwoMoons",
    "load_sachs",
    "load_syntren",
    "make_anm",
    "make_funnel",
    "make_gaussian_mixture",
    "make_gaussian_pancakes",
    "make_pairwise",
    "make_polynomial_family",
]
