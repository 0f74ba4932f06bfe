"""What every transform, and every chain of them, can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._transforms.autoregressive import AutoregressiveNetwork, AutoregressiveTransform
from sklearn_dsm._transforms.chain import Chain
from sklearn_dsm._transforms.fitting import as_affine, fit_latent_map
from sklearn_dsm._transforms.marginal import MarginalTransform, fit_marginal, linear_marginal
from sklearn_dsm._transforms.radial import RadialTransform
from sklearn_dsm._transforms.transform import ArrayTransform, Transform
from sklearn_dsm._transforms.whitening import Whitening

N_ROWS = 20


class Case(NamedTuple):
    """A transform, rows for it, and how exactly differences of it are known."""

    transform: Transform
    rows: np.ndarray
    tolerance: float = 1e-6


def skewed(n, d, seed=0):
    """Correlated columns of positive numbers, in units far from each other."""
    random = np.random.RandomState(seed)
    mix = np.eye(d) + 0.3 * random.standard_normal((d, d))
    return np.exp(0.4 * random.standard_normal((n, d)) @ mix) * np.geomspace(0.5, 20, d)


def normal(n, d):
    return np.random.RandomState(1).standard_normal((n, d))


def autoregressive(d, shift_last=False):
    """With all of the weights away from where they start."""
    generator = torch_generator(0)
    network = AutoregressiveNetwork(d, 16, 2, shift_last, generator)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    return AutoregressiveTransform(network)


def radial():
    return RadialTransform(np.log([0.3, 0.5, 0.2]), np.array([0.4, 1.0, 2.5]))


def cases(d):
    X, Z = skewed(400, d), normal(N_ROWS, d)
    weight, held_out = np.ones(400), np.arange(400) < 40
    bent, straight = (
        fit_latent_map(X, weight, held_out, kind) for kind in ("gaussianize", "standardize")
    )
    rows = X[:N_ROWS]
    return {
        "nothing": Case(Chain(()), Z),
        "straight": Case(linear_marginal(X.mean(0), X.std(0)), rows),
        "bent": Case(fit_marginal(X, weight, "gaussianize"), rows, 1e-5),
        "whitening": Case(straight.part(Whitening), Z),
        "radial": Case(radial(), Z, 1e-5),
        "autoregressive": Case(autoregressive(d), Z),
        "shift last": Case(autoregressive(d, shift_last=True), Z),
        "latent": Case(straight, rows),
        "bent latent": Case(bent, rows, 1e-5),
        "behind radial": Case(bent.then(radial()), rows, 1e-4),
        "behind autoregressive": Case(straight.then(autoregressive(d)), rows),
    }


CASES = {f"{name}-{d}": case for d in (2, 3, 10) for name, case in cases(d).items()}
CASES["radial-60"] = Case(radial(), normal(N_ROWS, 60), 1e-5)
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def same(known, found):
    for one, other in zip(known, found, strict=True):
        np.testing.assert_array_equal(one, other)


@EVERY
def test_shapes_and_types(case):
    Z, log_jacobian = case.transform.forward(case.rows)
    assert Z.shape == case.rows.shape
    assert log_jacobian.shape == (len(Z),)
    assert Z.dtype == log_jacobian.dtype == case.transform.inverse(Z).dtype == np.float64


@EVERY
def test_the_inverse_undoes_it(case):
    Z, _ = case.transform.forward(case.rows)
    np.testing.assert_allclose(case.transform.inverse(Z), case.rows, rtol=1e-6, atol=1e-9)


@EVERY
def test_the_log_jacobian_is_that_of_differences(case):
    step = 1e-6
    for row, log_jacobian in zip(case.rows, case.transform.forward(case.rows)[1], strict=True):
        moves = step * np.diag(np.maximum(np.abs(row), 0.1))
        ahead, behind = (case.transform.forward(row + sign * moves)[0] for sign in (1, -1))
        slopes = (ahead - behind) / (2 * np.diag(moves))[:, None]
        assert np.linalg.slogdet(slopes)[1] == pytest.approx(log_jacobian, abs=1e-5)


@EVERY
def test_gradients_are_pulled_back_through_it(case, assert_pulled_back):
    assert_pulled_back(case.transform, case.rows, tolerance=case.tolerance)


@EVERY
def test_arrays_carry_it_through_a_file(case, tmp_path):
    arrays = case.transform.to_arrays()
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    np.savez(tmp_path / "arrays.npz", **arrays)
    with np.load(tmp_path / "arrays.npz") as stored:
        loaded = dict(stored)
    Z, log_jacobian = case.transform.forward(case.rows)
    for again in (type(case.transform).from_arrays(each) for each in (arrays, loaded)):
        same((Z, log_jacobian), again.forward(case.rows))
        np.testing.assert_array_equal(case.transform.inverse(Z), again.inverse(Z))
        pulled = (each.pull_back(case.rows, -Z) for each in (case.transform, again))
        np.testing.assert_array_equal(*pulled)
        assert again.to_arrays().keys() == arrays.keys()


@EVERY
def test_context_is_accepted(case):
    """No value of it changes anything."""
    context = normal(len(case.rows), 3)
    Z, log_jacobian = case.transform.forward(case.rows)
    same((Z, log_jacobian), case.transform.forward(case.rows, context))
    same([case.transform.inverse(Z)], [case.transform.inverse(Z, context)])
    pulled = (case.transform.pull_back(case.rows, -Z, *rest) for rest in ((), (context,)))
    np.testing.assert_array_equal(*pulled)


@dataclass(frozen=True, eq=False)
class ScaledByContext(ArrayTransform):
    """Each sample times the exponential of its context's first column."""

    power: np.ndarray

    def forward(self, X, context=None):
        logs = self.power * context[:, 0]
        return X * np.exp(logs)[:, None], X.shape[1] * logs

    def inverse(self, Z, context=None):
        return Z * np.exp(-self.power * context[:, 0])[:, None]

    def pull_back(self, X, gradient, context=None):
        return gradient * np.exp(self.power * context[:, 0])[:, None]


