"""The bridge from training epochs to scikit-learn's callbacks."""

from __future__ import annotations

from .._compat import callback_context


class EpochTasks:
    """Tells the estimator's callbacks of every epoch, with the model as it stands."""

    def __init__(self, estimator, X, weight):
        self.estimator, self.X = estimator, X
        self.metadata = {"sample_weight": weight}
        self.offset, self.space = 0.0, {}
        self.context = callback_context(estimator)
        self.context.call_on_fit_task_begin(estimator=estimator, X=X, metadata=self.metadata)

    def begin(self, base, value):
        """Let the epochs to come be those of a network that corrects this base density."""
        self.offset = value
        self.space = {
            "reference_": base.reference,
            "latent_map_": base.split.latent.to_arrays(),
        }

    def __call__(self, record):
        task = self.context.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(estimator=self.estimator, X=self.X, metadata=self.metadata)
        return task.call_on_fit_task_end(
            estimator=self.estimator,
            X=self.X,
            metadata=self.metadata,
            reconstruction_attributes=lambda: self._attributes(record),
        )

    def _attributes(self, record):
        fitted = {name: value for name, value in vars(self.estimator).items() if name[-1] == "_"}
        return (
            fitted
            | self.space
            | {
                "network_weights_": record.weights or {},
                "head_": None,
                "n_epochs_": record.n_epochs,
                "loss_curve_": list(record.loss_curve),
                "validation_scores_": [self.offset + gain for gain in record.gains],
            }
        )

    def finish(self):
        self.context.call_on_fit_task_end(
            estimator=self.estimator, X=self.X, metadata=self.metadata
        )
