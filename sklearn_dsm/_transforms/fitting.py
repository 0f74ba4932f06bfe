"""Fitting chains: from input units to the latent space and back."""

from __future__ import annotations

import numpy as np

from .chain import Chain
from .marginal import MarginalTransform, fit_marginal, linear_marginal
from .radial import RadialTransform, fit_radial
from .whitening import Whitening, fit_whitening

# With fewer rows a column, transforms of all rows would tell too much of the held-out ones.
MIN_ROWS_PER_COLUMN = 5


def are_few(X: np.ndarray) -> bool:
    """Whether there are too few rows a column for transforms of all of them."""
    return len(X) < MIN_ROWS_PER_COLUMN * X.shape[1]


def mapped_rows(X: np.ndarray, held_out: np.ndarray) -> np.ndarray | slice:
    """Index of the rows that transforms are fitted to: all, or the training set where few.

    As many rows as columns have a covariance that knows the directions of each of them, and a
    network that learns these would look good on held-out rows among them, and only there. A column
    that varies in held-out rows only needs them.
    """
    if are_few(X) and (~held_out).sum() > 1 and np.ptp(X[~held_out], axis=0).min() > 0:
        return ~held_out
    return slice(None)


def fit_latent_map(
    X: np.ndarray, weight: np.ndarray, held_out: np.ndarray, marginals: str | None
) -> Chain:
    """Fit marginal transforms and a whitening; the validation set chooses its shrinkage.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    weight : ndarray of shape (n,), positive, of mean one
    held_out : ndarray of shape (n,), bool
    marginals : {"auto", "gaussianize", "standardize", None}
    """
    used = mapped_rows(X, held_out)
    marginal = fit_marginal(X[used], weight[used], marginals)
    return _whitened(marginal, X, weight, held_out, used)


def of_all_rows(chain: Chain, X: np.ndarray, weight: np.ndarray) -> Chain:
    """The chain with the whitening, and the radial part where there is one, fitted to all rows.

    The marginal transforms stay as they are.
    """
    nobody = np.zeros(len(X), dtype=bool)
    whitened = _whitened(chain.part(MarginalTransform), X, weight, nobody, slice(None))
    radial = with_radial_map(whitened, X, weight) if chain.has(RadialTransform) else None
    return whitened if radial is None else radial


def _whitened(
    marginal: MarginalTransform,
    X: np.ndarray,
    weight: np.ndarray,
    held_out: np.ndarray,
    used: np.ndarray | slice,
) -> Chain:
    """Marginal transforms with a whitening of these rows behind them."""
    Z, _ = marginal.forward(X)
    drawn_together = marginal.straight if are_few(X) else np.array([], dtype=int)
    whitening = fit_whitening(Z, weight, held_out, used, drawn_together, marginal.scale)
    return Chain((marginal, whitening))


def with_radial_map(chain: Chain, X: np.ndarray, weight: np.ndarray) -> Chain | None:
    """The chain with a radial part behind it; None where the lengths are those of normal rows."""
    radial = fit_radial(chain.forward(X)[0], weight)
    return None if radial is None else chain.then(radial)


def in_column_order(chain: Chain) -> Chain:
    """Its marginal transforms, and the whitening by regressions of each column on those before."""
    whitening = chain.part(Whitening).in_column_order()
    return Chain((chain.part(MarginalTransform), whitening))


def linear_map(location: np.ndarray, scale: np.ndarray) -> Chain:
    """The chain that shifts and divides every column."""
    return Chain((linear_marginal(location, scale),))


def as_affine(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """Shift and matrix with forward(X) = (X - shift) @ matrix.

    Raises
    ------
    ValueError
        Where the chain is not of linear marginal transforms and a whitening.
    """
    marginal, whitening = chain.part(MarginalTransform), chain.part(Whitening)
    if len(chain.parts) > 2 or len(marginal.curved) > 0:
        raise ValueError(
            "The chain bends its rows and is no affine map: fit it with marginals='standardize' "
            "or None, and without a radial or an autoregressive part."
        )
    shift = marginal.location + marginal.scale * whitening.mean
    return shift, whitening.matrix / marginal.scale[:, None]
