"""One job of the benchmark of mixed tables: started with it in JSON, writes its record."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import sys
import warnings

from _own_process import write_outcome


def measured(job: dict) -> dict:
    """What the module of the job's part measures, without the words of the libraries."""
    part = importlib.import_module(f"_tables_{job['part']}")
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            return {"status": "ok"} | part.measure(job)
    except Exception as error:
        return {"status": "failed", "message": f"{type(error).__name__}: {error}"[:300]}
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    import torch
    from _budget import n_threads

    torch.set_num_threads(n_threads())
    job = json.loads(sys.argv[1])
    write_outcome(measured(job), job)


if __name__ == "__main__":
    main()
