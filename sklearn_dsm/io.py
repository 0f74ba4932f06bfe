"""Files of fitted estimators, without code, for other machines and later versions."""

from __future__ import annotations

import inspect
from typing import Any

import sklearn
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.mixture import GaussianMixture
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import check_array, check_is_fitted

from ._compat import ROUTING_CLASSES, regressor_parts
from ._core.losses.bootstrapped import BSM
from ._core.losses.curvature import LCSS
from ._core.losses.denoising import DSM
from ._core.losses.finite_difference import FDSSM
from ._core.losses.implicit import ISM
from ._core.losses.sliced import SSM
from ._core.noise.processes import PBM, VE, VP, SubVP
from ._files.archive import named_errors, read, write
from ._files.encoding import Vocabulary, decode, encode
from ._tabular.coding import DiscreteCode, NumericCode
from ._tabular.columns import ColumnType
from ._tabular.frames import FrameKind, RawColumn
from ._tabular.layout import Field, Layout
from ._tabular.schema import Schema
from ._transforms.marginal import MarginalTransform
from ._warn import warn
from .causal import (
    DensityScoreEstimator,
    KernelExponentialFamily,
    ScoreCausalDiscovery,
    SteinScoreEstimator,
)
from .density import (
    ConditionalTable,
    DSMDensityEstimator,
    KernelScoreEstimator,
    TableDensityEstimator,
)
from .graphical import (
    ExponentialFamilyEstimator,
    PairwiseScoreMatching,
    RegularizedScoreMatching,
    RegularizedScoreMatchingCV,
)
from .mixture import GMMScoreEstimator, LocationMixtureScoreEstimator
from .outliers import DSMOutlierDetector
from .outliers._denoising import Denoiser
from .outliers._tails import Tail
from .regression import DSMRegressor
from .regression._boosting import Booster, Rescaled
from .regression._features import Features
from .regression._lattice import Lattice
from .regression._location_scale import LocationScale, Member
from .regression._neighbours import Neighbours
from .regression._pool import Pool
from .regression._residuals import FixedMixture
from .regression._target_space import TargetSpace
from .sampling import AnnealedSampler, DiffusionSampler, PredictedLogWeight, TiltedSampler

__all__ = ["load", "save"]

ESTIMATORS = (
    AnnealedSampler,
    DSMDensityEstimator,
    DSMOutlierDetector,
    DSMRegressor,
    DensityScoreEstimator,
    DiffusionSampler,
    ExponentialFamilyEstimator,
    GMMScoreEstimator,
    KernelExponentialFamily,
    KernelScoreEstimator,
    LocationMixtureScoreEstimator,
    PairwiseScoreMatching,
    RegularizedScoreMatching,
    RegularizedScoreMatchingCV,
    ScoreCausalDiscovery,
    SteinScoreEstimator,
    TableDensityEstimator,
    TiltedSampler,
)
# What estimators consist of.
PARTS = (
    *(BSM, DSM, FDSSM, ISM, LCSS, SSM, PBM, SubVP, VE, VP),
    *(ColumnType, ConditionalTable, DiscreteCode, Field, FrameKind, Layout, MarginalTransform),
    *(NumericCode, RawColumn, Schema),
    *(Booster, Features, FixedMixture, Lattice, LocationScale, Member, Neighbours, Pool, Rescaled),
    *(TargetSpace, Denoiser, Tail),
    PredictedLogWeight,
)
# Of scikit-learn, whose attributes stay what they are.
STABLE = (FrozenEstimator, GaussianMixture, *ROUTING_CLASSES)
REGRESSOR_PARTS, STATELESS_PARTS = regressor_parts()
CHANGING = (
    ColumnTransformer,
    FunctionTransformer,
    HistGradientBoostingRegressor,
    LinearRegression,
    LogisticRegression,
    MLPRegressor,
    OneHotEncoder,
    OrdinalEncoder,
    Pipeline,
    RidgeCV,
    StandardScaler,
    *REGRESSOR_PARTS,
)
VOCABULARY = Vocabulary(
    classes={
        **{each.__name__: each for each in (*ESTIMATORS, *PARTS)},
        **{f"sklearn.{each.__name__}": each for each in (*STABLE, *CHANGING)},
    },
    built={f"sklearn.{each.__name__}": each for each in STATELESS_PARTS},
    functions={"sklearn.check_array": check_array},
)
KIND = "fitted estimator"


