"""What a table has to be to be scored: the columns, types and categories of the fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from .frames import FrameKind, RawColumn, read
from .layout import Layout, Samples


class Schema:
    """A table of the fit: what others must have in common with it, and how to make one like it.

    Parameters
    ----------
    layout : Layout
    columns : list of RawColumn
        Of the fit.
    kind : FrameKind
    floors : bool
        Whether categories that the fit has not seen are allowed.
    """

    def __init__(self, layout: Layout, columns: list[RawColumn], kind: FrameKind, floors: bool):
        self.layout, self._floors = layout, floors
        self.empty = [column.missing_values(1) for column in columns]
        real = [j for j, code in enumerate(layout.codes) if not code.is_whole]
        self.kind = kind.with_real(real)
        self._is_frame = kind.library != "numpy"

    @property
    def names(self) -> list:
        return [column.name for column in self.empty]

    def columns(self, X: Any) -> list[RawColumn]:
        """Columns of a table, of numbers where the fit had numbers.

        Raises
        ------
        ValueError
            Where columns have other names, or another order, or hold something else.
        """
        found = read(X)[0]
        names = [column.name for column in found]
        if self._is_frame and hasattr(X, "columns") and names != self.names:
            raise ValueError(
                f"The columns of X are {names}, and those of the fit were {self.names}, in this "
                "order. Select them with X[...]."
            )
        return [
            RawColumn(known.name, column.values).like(known)
            for column, known in zip(found, self.empty, strict=True)
        ]

    def samples(self, columns: list[RawColumn]) -> Samples:
        """Samples of columns, whose categories are known."""
        return self.checked(self.layout.encode(columns), columns)

    def checked(self, samples: Samples, columns: list[RawColumn] | None = None) -> Samples:
        """The samples, if all their categories are known or others are allowed."""
        for f, field in enumerate(self.layout.fields):
            unknown = samples.have[:, f] & (samples.state[:, f] >= field.n_states)
            if self._floors or not field.n_states or not unknown.any():
                continue
            name = self.layout.codes[field.column].name
            row = np.flatnonzero(unknown)[0]
            held = "a value" if columns is None else repr(columns[field.column].values[row])
            raise ValueError(
                f"Column {name!r} holds {held}, which was not among the samples of the fit. "
                "Set handle_unknown='floor' to give such values a small probability, or for "
                f"numbers column_types={{{name!r}: 'cells'}}."
            )
        return samples

    def with_column(self, X: Any, name: Any) -> Any:
        """The table with a column, in which all is missing, if it has none of such a name."""
        if not hasattr(X, "columns") or name in list(X.columns):
            return X
        columns = {column.name: column for column in read(X)[0]}
        extra = [each for each in columns if each not in self.names]
        if extra or not columns:
            what = (
                f"has the column {extra[0]!r}, which the fit did not have" if extra else "is empty"
            )
            raise ValueError(f"X {what}. The columns of the fit were {self.names}.")
        n = len(next(iter(columns.values())).values)
        columns[name] = self.empty[self.names.index(name)].missing_values(n)
        kept = [j for j, each in enumerate(self.names) if each in columns]
        kind = self.kind.of(kept)
        return kind.build([columns[self.names[j]].values for j in kept])
