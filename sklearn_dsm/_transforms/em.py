"""Expectation-maximization, whatever the mixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

Parameters = TypeVar("Parameters")
Posterior = TypeVar("Posterior")
LogLikelihood = TypeVar("LogLikelihood", float, np.ndarray)


def expectation_maximization(
    parameters: Parameters,
    expect: Callable[[Parameters], tuple[Posterior, LogLikelihood]],
    maximize: Callable[[Posterior], Parameters],
    n_iterations: int,
    tolerance: float,
    is_over: Callable[[], bool] = lambda: False,
) -> tuple[Parameters, LogLikelihood]:
    r"""Alternate between posterior probabilities and the parameters that they ask for.

    .. math:: r_{ki} = \frac{w_k p_k(x_i)}{\sum_l w_l p_l(x_i)}, \qquad
        \theta \leftarrow \arg\max_\theta \sum_{ki} r_{ki} \log (w_k p_k(x_i))

    Parameters
    ----------
    parameters
        Where the iterations start.
    expect : callable
        From parameters to posterior probabilities of the components and the log-likelihood.
    maximize : callable
        From posterior probabilities to parameters.
    n_iterations : int
        At least one.
    tolerance : float
        The iterations end where no log-likelihood grows by this much; minus infinity for all of
        them.
    is_over : callable
        No further iteration starts once it is true.

    Returns
    -------
    parameters
    log_likelihood : float or ndarray
        Of these parameters, or of those before the last step where the iterations ran out.
    """
    posterior, log_likelihood = expect(parameters)
    for _ in range(n_iterations - 1):
        if is_over():
            break
        previous, parameters = log_likelihood, maximize(posterior)
        posterior, log_likelihood = expect(parameters)
        if np.all(log_likelihood - previous < tolerance):
            return parameters, log_likelihood
    return maximize(posterior), log_likelihood
