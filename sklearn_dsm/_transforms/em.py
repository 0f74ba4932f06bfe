"""Expectation-maximization, whatever the mixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

Parameters = TypeVar("Parameters")
LogLikelihood = TypeVar("LogLikelihood", float, np.ndarray)


def expectation_maximization(
    parameters: Parameters,
    expect: Callable[[Parameters], tuple[np.ndarray, LogLikelihood]],
    maximize: Callable[[np.ndarray], Parameters],
    n_iterations: int,
    tolerance: float,
) -> tuple[Parameters, LogLikelihood]:
    r"""Alternate posteriors and parameters until the log-likelihood hardly grows.

    .. math:: r_{ki} = \frac{w_k p_k(x_i)}{\sum_l w_l p_l(x_i)}, \qquad
        \theta \leftarrow \arg\max_\theta \sum_{ki} r_{ki} \log (w_k p_k(x_i))

    Parameters
    ----------
    parameters
        Where the iterations start.
    expect : callable
        Posterior probabilities of the components, and the log-likelihood, of parameters.
    maximize : callable
        The parameters that posterior probabilities ask for.
    n_iterations : int
    tolerance : float
        The least growth of the log-likelihood, or of any one where there are several, to go on
        for; minus infinity for all of the iterations.

    Returns
    -------
    parameters
    log_likelihood : float or ndarray
        Of the last parameters but one where the iterations ran out.
    """
    log_likelihood: LogLikelihood | float = -np.inf
    for _ in range(n_iterations):
        posterior, found = expect(parameters)
        growth, log_likelihood = found - log_likelihood, found
        if np.all(growth < tolerance):
            break
        parameters = maximize(posterior)
    return parameters, found
