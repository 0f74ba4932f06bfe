"""A job done by a process of its own, which writes what it found as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def outcome(
    arguments: list[str], job: dict, limit: float | None = None, threads: int | None = None
) -> Any:
    """What a script of these arguments writes for a job, which it gets as the last of them.

    The job's "out" is the file to write. ``subprocess.TimeoutExpired`` where it takes longer
    than ``limit`` seconds, ``ChildProcessError`` with its last words where it writes nothing.
    """
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "outcome.json"
        command = [sys.executable, *arguments, json.dumps(job | {"out": str(out)})]
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=limit
        )
        if out.exists():
            return json.loads(out.read_text())
    last = (ended.stderr.strip().splitlines() or [""])[-1]
    raise ChildProcessError(f"exit status {ended.returncode}: {last}")


def write_outcome(found: Any, job: dict) -> None:
    """Write what was found for a job, all of it or nothing."""
    part = Path(job["out"]).with_suffix(".part")
    part.write_text(json.dumps(found))
    os.replace(part, job["out"])
