"""Laws of the data sets whose log-density is a polynomial."""

import numpy as np
import pytest

from sklearn_dsm.datasets import PolynomialFamily, make_polynomial_family


@pytest.mark.parametrize("name", ["quartic", "multilinear"])
def test_samples_of_a_polynomial_family_follow_its_score(name):
    """E[s] = 0 and E[x s] = -1 for the Stein score s of a density, by Stein's identity."""
    X, family = make_polynomial_family(3000, name, n_sweeps=60, random_state=0)
    scores = family.score(X)
    for terms, expected in ((scores, 0), (X * scores, -1)):
        errors = terms.std(0) / np.sqrt(len(X))
        assert (np.abs(terms.mean(0) - expected) < 4 * errors).all()


def test_a_normal_polynomial_family_is_sampled():
    X, family = make_polynomial_family(
        4000, [[2, 0], [1, 1], [0, 2]], [-0.5, 0.5, -0.5], random_state=0
    )
    np.testing.assert_allclose(np.linalg.inv(np.cov(X.T)), [[1, -0.5], [-0.5, 1]], atol=0.09)
    np.testing.assert_allclose(family.unnormalized_log_density([[1.0, 2.0]]), -0.5 + 1 - 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1, 1]], [1.0, 2.0]), "one coefficient for each term"),
        (([[1, 1]], [1.0]), "no density"),
        (([[3, 0], [0, 2]], [-1.0, -1.0]), "no density"),
        (([[4, 0], [0, 4], [2, 2]], [-1.0, -1.0, 3.0]), "no density"),
        (([[1, 1]], [1.0], 3), "must be an even number"),
        (([[0.5, 1]], [1.0]), "non-negative integers"),
        (([[-1, 1]], [1.0]), "non-negative integers"),
    ],
)
def test_polynomials_without_a_density_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PolynomialFamily(*arguments)


def test_a_known_family_takes_no_coefficients():
    for arguments in (("cubic",), ("quartic", [1.0]), ([[2, 2]], None)):
        with pytest.raises(ValueError, match=r"not one of|of its own|one coefficient"):
            make_polynomial_family(5, *arguments)
    with pytest.raises(ValueError, match="must be positive"):
        make_polynomial_family(0)
