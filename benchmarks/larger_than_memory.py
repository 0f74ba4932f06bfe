"""A fit to 10,000,000 x 20 samples on disk, against one to a tenth of them in memory.

python benchmarks/larger_than_memory.py [--smoke] [--seconds S] [--samples N] [--results FOLDER]

The features are ten pairs, each of two moons, so the density is known. Every fit runs in a process
of its own and takes the same time. Memory is what the operating system counts as the process's own
(RssAnon of /proc/self/status, Linux only), every 20 ms: pages of the mapped file, which the system
takes back when it needs them, do not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from _report import RESULTS, Report

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm.datasets import TwoMoons
from sklearn_dsm.out_of_core import write_samples

N_PAIRS, PART = 10, 500_000
LAW = TwoMoons(0.15)


def samples(n, seed):
    """Independent pairs (n, 2 N_PAIRS)."""
    random = np.random.RandomState(seed)
    return np.hstack([LAW.sample(n, random_state=random) for _ in range(N_PAIRS)])


def log_density(X):
    return sum(LAW.log_density(X[:, 2 * k : 2 * k + 2]) for k in range(N_PAIRS))


def own_memory():
    """MiB of this process that are no pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


class Peak:
    """The most memory of its own that this process has while the block runs."""

    def __enter__(self):
        self.most, self.over = own_memory(), threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        while not self.over.wait(0.02):
            self.most = max(self.most, own_memory())

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()


def child(path, options):
    """Fit, score, and print what was found as JSON."""
    options = json.loads(options)
    X = np.load(path, mmap_mode="r")[: options["n"]]
    density = DSMDensityEstimator(
        max_fit_time=options["seconds"],
        samples_in_memory=options["in_memory"],
        random_state=0,
    )
    before = own_memory()
    with Peak() as peak:
        density.fit(X)
    fresh = samples(options["fresh"], 10**6)
    gaps = log_density(fresh) - density.score_samples(fresh)
    found = {
        "selected": density.selected_,
        "epochs": density.n_epochs_,
        "seconds": density.fit_time_,
        "memory": peak.most - before,
        "divergence": gaps.mean(),
        "error": gaps.std() / len(gaps) ** 0.5,
    }
    print(json.dumps(found))


def fitted(path, **options):
    command = [sys.executable, __file__, "--child", str(path), json.dumps(options)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def written(report, path, n):
    parts = (samples(min(PART, n - start), start) for start in range(0, n, PART))
    start = time.perf_counter()
    with Peak() as peak:
        X = write_samples(parts, path, dtype="float32")
    seconds = time.perf_counter() - start
    report(
        f"A file of {n:,} x {X.shape[1]} samples in float32, {X.nbytes / 2**20:,.0f} MiB, was "
        f"drawn and written in {seconds:.0f} s,"
    )
    report(f"{n / seconds:,.0f} samples a second. The process's memory was {peak.most:,.0f} MiB.")
    report("")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="for trying out; means nothing")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each fit")
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return child(*options.child)
    n, seconds, fresh = options.samples, options.seconds, 2000
    if options.smoke:
        n, seconds, fresh = 20_000, 2.0, 50
    report = Report(
        "larger_than_memory",
        f"Fits of {seconds:g} s to samples on disk and in memory, two moons in each of "
        f"{N_PAIRS} pairs of features",
        options.results,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npy"
        written(report, path, n)
        report("Memory: MiB of the fit above those before it. Trained: samples that the selected")
        report("network saw, in thousands a second of the whole fit. KL: nats a sample to the true")
        report(f"density, on {fresh} fresh samples, with its standard error.")
        report("")
        report("samples     in memory   memory   trained   epochs   KL                selected")
        for used, in_memory in ((n, n // 10), (n, n // 100), (n // 10, None)):
            found = fitted(path, n=used, in_memory=in_memory, seconds=seconds, fresh=fresh)
            an_epoch = in_memory or 0.9 * used
            speed = found["epochs"] * an_epoch / found["seconds"] / 1000
            report(
                f"{used:<11,} {in_memory or used:<11,} {found['memory']:<8,.0f} {speed:<9,.0f} "
                f"{found['epochs']:<8} {found['divergence']:.3f} +- {found['error']:.3f}    "
                f"{found['selected']}"
            )
    report.save()


if __name__ == "__main__":
    main()
