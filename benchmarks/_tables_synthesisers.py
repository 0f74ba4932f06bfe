"""Methods that draw rows like those of a table; each a function to a frame of drawn rows.

All take complete rows, the measure of the columns, the number of rows to draw, a seed and the
seconds of fit. They give the drawn frame and a note on their settings.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from _budget import timed
from _tables_marginals import Independent
from _tables_measure import Column, coded, decoded
from _tables_mixture import ProductMixture
from _tables_ours import fitted

Columns = tuple[Column, ...]


def ours(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    return fitted(frame, columns, seconds, seed).sample(n, random_state=seed), ""


def independent(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    model = Independent(coded(frame, columns), seed)
    return decoded(model.sample(n, seed)), "no dependence at all"


def mixture(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    model = ProductMixture(coded(frame, columns), seed)
    return decoded(model.sample(n, seed)), model.note


def repeated(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    drawn = frame.sample(n, replace=True, random_state=seed).reset_index(drop=True)
    return drawn, "the fitted rows themselves"


def sdv_metadata(columns: Columns):
    """SDV's description: the benchmark's measure says what is a category."""
    from sdv.metadata import Metadata

    kinds = {True: {"sdtype": "categorical"}, False: {"sdtype": "numerical"}}
    described = {column.name: kinds[column.kind == "discrete"] for column in columns}
    return Metadata.load_from_dict({"tables": {"table": {"columns": described}}})


def gaussian_copula(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    from sdv.single_table import GaussianCopulaSynthesizer

    model = GaussianCopulaSynthesizer(sdv_metadata(columns))
    model.fit({"table": frame})
    return model.sample(n)["table"], ""


def networks(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float, name: str):
    """A network of SDV with as many epochs as the seconds allow by two short trials."""
    import sdv.single_table
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)

    def model_of(epochs: int):
        kind = getattr(sdv.single_table, name)
        model = kind(sdv_metadata(columns), epochs=epochs, enable_gpu=False)
        return model, timed(lambda: model.fit({"table": frame}))[1]

    model_of(1)
    one, four = model_of(1)[1], model_of(4)[1]
    each = max((four - one) / 3, 1e-3)
    epochs = max(1, int((seconds - one) / each))
    model, taken = model_of(epochs)
    return model.sample(n)["table"], f"{epochs} epochs, {taken:.0f} s without the trials"


def ctgan(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    return networks(frame, columns, n, seed, seconds, "CTGANSynthesizer")


def tvae(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    return networks(frame, columns, n, seed, seconds, "TVAESynthesizer")


def adversarial_forest(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    # arfpy 0.1.1 calls this function, which numpy 2.4 has no more.
    if not hasattr(np, "in1d"):
        np.in1d = np.isin
    from arfpy import arf

    np.random.seed(seed)
    named = frame.copy()
    for column in columns:
        if column.kind == "discrete":
            named[column.name] = named[column.name].astype(str).astype("category")
    model = arf.arf(named, num_trees=30, random_state=seed, verbose=False)
    model.forde()
    drawn = model.forge(n)
    for column in columns:
        if column.kind == "discrete":
            known = {str(value): value for value in column.values}
            drawn[column.name] = drawn[column.name].astype(str).map(known)
    return rounded(drawn, columns), "30 trees"


def diffused_forest(frame: pd.DataFrame, columns: Columns, n: int, seed: int, seconds: float):
    """Trees of flow matching: fewer times and copies of a row than their defaults, 50 and 100."""
    from ForestDiffusion import ForestDiffusionModel

    rows = coded(frame, columns)
    X = np.stack([rows.values(j) for j in range(len(columns))], 1)
    for j, column in enumerate(columns):
        if column.kind == "discrete":
            X[:, j] = rows.codes[:, j]
    categories = [j for j, column in enumerate(columns) if column.kind == "discrete"]
    binary = [j for j in categories if len(columns[j].values) == 2]
    n_times, n_copies = 15, 10
    model = ForestDiffusionModel(
        X,
        n_t=n_times,
        duplicate_K=n_copies,
        n_estimators=50,
        bin_indexes=binary,
        cat_indexes=[j for j in categories if j not in binary],
        n_jobs=1,
        seed=seed,
    )
    drawn = model.generate(batch_size=n)
    data = {}
    for j, column in enumerate(columns):
        x = drawn[:, j].astype(float)
        if column.kind == "discrete":
            code = np.clip(np.round(x), 0, len(column.values) - 1).astype(int)
            x = pd.Series([column.values[i] for i in code])
        data[column.name] = x
    return rounded(pd.DataFrame(data), columns), f"{n_times} times, {n_copies} copies, 50 trees"


def rounded(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Numbers at the centres of their cells."""
    for column in columns:
        if column.step:
            x = frame[column.name].astype(float)
            frame[column.name] = np.round(x / column.step) * column.step
    return frame[[column.name for column in columns]]
