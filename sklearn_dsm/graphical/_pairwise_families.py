"""Derivatives of the sufficient statistics of pairwise models, node by node."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Family(NamedTuple):
    """A pairwise exponential family; statistics are products of powers of the features.

    ``derivatives(x, others)`` gives the first and second derivatives (n, q) of the node's
    statistics with respect to its feature x: those of the node first, then one for each other
    feature.
    """

    derivatives: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    node_powers: tuple[int, ...]
    edge_power: int
    nonnegative: bool
    is_gaussian: bool


def _gaussian(x, others):
    first = np.column_stack([-x, -others])
    second = np.zeros_like(first)
    second[:, 0] = -1.0
    return first, second


def _located_gaussian(x, others):
    first = np.column_stack([-x, np.ones_like(x), -others])
    second = np.zeros_like(first)
    second[:, 0] = -1.0
    return first, second


def _exponential(x, others):
    first = np.column_stack([-np.ones_like(x), -others])
    return first, np.zeros_like(first)


def _normal_conditionals(x, others):
    squares, one = others**2, np.ones_like(x)
    first = np.column_stack([2 * x, one, 2 * x[:, None] * squares])
    second = np.column_stack([2 * one, 0 * one, 2 * squares])
    return first, second


FAMILIES = ("gaussian", "truncated_gaussian", "exponential", "normal_conditionals")


def family_of(name: str, centered: bool) -> Family:
    """The family of a name; ``centered`` matters for the Gaussian ones alone."""
    if name == "exponential":
        return Family(_exponential, (1,), 1, True, False)
    if name == "normal_conditionals":
        return Family(_normal_conditionals, (2, 1), 2, False, False)
    derivatives = _gaussian if centered else _located_gaussian
    powers = (2,) if centered else (2, 1)
    return Family(derivatives, powers, 1, name == "truncated_gaussian", True)
