"""What a training is told and what it leaves behind."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .._checkpoint import NO_CHECKPOINT, Checkpoint


class NonFiniteLossError(FloatingPointError):
    """The training loss became NaN or infinite.

    Examples
    --------
    >>> from sklearn_dsm import DSMDensityEstimator, NonFiniteLossError
    >>> try:
    ...     DSMDensityEstimator(learning_rate=1e30).fit([[float(i)] for i in range(50)])
    ... except NonFiniteLossError as error:
    ...     print("Lower learning_rate" in str(error))
    True
    """


@dataclass(frozen=True)
class TrainingSettings:
    """How long, how fast and where to train; the estimator's parameters of the same names.

    Training ends where it would not gain ``prune_below`` in the end, if it went on to gain as much
    whenever the epochs double. That is judged after each epoch that ends between these two shares
    of the epochs or the time, ``pruned_between``, from epoch ``pruned_from`` on.
    ``n_iter_no_change`` epochs without a gain are waited for, or more where time ends the run.
    ``compile`` has torch compile the network. On a GPU the steps are recorded as one graph,
    unless ``record_steps`` is false. With ``half_precision`` the optimiser multiplies in bfloat16
    where the device does so faster. Longer gradients are shortened to ``max_gradient``.
    ``checkpoint`` stores how far the training is.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    n_iter_no_change: int
    max_fit_time: float | None = None
    weight_decay: float = 0.0
    max_gradient: float | None = None
    min_batches: int = 32
    held_out_draws: int = 16384
    prune_below: float = -math.inf
    pruned_between: tuple[float, float] = (0.0, 1.0)
    # One epoch has no later half.
    pruned_from: int = 2
    device: str = "cpu"
    compile: bool = False
    record_steps: bool = True
    half_precision: bool = True
    verbose: int = 0
    checkpoint: Checkpoint = NO_CHECKPOINT


@dataclass
class TrainingRecord:
    """What a training run left behind.

    Attributes
    ----------
    weights : dict of str to ndarray, or None
        The averaged weights with the best held-out bound; None where no epoch gained.
    n_epochs : int
    loss_curve : list of float
        Mean training loss of each epoch, in nats per row.
    gains : list of float
        Mean held-out gain over the reference after each epoch, in nats per row.
    baseline : float
        What the judge gave before the first step.
    best_gain : float
        Gain of ``weights``; the baseline where there are none.
    stop_reason : str
        "max_epochs", "no_change", "max_fit_time", "pruned", "interrupted" or "callback".
    """

    weights: dict[str, np.ndarray] | None = None
    n_epochs: int = 0
    loss_curve: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    baseline: float = 0.0
    best_gain: float = 0.0
    stop_reason: str = "max_epochs"

    @property
    def later_gain(self) -> float:
        """What the later half of the epochs gained, and a doubling of all may gain again."""
        return self.best_gain - max([self.baseline, *self.gains[: len(self.gains) // 2]])
