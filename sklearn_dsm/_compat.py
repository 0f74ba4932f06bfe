"""Every private name of scikit-learn and torch that the package uses, and what older ones lack."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as samples_at
from sklearn.utils import estimator_html_repr
from sklearn.utils._metadata_requests import MetadataRequest, MethodMetadataRequest
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _check_sample_weight
from sklearn.utils.validation import _num_samples as number_of_samples
from torch import Tensor

try:
    from sklearn.callback import CallbackSupportMixin
except ModuleNotFoundError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for the mixin of later versions; there are no callbacks to support."""


# What estimators ask for in scikit-learn's routing of metadata.
ROUTING_CLASSES = (MetadataRequest, MethodMetadataRequest)
__all__ = [
    "ROUTING_CLASSES",
    "CallbackSupportMixin",
    "HTMLReprMixin",
    "Interval",
    "StrOptions",
    "callback_context",
    "check_sample_weight",
    "compiling",
    "fit_context",
    "interpolate_",
    "number_of_samples",
    "regressor_parts",
    "samples_at",
    "validate_parameter_constraints",
]


class HTMLReprMixin:
    """Shows HTML of its own below what scikit-learn shows of an estimator in a notebook."""

    def _html_below(self) -> str:
        return ""

    def _html_repr(self) -> str:
        return estimator_html_repr(self) + self._html_below()

    # Versions before 1.7 know nothing of _html_repr in the two that follow.
    def _repr_html_inner(self) -> str:
        return self._html_repr()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in bundle:
            bundle["text/html"] = self._html_repr()
        return bundle


def check_sample_weight(sample_weight: Any, X: np.ndarray, **options: Any) -> np.ndarray:
    """Weights (n,), not all of them zero, which versions before 1.9 allow."""
    weight = _check_sample_weight(sample_weight, X, **options)
    if len(weight) and not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight


def regressor_parts() -> tuple[tuple[type, ...], tuple[type, ...]]:
    """What regressors of scikit-learn consist of: objects that are their attributes, and others."""
    # Imported here, because few need them and they take a third of a second.
    from sklearn._loss.link import IdentityLink, LogLink
    from sklearn._loss.link import Interval as LossInterval
    from sklearn._loss.loss import HalfGammaLoss, HalfSquaredError
    from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

    attributes = (
        AdamOptimizer,
        HalfGammaLoss,
        HalfSquaredError,
        IdentityLink,
        LogLink,
        LossInterval,
        TreePredictor,
        _BinMapper,
    )
    return attributes, (type(HalfSquaredError().closs), type(HalfGammaLoss().closs))


class _NoCallbacks:
    """The callback context of a scikit-learn without callbacks."""

    def subcontext(self, **task: Any) -> _NoCallbacks:
        return self

    def call_on_fit_task_begin(self, **task: Any) -> None:
        pass

    def call_on_fit_task_end(self, **task: Any) -> bool:
        return False


def callback_context(estimator: CallbackSupportMixin) -> Any:
    """The context by which a fit tells the estimator's callbacks of its tasks."""
    if not hasattr(estimator, "_init_callback_context"):
        return _NoCallbacks()
    return estimator._init_callback_context(max_subtasks=None)


def interpolate_(starts: Sequence[Tensor], ends: Sequence[Tensor], share: float) -> None:
    """Move tensors by a share of their way, all of them at once."""
    torch._foreach_lerp_(list(starts), list(ends), share)


class _SharedPatch:
    """A patch that the first of several threads applies and the last one takes back."""

    def __init__(self) -> None:
        self.lock, self.n_users = threading.Lock(), 0
        self.patch: Any = None

    @contextmanager
    def __call__(self, make_patch) -> Iterator[None]:
        with self.lock:
            if self.n_users == 0:
                self.patch = make_patch()
                self.patch.__enter__()
            self.n_users += 1
        try:
            yield
        finally:
            with self.lock:
                self.n_users -= 1
                if self.n_users == 0:
                    self.patch.__exit__(None, None, None)


_RECOMPILING = _SharedPatch()


@contextmanager
def compiling(max_compiled: int) -> Iterator[None]:
    """Allow torch so many versions of a compiled function; threads may be inside together.

    Raises
    ------
    RuntimeError
        Where torch cannot compile.
    """
    # Imports the compiler, which takes seconds.
    import torch._dynamo.config
    from torch._dynamo.exc import TorchDynamoException

    try:
        with _RECOMPILING(lambda: torch._dynamo.config.patch(recompile_limit=max_compiled)):
            yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split("\n")[:2])
        raise RuntimeError(
            f"torch could not compile the network: {reason} On a CPU it needs a C++ compiler "
            "(the variable CXX names one), on a GPU triton. Or fit with compile=False."
        ) from error
