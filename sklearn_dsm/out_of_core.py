"""Tables larger than memory: files of samples to fit to, scores and draws in chunks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._compat import Interval, validate_parameter_constraints
from ._extras import extra
from ._random import seed_from
from .density import TableDensityEstimator

__all__ = ["sample_in_chunks", "score_samples_in_chunks", "write_samples"]

# Samples of a parquet file that are read at a time.
PARQUET_ROWS = 2**16
# torch and numpy take seeds below this.
N_SEEDS = 2**32


def write_samples(X, path, *, dtype="float64"):
    """Write a table to a file part by part, and map the file into memory.

    ``fit`` of :class:`~sklearn_dsm.DSMDensityEstimator` reads the result where it is if
    ``samples_in_memory`` is given.

    Parameters
    ----------
    X : dask array, dask dataframe, str, path-like or iterable
        The table, of shape (n_samples, n_features).

        - A dask array or dataframe: chunks of samples are computed one at a time.
        - A string or path: a parquet file, or a folder of parquet files. Needs pyarrow.
        - An iterable: parts of shape (n_part, n_features), for instance arrays or data frames.
    path : str or path-like
        The file to write, in the format .npy. An earlier file is replaced at the end, and left as
        it is if there is an error.
    dtype : {"float64", "float32"}, default="float64"
        "float32" takes half the disk.

    Returns
    -------
    memmap of shape (n_samples, n_features)
        Read-only. Names of columns are lost.

    Raises
    ------
    ValueError
        If a part is not two-dimensional, holds text, or has another number of columns than the
        first; if there are no samples; or if ``dtype`` is unknown.
    ImportError
        If X names a parquet file, and pyarrow is not installed.
    OSError
        If a file cannot be read or written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from sklearn_dsm.out_of_core import write_samples
    >>> path = os.path.join(tempfile.mkdtemp(), "samples.npy")
    >>> parts = (np.random.default_rng(k).normal(size=(100, 3)) for k in range(5))
    >>> X = write_samples(parts, path)
    >>> X.shape, type(X).__name__
    ((500, 3), 'memmap')
    """
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype={dtype!r} must be 'float64' or 'float32'.")
    path, unfinished = os.fspath(path), f"{os.fspath(path)}.part"
    try:
        with open(unfinished, "wb") as file:
            _write_parts(file, _parts_of(X), np.dtype(dtype))
        os.replace(unfinished, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(unfinished)
        raise
    return np.load(path, mmap_mode="r")


def _write_parts(file, parts: Iterable[Any], dtype: np.dtype) -> None:
    """A .npy file, whose header leaves room for a number of samples that comes last."""
    n_samples, n_features = 0, None
    for part in parts:
        rows = _rows_of(part, dtype)
        if n_features is None:
            n_features = rows.shape[1]
            _write_header(file, (0, n_features), dtype)
        if rows.shape[1] != n_features:
            raise ValueError(
                f"A part has {rows.shape[1]} columns, and the first has {n_features}. All parts of "
                "a table must have the same columns."
            )
        n_samples += len(rows)
        rows.tofile(file)
    if not n_samples:
        raise ValueError("The table has no samples, so there is nothing to write.")
    file.seek(0)
    _write_header(file, (n_samples, n_features), dtype)


def _write_header(file, shape: tuple[int, int | None], dtype: np.dtype) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _rows_of(part: Any, dtype: np.dtype) -> np.ndarray:
    try:
        rows = np.ascontiguousarray(part, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A part of type {type(part).__name__} does not hold numbers: {error}. Encode or drop "
            "columns of text, dates and categories first."
        ) from error
    if rows.ndim != 2:
        raise ValueError(
            f"A part has {rows.ndim} dimensions instead of two. Give an iterable of parts, each of "
            "shape (n_part, n_features); for a single array, [X]."
        )
    return rows


def _parts_of(X: Any) -> Iterator[Any]:
    """Parts of a table, none of them before it is asked for."""
    if isinstance(X, (str, os.PathLike)):
        return _parquet_parts(X)
    if hasattr(X, "partitions") and hasattr(X, "columns"):
        return (part.compute() for part in X.partitions)
    if hasattr(X, "__dask_graph__"):
        return (X.blocks[k].compute() for k in range(X.numblocks[0]))
    return iter(X)


def _parquet_parts(path: Any) -> Iterator[np.ndarray]:
    with extra("dask", "Reading parquet files needs pyarrow"):
        from pyarrow import dataset
    options = {"batch_size": PARQUET_ROWS, "batch_readahead": 1, "fragment_readahead": 1}
    for batch in dataset.dataset(path, format="parquet").to_batches(**options):
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        yield np.column_stack(columns) if columns else np.empty((batch.num_rows, 0))


def score_samples_in_chunks(estimator, X):
    """Compute log-densities of a dask array or dataframe, chunk by chunk and when asked for.

    Parameters
    ----------
    estimator : object
        A fitted density estimator, or anything else whose ``score_samples`` returns one number per
        sample.
    X : dask array or dask dataframe of shape (n_samples, n_features)

    Returns
    -------
    dask array of shape (n_samples,), float64, or dask Series
        A Series, with the index of X, if X is a dataframe. Nothing is computed yet. Every chunk
        is then scored by itself, so only the chunks in work are in memory.

    Raises
    ------
    NotFittedError
        If ``estimator`` is not fitted.
    TypeError
        If X is not a dask collection.
    ValueError
        If X has another number of columns than the samples of ``fit``.

    Examples
    --------
    >>> import dask.array
    >>> import numpy as np
    >>> from sklearn_dsm import KernelScoreEstimator
    >>> from sklearn_dsm.out_of_core import score_samples_in_chunks
    >>> density = KernelScoreEstimator().fit(np.random.default_rng(0).normal(size=(200, 2)))
    >>> X = dask.array.random.default_rng(1).normal(size=(1000, 2), chunks=(250, 2))
    >>> values = score_samples_in_chunks(density, X)
    >>> values.chunks
    ((250, 250, 250, 250),)
    >>> bool(np.isfinite(values.mean().compute()))
    True
    """
    check_is_fitted(estimator)
    if not hasattr(X, "__dask_graph__"):
        raise TypeError(
            f"X is a {type(X).__name__} and no dask array or dataframe. Call "
            "estimator.score_samples(X), which takes little memory besides X, or make a dask array "
            "of it with dask.array.from_array(X, chunks=...)."
        )
    expected = getattr(estimator, "n_features_in_", X.shape[1])
    if X.shape[1] != expected:
        raise ValueError(
            f"X has {X.shape[1]} features, and {type(estimator).__name__} was fitted to {expected}."
        )
    if hasattr(X, "columns"):
        return X.map_partitions(partial(_scored_frame, estimator), meta=("log_density", "float64"))
    X = X.rechunk({1: -1})
    score = partial(_scored, estimator)
    return X.map_blocks(score, drop_axis=1, dtype=np.float64, meta=np.empty(0))


def _scored(estimator: Any, X: Any) -> np.ndarray:
    """Log-densities of a chunk, which may be empty."""
    return estimator.score_samples(X) if len(X) else np.empty(0)


def _scored_frame(estimator: Any, X: Any) -> Any:
    import pandas

    return pandas.Series(_scored(estimator, X), index=X.index, name="log_density")


def sample_in_chunks(estimator, n_samples, *, chunk_size=100_000, random_state=None):
    """Draw samples chunk by chunk and when asked for.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package whose ``sample`` returns an array of samples.
    n_samples : int
    chunk_size : int, default=100000
        Samples in a chunk; the last one may have fewer.
    random_state : int, RandomState or None, default=None
        Every chunk has a seed of its own. The same integer, ``n_samples`` and ``chunk_size`` give
        the same samples, in whatever order the chunks are computed, and however often.

    Returns
    -------
    dask array of shape (n_samples, n_features), float64
        Nothing is drawn yet.

    Raises
    ------
    NotFittedError
        If ``estimator`` is not fitted.
    TypeError
        If ``estimator`` is a :class:`~sklearn_dsm.TableDensityEstimator`, which draws data frames.
    ValueError
        If ``n_samples`` or ``chunk_size`` is no positive integer.
    ImportError
        If dask is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import KernelScoreEstimator
    >>> from sklearn_dsm.out_of_core import sample_in_chunks
    >>> density = KernelScoreEstimator().fit(np.random.default_rng(0).normal(size=(200, 2)))
    >>> samples = sample_in_chunks(density, 1000, chunk_size=400, random_state=0)
    >>> samples.chunks
    ((400, 400, 200), (2,))
    >>> samples[:3].compute().shape
    (3, 2)
    """
    check_is_fitted(estimator)
    if isinstance(estimator, TableDensityEstimator):
        raise TypeError(
            "A TableDensityEstimator draws data frames, and the chunks here are of arrays. Draw "
            "parts with dask.dataframe.from_map(draw, seeds), where draw(seed) returns "
            "estimator.sample(n, random_state=seed)."
        )
    positive = [Interval(Integral, 1, None, closed="left")]
    validate_parameter_constraints(
        {"n_samples": positive, "chunk_size": positive, "random_state": ["random_state"]},
        {"n_samples": n_samples, "chunk_size": chunk_size, "random_state": random_state},
        caller_name="sample_in_chunks",
    )
    array, delayed = _dask()
    sizes = [min(chunk_size, n_samples - start) for start in range(0, n_samples, chunk_size)]
    random = np.random.default_rng(seed_from(random_state))
    # Without repetition: two chunks of one seed would be the same.
    seeds = random.choice(N_SEEDS, len(sizes), replace=False)
    shared = delayed(estimator)
    chunks = [
        array.from_delayed(
            shared.sample(size, random_state=int(seed)),
            shape=(size, estimator.n_features_in_),
            dtype=np.float64,
        )
        for size, seed in zip(sizes, seeds, strict=True)
    ]
    return array.concatenate(chunks)


def _dask() -> tuple[Any, Any]:
    with extra("dask", "Drawing in chunks needs dask"):
        import dask.array
    return dask.array, dask.delayed
