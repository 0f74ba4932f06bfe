"""Printing a benchmark's figures and keeping them with the machine they were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import sklearn
import torch

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """The processor's name."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text().splitlines():
            if "model name" in line:
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """One line on the processor, the threads and the versions."""
    return f"{processor()}, {threads_and_versions()}"


def threads_and_versions() -> str:
    """One line on what a run has besides its processor."""
    return (
        f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    )


def commit() -> str:
    """The short hash of the code's commit, "-dirty" behind it where files differ from that."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Report:
    """Lines that are printed as they come and written to ``NAME.txt`` when saved."""

    def __init__(self, name: str, title: str, folder: Path = RESULTS):
        self.path = folder / f"{name}.txt"
        self.lines: list[str] = []
        self(title)
        self(machine())
        self("")

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def save(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text("\n".join(self.lines) + "\n")


def run_parts(
    parts: Mapping[str, Callable[[Report, Namespace], None]],
    options: Namespace,
    name: str,
    title: str,
) -> None:
    """Run ``options.parts``, each into a report of its own.

    Reports go to ``options.results``; without it, those of a smoke run to a temporary folder.
    """
    folder = options.results or (
        Path(tempfile.mkdtemp(prefix=f"{name}-")) if options.smoke else RESULTS
    )
    for part in options.parts:
        report = Report(f"{name}_{part}", title, folder)
        parts[part](report, options)
        report.save()
