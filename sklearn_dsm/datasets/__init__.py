"""Data, and distributions with known density, for examples, tests and benchmarks."""

from ._anm import make_anm
from ._brownian import BrownianPosterior
from ._cox import LogGaussianCoxProcess, make_cox_counts
from ._funnel import Funnel, make_funnel
from ._logistic_posterior import BayesianLogisticRegression
from ._many_well import ManyWell
from ._mixture import GaussianMixtureLaw, make_gaussian_mixture
from ._named_mixtures import make_benchmark_mixture
from ._pairwise import make_pairwise
from ._pancakes import GaussianPancakes, make_gaussian_pancakes
from ._planar import Checkerboard, TwoMoons
from ._polynomial_family import PolynomialFamily, make_polynomial_family
from ._sachs import load_sachs
from ._seeds import SeedsPosterior
from ._student_mixture import StudentMixture
from ._syntren import load_syntren
from ._table_posteriors import IonospherePosterior, SonarPosterior

__all__ = [
    "BayesianLogisticRegression",
    "BrownianPosterior",
    "Checkerboard",
    "Funnel",
    "GaussianMixtureLaw",
    "GaussianPancakes",
    "IonospherePosterior",
    "LogGaussianCoxProcess",
    "ManyWell",
    "PolynomialFamily",
    "SeedsPosterior",
    "SonarPosterior",
    "StudentMixture",
    "TwoMoons",
    "load_sachs",
    "load_syntren",
    "make_anm",
    "make_benchmark_mixture",
    "make_cox_counts",
    "make_funnel",
    "make_gaussian_mixture",
    "make_gaussian_pancakes",
    "make_pairwise",
    "make_polynomial_family",
]
