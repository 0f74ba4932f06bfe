"""Types of the columns of tables as plain values, for files."""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMBERS = {f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)}
POLARS_NAMES = _NUMBERS | {"Boolean", "Categorical", "Float32", "Float64", "Null", "String"}


def plain_type(library: str, dtype: Any) -> Any:
    """A name, or a dict for one with categories; types that have no name stay as they are."""
    if library == "numpy":
        return dtype.str
    return _plain_pandas(dtype) if library == "pandas" else _plain_polars(dtype)


def type_of(library: str, plain: Any) -> Any:
    """The type that has this plain value."""
    is_plain = isinstance(plain, str | dict)
    if not is_plain:
        return plain
    if library == "numpy":
        return np.dtype(plain)
    return _pandas_type(plain) if library == "pandas" else _polars_type(plain)


def _plain_pandas(dtype: Any) -> Any:
    import pandas

    if isinstance(dtype, pandas.CategoricalDtype):
        categories = dtype.categories
        return {
            "categories": categories.to_numpy(dtype=object).tolist(),
            "type": _plain_pandas(categories.dtype),
            "ordered": dtype.ordered,
        }
    # How strings are stored may differ between machines.
    if isinstance(dtype, pandas.StringDtype):
        return str(dtype)
    named = pandas.api.types.pandas_dtype(str(dtype))
    return str(dtype) if named == dtype else dtype


def _pandas_type(plain: Any) -> Any:
    import pandas

    if isinstance(plain, str):
        return pandas.api.types.pandas_dtype(plain)
    categories = pandas.Index(plain["categories"], dtype=type_of("pandas", plain["type"]))
    return pandas.CategoricalDtype(categories, plain["ordered"])


def _plain_polars(dtype: Any) -> Any:
    import polars

    if isinstance(dtype, polars.Enum):
        return {"categories": dtype.categories.to_list()}
    name = str(dtype)
    return name if name in POLARS_NAMES and getattr(polars, name) == dtype else dtype


def _polars_type(plain: Any) -> Any:
    import polars

    if isinstance(plain, dict):
        return polars.Enum(plain["categories"])
    if plain not in POLARS_NAMES:
        raise ValueError(f"polars has no type {plain!r} that a table may have.")
    return getattr(polars, plain)()
