"""The samples of a table that is never held as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import gen_batches
from sklearn.utils.random import sample_without_replacement

from .._columns import as_numbers, check_rows
from .._compat import number_of_samples, samples_at
from .._core.losses.loss import TrainingRows
from .._transforms.chain import Chain
from .._validation import check_weight

# Most consecutive samples that an epoch takes together, as a disk reads them fastest, and places of
# the table from which it takes them at least: fewer would not stand for a table that is sorted.
RUN_ROWS, MIN_PLACES = 256, 1000
# Samples that are read and transformed at a time.
PART_ROWS = 2**14


class Stream:
    """Reads samples of a table where they are: some that a fit keeps, and others in every epoch.

    Parameters
    ----------
    estimator : object
        Whose features the table sets.
    X : array-like of shape (n, d)
        Of which single samples can be read: an array, mapped from a file or not, or a frame.
    sample_weight : array-like of shape (n,) or None
    size : int
        Samples to hold in memory at a time.
    """

    def __init__(self, estimator: Any, X: Any, sample_weight: Any, size: int):
        self.X, self.size, self.n_used = X, size, number_of_samples(X)
        self.run_rows = min(max(1, size // MIN_PLACES), RUN_ROWS)
        self.weight = None if sample_weight is None else check_weight(sample_weight, X)
        self._check_every_sample(estimator)
        if self.weight is not None:
            # Samples are counted without those of weight zero.
            self.used = np.flatnonzero(self.weight)
            self.n_used, self.mean_weight = len(self.used), self.weight[self.used].mean()
        self.kept = self.left_out = np.array([], dtype=np.int64)

    def _check_every_sample(self, estimator: Any) -> None:
        """Raise where :func:`check_rows` would, were the table in memory."""
        extremes: list[np.ndarray] = []
        for part in gen_batches(self.n_used, PART_ROWS):
            rows = as_numbers(estimator, samples_at(self.X, part), reset=part.start == 0)
            if self.weight is not None:
                rows = rows[self.weight[part] > 0]
            if len(rows):
                known = np.concatenate([*extremes, rows])
                extremes = [known.min(0, keepdims=True), known.max(0, keepdims=True)]
        self.names = getattr(estimator, "feature_names_in_", None)
        check_rows(np.concatenate(extremes), self.names)

    def keep(self, random_state: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Choose samples to hold in memory: rows (size, d), in their order, and weights (size,)."""
        self.kept = sample_without_replacement(self.n_used, self.size, random_state=random_state)
        self.kept.sort()
        parts = gen_batches(self.size, PART_ROWS)
        rows = np.concatenate([self._read(self.kept[part]) for part in parts])
        try:
            check_rows(rows, self.names)
        except ValueError as error:
            raise ValueError(
                f"Of the {self.size} random samples that fit holds in memory: {error} Or raise "
                "samples_in_memory, if other samples differ there."
            ) from error
        return rows, self._weight_of(self.kept)

    def leave_out(self, held_out: np.ndarray) -> None:
        """Never train on these of the kept samples (a mask)."""
        self.left_out = self.kept[held_out]

    def draw(self, latent: Chain, generator: torch.Generator) -> TrainingRows:
        """Other samples to train on, behind a map: runs from random places of the whole table."""
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        n_runs, wanted = (-(-n // self.run_rows) for n in (self.n_used, self.size))
        random = np.random.default_rng(int(seed))
        runs = np.sort(random.choice(n_runs, wanted, replace=False, shuffle=False))
        together = gen_batches(wanted, PART_ROWS // self.run_rows)
        parts = [self._mapped(runs[part], latent) for part in together]
        rows, weight = (torch.cat(each).to(generator.device) for each in zip(*parts, strict=True))
        return TrainingRows(rows, weight)

    def _mapped(self, runs: np.ndarray, latent: Chain) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent rows and weights of the samples of some runs that may be trained on."""
        places = (self.run_rows * runs[:, None] + np.arange(self.run_rows)).ravel()
        places = places[places < self.n_used]
        nearest = np.searchsorted(self.left_out, places)
        places = places[np.append(self.left_out, -1)[nearest] != places]
        Z, _ = latent.forward(self._read(places))
        return torch.from_numpy(Z).float(), torch.from_numpy(self._weight_of(places)).float()

    def _read(self, places: np.ndarray) -> np.ndarray:
        index = places if self.weight is None else self.used[places]
        return np.ascontiguousarray(samples_at(self.X, index), dtype=np.float64)

    def _weight_of(self, places: np.ndarray) -> np.ndarray:
        """Of mean one over the table."""
        if self.weight is None:
            return np.ones(len(places))
        return self.weight[self.used[places]] / self.mean_weight


def stream_of(estimator: Any, X: Any, sample_weight: Any, size: int | None) -> Stream | None:
    """Reads the samples of a table as they are needed; None where so many may be held that all are.

    Raises
    ------
    TypeError
        Where X is a dask collection.
    ValueError
        Where :func:`weighted_rows_to_fit` would raise.
    """
    if size is None:
        return None
    if hasattr(X, "__dask_graph__"):
        raise TypeError(
            "X is a dask collection, of which an epoch cannot read single samples quickly. Write "
            "it to a file first: fit(sklearn_dsm.out_of_core.write_samples(X, path))."
        )
    if number_of_samples(X) <= size:
        return None
    stream = Stream(estimator, X, sample_weight, size)
    return stream if stream.n_used > size else None
