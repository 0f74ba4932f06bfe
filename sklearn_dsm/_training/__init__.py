"""Training through skorch: nothing else of the package knows it."""

from .judges import ErrorJudge, Judge, State
from .record import InterruptedFitWarning, NonFiniteLossError, TrainingRecord, TrainingSettings
from .run import train, train_module, warn_if_interrupted

__all__ = [
    "ErrorJudge",
    "InterruptedFitWarning",
    "Judge",
    "NonFiniteLossError",
    "State",
    "TrainingRecord",
    "TrainingSettings",
    "train",
    "train_module",
    "warn_if_interrupted",
]
