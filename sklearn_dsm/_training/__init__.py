"""Training through skorch: nothing else of the package knows it."""

from .judges import ErrorJudge, Judge, State
from .record import NonFiniteLossError, TrainingRecord, TrainingSettings
from .run import train, train_module

__all__ = [
    "ErrorJudge",
    "Judge",
    "NonFiniteLossError",
    "State",
    "TrainingRecord",
    "TrainingSettings",
    "train",
    "train_module",
]
