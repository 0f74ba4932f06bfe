"""Mixed tables: held-out log-probabilities, drawn rows, missing values, and cost.

OMP_NUM_THREADS=1 python benchmarks/tables.py --data FOLDER [--parts NAME ...] [--rows N]
    [--seeds N] [--seconds S] [--tables NAME ...] [--methods NAME ...] [--resume] [--smoke]

Parts: "likelihood" (log-probabilities of rows that were not fitted, under the same measure for all
methods), "samples" (drawn rows: scores of sdmetrics, and a classifier that tells them from real
ones), "missing" (fits on rows with holes, imputations), "scale" (100,000 rows of 50 columns).

FOLDER, or its folders "mixed" and "density", has the files of the tables. Every fit runs in a
process of its own. Records are kept in ``tables_PART.jsonl`` after every fit; ``--resume`` goes on
where a run was cut off. A method whose package is not installed is left out, and the report says
so: pyvinecopulib for "likelihood"; sdmetrics, sdv, arfpy and ForestDiffusion for "samples".
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import _tables_likelihood as likelihood
import _tables_missing as missing
import _tables_samples as samples
import _tables_scale as scale
from _report import RESULTS, run_parts
from _tables import default_folder

PARTS = {
    "likelihood": likelihood.part,
    "samples": samples.part,
    "missing": missing.part,
    "scale": scale.part,
}
ALL_METHODS = list(likelihood.METHODS | samples.METHODS | missing.METHODS)
# Methods of a smoke run that need no package beyond the tests' own.
QUICK = ["TableDensityEstimator", "independent columns", "mixture of products", missing.GAUSSIAN]


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", default=["likelihood"], choices=list(PARTS), metavar="NAME")
    add("--data", type=Path, default=default_folder(), help="folder of the tables' files")
    add("--tables", nargs="+", metavar="NAME", help="(default: those of the part)")
    add("--methods", nargs="+", choices=ALL_METHODS, metavar="NAME", help="(default: all)")
    add("--rows", type=int, help="most rows to fit (default: all; in the part missing, 8,000)")
    add("--test-rows", type=int, default=3000, help="most rows to test (default: 3,000)")
    add("--seeds", type=int, default=3, help="number of splits (default: 3)")
    add("--seconds", type=float, default=60.0, help="seconds of our fit and of networks (60)")
    add("--results", type=Path, help="folder of the results (default: results beside this file)")
    add("--resume", action="store_true", help="keep the records that are there")
    add("--smoke", action="store_true", help="tiny tables, quick methods, a temporary folder")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.methods = options.methods or QUICK
        options.seeds, options.seconds = 1, 1.0
        options.results = options.results or Path(tempfile.mkdtemp(prefix="tables-"))
    options.folder = options.results or RESULTS
    return options


def main(arguments: list[str] | None = None) -> None:
    title = "Mixed tables: TableDensityEstimator beside other methods"
    run_parts(PARTS, parsed(arguments), "tables", title)


if __name__ == "__main__":
    main()
