r"""What a network may predict of a noised row, and how one prediction follows from another.

At :math:`x = a X_0 + \sqrt v Z` the score, the expected noise, the expected clean row and the
expected velocity :math:`a Z - \sqrt v X_0` are linear functions of each other.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .level import NoiseLevel

Conversion = Callable[[Tensor, Tensor, NoiseLevel], Tensor]


def _noise_from_clean(clean: Tensor, x: Tensor, level: NoiseLevel) -> Tensor:
    return (x - level.a * clean) / level.v.sqrt()


def _clean_from_noise(noise: Tensor, x: Tensor, level: NoiseLevel) -> Tensor:
    return (x - level.v.sqrt() * noise) / level.a


# The conversions of every kind of prediction to the noise, and back.
TO_NOISE: dict[str, Conversion] = {
    "noise": lambda noise, x, level: noise,
    "score": lambda score, x, level: -level.v.sqrt() * score,
    "clean": _noise_from_clean,
    "velocity": lambda velocity, x, level: (
        (level.a * velocity + level.v.sqrt() * x) / level.scale**2
    ),
}
FROM_NOISE: dict[str, Conversion] = {
    "noise": lambda noise, x, level: noise,
    "score": lambda noise, x, level: -noise / level.v.sqrt(),
    "clean": _clean_from_noise,
    "velocity": lambda noise, x, level: (
        level.a * noise - level.v.sqrt() * _clean_from_noise(noise, x, level)
    ),
}


def convert(prediction: Tensor, x: Tensor, level: NoiseLevel, kind: str, to: str) -> Tensor:
    """One kind of prediction from another.

    Parameters
    ----------
    prediction, x : Tensor of shape (..., n, d)
        What was predicted at the noised rows x.
    level : NoiseLevel
    kind, to : {"noise", "score", "clean", "velocity"}

    Returns
    -------
    Tensor of shape (..., n, d)
    """
    return FROM_NOISE[to](TO_NOISE[kind](prediction, x, level), x, level)
