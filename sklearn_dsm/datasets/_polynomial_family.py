"""Densities whose logarithm is a polynomial of few terms, as graphs to be recovered."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array

from .._polynomials.monomials import maximal_cliques
from .._polynomials.polynomial import Polynomial, base_measure, growing_direction
from .._polynomials.sampling import MIN_CHAINS, sample_chains
from .._random import numpy_random

# Terms of the known families: features, powers, coefficient.
QUARTIC = (
    *(((i,), (4,), -1.0) for i in range(4)),
    *(((i,), (2,), 0.5) for i in range(4)),
    ((0, 1), (1, 1), 0.8),
    ((1, 2), (2, 2), -0.6),
    ((2, 3), (1, 1), -0.7),
)
MULTILINEAR = (
    ((0, 1), (1, 1), 0.8),
    ((1, 2), (1, 1), -0.7),
    ((2, 3, 4), (1, 1, 1), 0.8),
    ((4, 5), (1, 1), 0.6),
    ((3,), (1,), 0.5),
)
KNOWN = {"quartic": (4, QUARTIC, None), "multilinear": (6, MULTILINEAR, 4)}


class PolynomialFamily:
    r"""Distribution whose log-density is a polynomial, up to its unknown constant.

    .. math:: \log p(x) = \sum_k \theta_k \prod_i x_i^{k_i} - \sum_i x_i^D - \psi(\theta)

    Features are conditionally dependent, given all others, only if a term holds both of them.

    Parameters
    ----------
    exponents : array-like of shape (n_terms, n_features)
        Non-negative integers: the powers of the features in each term.
    coef : array-like of shape (n_terms,)
        The coefficients :math:`\theta_k`.
    base_degree : int or None, default=None
        The even degree D of the base measure. None: there is no base measure.

    Attributes
    ----------
    n_features : int
    exponents : ndarray of shape (n_terms, n_features)
    coef : ndarray of shape (n_terms,)
    base_degree : int or None
    maximal_cliques : list of tuples of int
        The sets of features that share a term and are part of no larger such set.

    Raises
    ------
    ValueError
        If the shapes do not fit, an exponent is no non-negative integer, ``base_degree`` is odd,
        or the polynomial grows in some direction, so that no density exists.

    References
    ----------
    [PolynomialGraphs]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import PolynomialFamily
    >>> family = PolynomialFamily([[1, 1]], [0.5], base_degree=4)
    >>> family.maximal_cliques
    [(0, 1)]
    >>> family.score([[1.0, 0.0]])
    array([[-4. ,  0.5]])
    """

    def __init__(self, exponents, coef, base_degree=None):
        self.exponents = _checked_exponents(exponents)
        self.coef = check_array(coef, ensure_2d=False, dtype=np.float64, input_name="coef")
        self.n_features = self.exponents.shape[1]
        self.base_degree = base_degree
        if self.coef.shape != (len(self.exponents),):
            raise ValueError(
                f"coef has shape {self.coef.shape}, and exponents of shape {self.exponents.shape} "
                f"need {(len(self.exponents),)}: one coefficient for each term."
            )
        if base_degree is not None and (base_degree < 2 or base_degree % 2):
            raise ValueError(
                f"base_degree={base_degree!r} must be an even number of at least 2, or None: "
                "exp(-x^base_degree) of an odd degree has no integral."
            )
        family = Polynomial(self.exponents, self.coef).without_zeros()
        self.maximal_cliques = maximal_cliques(family.exponents)
        self._log_density = (family + base_measure(self.n_features, base_degree)).without_zeros()
        direction = growing_direction(self._log_density)
        if direction is not None:
            raise ValueError(
                f"The log-density does not fall along the direction {direction.round(2)}, so no "
                "density exists. Use negative coefficients of the highest even powers, or a "
                "base_degree above the degree of all terms."
            )

    def unnormalized_log_density(self, X):
        """Compute the log-density up to its constant, a natural logarithm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._log_density.value(self._checked(X))

    def score(self, X):
        """Compute the Stein score, which is the gradient of the log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        return self._log_density.gradient(self._checked(X))

    def sample(self, n_samples=1, random_state=None, n_sweeps=100):
        """Draw independent samples by Metropolis within Gibbs, from one chain for each sample.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator or None, default=None
        n_sweeps : int, default=100
            Sweeps of each chain over all features. More of them bring the distribution of the
            samples closer to the density.

        Returns
        -------
        ndarray of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If ``n_samples`` or ``n_sweeps`` is less than one.
        """
        if n_samples < 1 or n_sweeps < 1:
            raise ValueError(f"n_samples={n_samples!r} and n_sweeps={n_sweeps!r} must be positive.")
        random = numpy_random(random_state)
        start = random.standard_normal((max(n_samples, MIN_CHAINS), self.n_features))
        return sample_chains(self._log_density, start, n_sweeps, random)[:n_samples]

    def _checked(self, X):
        X = check_array(X, dtype=np.float64, input_name="X")
        if X.shape[1] != self.n_features:
            raise ValueError(f"X has {X.shape[1]} columns, and the family has {self.n_features}.")
        return X


def make_polynomial_family(
    n_samples=100,
    exponents="quartic",
    coef=None,
    *,
    base_degree=None,
    n_sweeps=100,
    random_state=None,
):
    r"""Draw samples from a density whose logarithm is a polynomial with a known graph.

    Two families are known by name:

    - "quartic", of 4 features: :math:`\sum_i (x_i^2 / 2 - x_i^4) + 0.8 x_0 x_1 - 0.6 x_1^2 x_2^2
      - 0.7 x_2 x_3`. Its graph is a chain.
    - "multilinear", of 6 features: :math:`0.8 x_0 x_1 - 0.7 x_1 x_2 + 0.8 x_2 x_3 x_4 + 0.6 x_4 x_5
      + 0.5 x_3 - \sum_i x_i^4`. One of its maximal cliques has three features.

    Parameters
    ----------
    n_samples : int, default=100
    exponents : {"quartic", "multilinear"} or array-like of shape (n_terms, n_features)
        The name of a family, or the powers of the features in each term.
    coef : array-like of shape (n_terms,) or None, default=None
        The coefficients. None if, and only if, ``exponents`` is a name.
    base_degree : int or None, default=None
        As in :class:`PolynomialFamily`; None if ``exponents`` is a name.
    n_sweeps : int, default=100
        As in :meth:`PolynomialFamily.sample`.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    family : PolynomialFamily
        The distribution, with ``exponents``, ``coef``, ``maximal_cliques`` and the exact ``score``.

    Raises
    ------
    ValueError
        If the name is unknown, or comes with ``coef`` or ``base_degree``. As
        :class:`PolynomialFamily` otherwise.

    References
    ----------
    [PolynomialGraphs]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_polynomial_family
    >>> X, family = make_polynomial_family(50, random_state=0)
    >>> X.shape, family.maximal_cliques
    ((50, 4), [(0, 1), (1, 2), (2, 3)])
    """
    if isinstance(exponents, str):
        family = _known(exponents, coef, base_degree)
    elif coef is None:
        raise ValueError("coef=None is for families known by name; give one coefficient a term.")
    else:
        family = PolynomialFamily(exponents, coef, base_degree)
    return family.sample(n_samples, random_state, n_sweeps), family


def _known(name, coef, base_degree) -> PolynomialFamily:
    if name not in KNOWN:
        raise ValueError(f"exponents={name!r} is not one of {sorted(KNOWN)}, nor an array.")
    if coef is not None or base_degree is not None:
        raise ValueError(
            f"The family {name!r} has coefficients and a base measure of its own; use coef=None "
            "and base_degree=None, or give the exponents as an array."
        )
    n_features, terms, base = KNOWN[name]
    exponents = np.zeros((len(terms), n_features), dtype=int)
    for row, (features, powers, _) in zip(exponents, terms, strict=True):
        row[list(features)] = powers
    return PolynomialFamily(exponents, [coef for *_, coef in terms], base)


def _checked_exponents(exponents) -> np.ndarray:
    values = check_array(exponents, dtype=np.float64, input_name="exponents")
    if (values < 0).any() or (values % 1).any():
        raise ValueError("exponents must be non-negative integers, one row for each term.")
    return values.astype(int)