def test_a_chain_passes_the_context_on():
    conditional = ScaledByContext(np.asarray(0.5))
    chain = Chain((conditional, radial(), conditional))
    X, context = normal(N_ROWS, 3), normal(N_ROWS, 2)
    factor = np.exp(0.5 * context[:, :1])
    Z, log_jacobian = chain.forward(X, context)
    middle, log_stretch = radial().forward(X * factor)
    np.testing.assert_allclose(Z, middle * factor)
    np.testing.assert_allclose(log_jacobian, log_stretch + 3 * context[:, 0])
    np.testing.assert_allclose(chain.inverse(Z, context), X)
    pulled = radial().pull_back(X * factor, -Z * factor) * factor
    np.testing.assert_allclose(chain.pull_back(X, -Z, context), pulled)


@pytest.mark.parametrize("last", [radial(), autoregressive(3)])
def test_composition_is_associative(last):
    X = skewed(400, 3)
    first, second = fit_latent_map(X, np.ones(400), np.arange(400) < 40, "gaussianize").parts
    pairs = Chain((Chain((first, second)), last)), Chain((first, Chain((second, last))))
    Z, log_jacobian = pairs[0].forward(X)
    same((Z, log_jacobian), pairs[1].forward(X))
    same([pairs[0].inverse(Z)], [pairs[1].inverse(Z)])
    same([pairs[0].pull_back(X, -Z)], [pairs[1].pull_back(X, -Z)])
    rows, total = X, 0.0
    for part in (first, second, last):
        rows, found = part.forward(rows)
        total = total + found
    same((Z, log_jacobian), (rows, total))


def test_a_chain_says_what_it_is_made_of():
    X = skewed(400, 3)
    chain = fit_latent_map(X, np.ones(400), np.arange(400) < 40, "auto")
    assert chain.has(Whitening) and not chain.has(RadialTransform)
    assert isinstance(chain.part(MarginalTransform), MarginalTransform)
    with pytest.raises(KeyError, match="no RadialTransform among its 2 parts"):
        chain.part(RadialTransform)
    longer = chain.then(radial())
    assert longer.has(RadialTransform) and len(longer.parts) == 3 and len(chain.parts) == 2
    keys = longer.to_arrays().keys()
    assert {"version", "0.marginal.location", "1.whitening.matrix", "2.radial.scales"} <= keys


def test_more_than_ten_parts_keep_their_order():
    scales = np.arange(1.0, 13.0)
    chain = Chain(linear_marginal(np.full(2, s), np.full(2, s)) for s in scales)
    again = Chain.from_arrays(chain.to_arrays())
    assert [part.scale[0] for part in again.parts] == list(scales)


@pytest.mark.parametrize("version", [None, 0, 2])
def test_arrays_of_another_version_are_refused(version):
    arrays = Chain((radial(),)).to_arrays()
    del arrays["version"]
    if version is not None:
        arrays["version"] = np.asarray(version)
    found = "no format version" if version is None else f"format version {version}"
    with pytest.raises(ValueError, match=f"have {found}.* reads version 1.*fit it again"):
        Chain.from_arrays(arrays)


def test_a_chain_of_linear_parts_is_an_affine_map():
    X, nobody = skewed(200, 3), np.zeros(200, dtype=bool)
    chain = fit_latent_map(X, np.ones(200), nobody, "standardize")
    shift, matrix = as_affine(chain)
    np.testing.assert_allclose((X - shift) @ matrix, chain.forward(X)[0], atol=1e-12)


def test_a_chain_that_bends_its_rows_is_refused_as_an_affine_map():
    X, nobody = skewed(200, 3), np.zeros(200, dtype=bool)
    straight = fit_latent_map(X, np.ones(200), nobody, "standardize")
    curved = fit_latent_map(X, np.ones(200), nobody, "gaussianize")
    for chain in (curved, straight.then(autoregressive(3))):
        with pytest.raises(ValueError, match="no affine map"):
            as_affine(chain)