def save(estimator, path):
    """Write a fitted estimator to a file without code.

    The file is in the format safetensors. It holds the arrays of the estimator, and as JSON its
    parameters and the rest of its fitted state. A file is written whole or not at all: if saving
    fails, a file that was at ``path`` before is still there.

    Parameters
    ----------
    estimator : estimator of this package
        Fitted.
    path : str or path-like
        An existing file is replaced.

    Raises
    ------
    TypeError
        If the estimator is not one of this package, or a part of it cannot be in a file: a
        function, for instance ``log_density`` of a sampler, or an object of another package.
    NotFittedError
        If the estimator is not fitted.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    load : Reads the file.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn_dsm import GMMScoreEstimator, io
    >>> X = [[0.0], [0.2], [1.0], [1.3], [1.9], [3.0]]
    >>> mixture = GMMScoreEstimator(standard_errors=False).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "mixture.safetensors")
    ...     io.save(mixture, path)
    ...     again = io.load(path)
    >>> bool((again.score_samples(X) == mixture.score_samples(X)).all())
    True
    """
    name = type(estimator).__name__
    if type(estimator) not in ESTIMATORS:
        raise TypeError(
            f"save() writes fitted estimators of sklearn_dsm, got {estimator!r} of the type "
            f"{type(estimator).__module__}.{name}. Save the estimators of a pipeline or a search "
            "one by one, for instance search.best_estimator_; or use joblib.dump."
        )
    check_is_fitted(estimator)
    write(path, KIND, *encode(estimator, VOCABULARY, name))


def load(path, device=None):
    """Read a fitted estimator from a file of :func:`save`.

    The estimator gives the same results as the one that was saved, bit for bit on a machine of the
    same kind with the same versions. Reading a file runs no code from it. Parameters that the
    estimator did not have when it was saved get their defaults.

    Parameters
    ----------
    path : str or path-like
    device : str or None, default=None
        A value for the parameter ``device`` of the estimator and of the estimators in it. None
        leaves the parameters as they were saved. An estimator that was fitted with
        ``device="cuda"`` is evaluated on the CPU where there is no CUDA.

    Returns
    -------
    estimator : estimator of this package

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, not from :func:`save`, or from a later version of the package that
        writes another format; or if ``device`` is given, and no estimator has this parameter.
    ImportError
        If safetensors is not installed.

    Warns
    -----
    InconsistentVersionWarning
        If the estimator contains regressors or transformers of scikit-learn, and was saved with
        another version of scikit-learn.

    See Also
    --------
    save : Writes the file; with an example.
    """
    found: list[Any] = []
    with named_errors(path):
        content = read(path, KIND)
        estimator = decode(content.tree, content.arrays, VOCABULARY, found.append)
        if type(estimator) not in ESTIMATORS:
            raise ValueError(f"{path!r} holds no estimator of sklearn_dsm.")
    for each in found:
        _complete(each)
    if device is not None:
        _set_device(found, device, type(estimator).__name__)
    if any(isinstance(each, CHANGING) for each in found):
        _warn_of_version(estimator, content.versions["sklearn"])
    return estimator


def _complete(found: Any) -> None:
    """Give an object parameters that its class had not yet when it was saved."""
    if not isinstance(found, BaseEstimator):
        return
    for parameter in inspect.signature(type(found).__init__).parameters.values():
        if parameter.default is not parameter.empty:
            vars(found).setdefault(parameter.name, parameter.default)


def _set_device(found: list, device: str, name: str) -> None:
    estimators = [each for each in found if isinstance(each, BaseEstimator)]
    on_devices = [each for each in estimators if "device" in each.get_params(deep=False)]
    if not on_devices:
        raise ValueError(
            f"device={device!r} is for estimators with the parameter device, which {name} does not "
            "have. Leave it out."
        )
    for each in on_devices:
        each.device = device


def _warn_of_version(estimator, saved: str) -> None:
    if saved == sklearn.__version__:
        return
    warn(
        InconsistentVersionWarning(
            estimator_name=type(estimator).__name__,
            current_sklearn_version=sklearn.__version__,
            original_sklearn_version=saved,
        ),
        InconsistentVersionWarning,
    )
