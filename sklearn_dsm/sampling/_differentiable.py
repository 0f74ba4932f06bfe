"""Fitted estimators as functions of torch tensors, which torch differentiates."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeCV,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

LINEAR_CLASSIFIERS = (LogisticRegression, LinearDiscriminantAnalysis)
LINEAR_REGRESSORS = (ElasticNet, ElasticNetCV, LassoCV, LinearRegression, Ridge, RidgeCV)
PERCEPTRONS = (MLPClassifier, MLPRegressor)
ACTIVATIONS = {
    "identity": lambda h: h,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
}
SOFTMAXES = ("CrossEntropyLoss", "NLLLoss")


def steps_of(estimator) -> list:
    """The steps of a pipeline that do something, or an estimator by itself."""
    if not isinstance(estimator, Pipeline):
        return [estimator]
    return [step for _, step in estimator.steps if step not in (None, "passthrough")]


def log_probabilities(estimator, x: Tensor) -> Tensor:
    """Log-probabilities (n, n_classes) of a classifier.

    Raises
    ------
    TypeError
        If the estimator is none of those that are differentiated here.
    """
    *_, final = steps_of(estimator)
    outputs = _outputs(estimator, x)
    if hasattr(final, "module_"):
        criterion = type(final.criterion_).__name__
        if criterion not in SOFTMAXES or outputs.dim() != 2:
            raise _no_derivative(final)
        # A network with this loss returns probabilities in skorch, and else logits.
        return outputs.log() if criterion == "NLLLoss" else outputs.log_softmax(1)
    if _is_one_versus_rest(final):
        raise _no_derivative(final)
    if outputs.shape[1] == 1:
        outputs = torch.cat([-outputs, outputs], 1)
        return torch.nn.functional.logsigmoid(outputs)
    return outputs.log_softmax(1)


def predictions(estimator, x: Tensor) -> Tensor:
    """Predictions (n, n_outputs) of a regressor; raises as :func:`log_probabilities`."""
    *_, final = steps_of(estimator)
    if getattr(final, "out_activation_", "identity") != "identity":
        raise _no_derivative(final)
    outputs = _outputs(estimator, x)
    return outputs[:, None] if outputs.dim() == 1 else outputs


def _outputs(estimator, x: Tensor) -> Tensor:
    *transformers, final = steps_of(estimator)
    for transformer in transformers:
        x = _transformed(transformer, x)
    if hasattr(final, "module_"):
        return _of_module(final.module_, x)
    if isinstance(final, PERCEPTRONS):
        weights, shifts = final.coefs_, final.intercepts_
        activation = ACTIVATIONS[final.activation]
    elif isinstance(final, LINEAR_CLASSIFIERS + LINEAR_REGRESSORS):
        weights, shifts = [np.atleast_2d(final.coef_).T], [np.atleast_1d(final.intercept_)]
        activation = ACTIVATIONS["identity"]
    else:
        raise _no_derivative(final)
    for weight, shift in zip(weights[:-1], shifts[:-1], strict=True):
        x = activation(x @ _tensor(weight) + _tensor(shift))
    return x @ _tensor(weights[-1]) + _tensor(shifts[-1])


def _transformed(transformer, x: Tensor) -> Tensor:
    if isinstance(transformer, StandardScaler):
        centred = x - _tensor(transformer.mean_) if transformer.with_mean else x
        return centred / _tensor(transformer.scale_) if transformer.with_std else centred
    if isinstance(transformer, PCA):
        rotated = (x - _tensor(transformer.mean_)) @ _tensor(transformer.components_).T
        if not transformer.whiten:
            return rotated
        return rotated / _tensor(transformer.explained_variance_).sqrt()
    raise _no_derivative(transformer)


def _of_module(module: torch.nn.Module, x: Tensor) -> Tensor:
    """The outputs of a module in float64, without a change to its own weights."""
    state = {
        name: value.detach().cpu().double() if value.is_floating_point() else value.cpu()
        for name, value in module.state_dict().items()
    }
    return torch.func.functional_call(module.eval(), state, (x.double(),))  # type: ignore[no-any-return]


def _is_one_versus_rest(final) -> bool:
    """Whether the probabilities of three classes or more are not a softmax."""
    old = getattr(final, "multi_class", None) == "ovr" or (
        getattr(final, "solver", None) == "liblinear"
    )
    return old and len(final.classes_) > 2


def _tensor(array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _no_derivative(step) -> TypeError:
    return TypeError(f"{type(step).__name__} is not differentiated")
