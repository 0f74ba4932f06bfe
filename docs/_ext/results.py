"""Tables of the pages, read from the files of ``benchmarks/results`` when the pages are built."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
OURS = ("DSMDensityEstimator", "DSMRegressor", "TableDensityEstimator")


@dataclass
class Table:
    """A table: the file that it is from, the names of its columns, its rows, its machine."""

    source: str
    header: list[str]
    rows: list[list[str]]
    machine: str

    def as_rst(self) -> str:
        """The table in reStructuredText."""
        lines = [".. list-table::", "   :header-rows: 1", "   :class: results", ""]
        for row in (self.header, *self.rows):
            for place, cell in enumerate(row):
                lines.append(f"   {'* -' if place == 0 else '  -'} {cell}".rstrip())
        note = f"``benchmarks/results/{self.source}``: {self.machine}."
        return "\n".join([*lines, "", ".. rst-class:: small", "", note, ""])


def read(name: str) -> list[str]:
    """The lines of a file of results."""
    return (RESULTS / name).read_text().splitlines()


def machine(lines: list[str]) -> str:
    """The line with the machine, the versions and, where there is one, the commit."""
    return next(line for line in lines if "torch " in line and "Python " in line)


def cells(line: str) -> list[str]:
    """The cells of a line, which two or more blanks separate."""
    return re.split(r"\s{2,}", line.strip())


def plain(name: str) -> str:
    """A name of a table without underscores."""
    return name.replace("_", " ")


def with_error(pair: list[float], digits: int = 3) -> str:
    """A mean and its standard error."""
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def best(values: dict[str, float], lowest: bool = False) -> str:
    """The name of the best value."""
    return (min if lowest else max)(values, key=values.__getitem__)


# Densities


def density() -> Table:
    """The default estimator beside the best competitor on every table."""
    lines = read("density_summary.txt")
    start = next(i for i, line in enumerate(lines) if line.startswith("table "))
    rows = []
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        name, n, d, ours, rival, difference, error, verdict, *_ = cells(line)
        rival = rival.replace("gaussianised columns", "gaussianised")
        verdict = f"**{verdict}**" if verdict == "loss" else verdict
        rows.append([plain(name), n, d, ours, rival, difference, error, verdict])
    header = [
        "table",
        "samples",
        "features",
        "log-density",
        "best competitor",
        "difference",
        "s.e.",
        "result",
    ]
    return Table("density_summary.txt", header, rows, machine(lines))


def repeated_values() -> Table:
    """A table with repeated values, and the same with noise."""
    whole = density()
    kept = [0, 3, 4, 5, 6, 7]
    rows = [[row[i] for i in kept] for row in whole.rows if row[0].startswith("pendigits")]
    return Table(whole.source, [whole.header[i] for i in kept], rows, whole.machine)


def density_seconds() -> Table:
    """Seconds of the fits and samples scored a second, beside the best competitor."""
    lines = read("density_summary.txt")
    start = next(i for i, line in enumerate(lines) if line.startswith("table "))
    rows = []
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        name, _, _, _, rival, _, _, _, fit, speed = cells(line)
        ours, theirs = fit.split(" / ")
        our_speed, their_speed = speed.split(" / ")
        rows.append([plain(name), rival, ours, theirs, our_speed, their_speed])
    header = ["table", "best competitor", "fit, s", "its fit, s", "scored a second", "by it"]
    return Table("density_summary.txt", header, rows, machine(lines))


def demonstration() -> Table:
    """Real tables that scikit-learn or this package contains."""
    lines = read("demo.txt")
    start = next(i for i, line in enumerate(lines) if line.startswith("table "))
    methods = ["KernelDensity", "GaussianMixture", "DSMDensityEstimator"]
    rows = []
    for line in lines[start + 1 :]:
        found = re.match(r"(.+?)\s{2,}(\d+ x \d+)(.*)", line)
        if not found:
            continue
        pairs = re.findall(r"(-?[\d.]+) \(\s*([\d.]+)\)", found[3])
        values = {name: float(value) for name, (value, _) in zip(methods, pairs, strict=True)}
        shown = [
            f"**{float(value):.2f}**" if name == best(values) else f"{float(value):.2f}"
            for name, (value, _) in zip(methods, pairs, strict=True)
        ]
        rows.append([found[1], found[2].replace("x", "×"), *shown, pairs[-1][1] + " s"])
    header = ["table", "samples × features", *(f"``{name}``" for name in methods), "its time"]
    return Table("demo.txt", header, rows, machine(lines))


def two_moons() -> Table:
    """Divergences from the truth on two moons."""
    lines = read("two_moons.txt")
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        match = re.match(r"(\d+) rows, ([\w]+).*mean ([\d.]+)", line)
        if match:
            found.setdefault(match[1], {})[match[2]] = float(match[3])
    methods = list(next(iter(found.values())))
    rows = [
        [f"{int(n):,}", *marked({name: values[name] for name in methods}, lowest=True)]
        for n, values in found.items()
    ]
    header = ["samples", *(f"``{name}``" for name in methods)]
    return Table("two_moons.txt", header, rows, machine(lines))


def marked(values: dict[str, float], lowest: bool = False, digits: int = 3) -> list[str]:
    """Values with the best in bold."""
    top = best(values, lowest)
    return [
        f"**{value:.{digits}f}**" if name == top else f"{value:.{digits}f}"
        for name, value in values.items()
    ]


def time_to_quality() -> Table:
    """Log-densities by seconds of fit, and what flows had reached."""
    lines = read("time_to_quality.txt")
    flow = ""
    rows: dict[str, list[str]] = {}
    for line in lines:
        if " has, after" in line:
            flow = line.split(" has, after")[0]
        parts = cells(line)
        if len(parts) != 8 or parts[0] == "table":
            continue
        name, reached, *ours, when = parts
        row = rows.setdefault(name, [plain(name), *ours])
        row += [reached, when.replace(" *", "")]
    header = [
        "table",
        *("3 s", "6 s", "12 s", "24 s", "60 s"),
        "NSF",
        "reached",
        "NSF, g.",
        "reached",
    ]
    assert flow
    return Table("time_to_quality.txt", header, list(rows.values()), machine(lines))


def gpu() -> Table:
    """Fits on a CPU and on a GPU."""
    lines = read("gpu_60_s.txt")
    rows, table = [], ""
    for line in lines[3:]:
        parts = line.split()
        if len(parts) == 1:
            table = parts[0]
        elif len(parts) == 8 and parts[0] in ("cpu", "cuda"):
            device, value, error, seconds, epochs, trained, _, scored = parts
            kind = {"cpu": "CPU, 2 cores", "cuda": "GPU"}[device]
            rows.append([plain(table), kind, value, error, seconds, epochs, trained, scored])
    chip = next(line for line in lines if line.startswith("cuda:")).removeprefix("cuda: ")
    header = ["table", "device", "log-density", "s.e.", "fit, s", "epochs"]
    header += ["trained a second", "scored a second"]
    return Table("gpu_60_s.txt", header, rows, f"{machine(lines)}; {chip}")


# Targets given features


def conditional_records() -> tuple[str, list[dict]]:
    """The machine and the records of the benchmark of conditional densities."""
    content = json.loads((RESULTS / "conditional.json").read_text())
    return content["head"], content["tables"]


def conditional() -> Table:
    """``DSMRegressor`` beside the best of the other methods, table by table."""
    head, records = conditional_records()
    rows = []
    for record in records:
        methods = dict(record["methods"])
        ours = methods.pop("DSMRegressor")
        rivals = {name: each["nll"][0] for name, each in methods.items()}
        rival = best(rivals, lowest=True)
        least = min(each["crps"][0] for each in record["methods"].values())
        lead = ours["nll"][0] - rivals[rival]
        noise = 2 * (ours["nll"][1] ** 2 + methods[rival]["nll"][1] ** 2) ** 0.5
        verdict = "level" if abs(lead) <= noise else "lower" if lead < 0 else "**higher**"
        rows.append(
            [
                plain(record["table"]),
                str(record["n_splits"]),
                with_error(ours["nll"]),
                with_error(methods[rival]["nll"]),
                rival,
                verdict,
                f"{ours['crps'][0] / least:.2f}",
                f"{ours['coverage'][0]:.3f}",
            ]
        )
    header = ["table", "splits", "NLL", "NLL of the best other", "which is", "NLL is"]
    header += ["CRPS ratio", "coverage"]
    return Table("conditional.json", header, rows, head)


def conditional_by_method() -> Table:
    """The negative log-likelihood of every method."""
    head, records = conditional_records()
    names = list(dict.fromkeys(name for record in records for name in record["methods"]))
    rows = []
    for record in records:
        values = {name: each["nll"][0] for name, each in record["methods"].items()}
        shown = dict(zip(values, marked(values, lowest=True), strict=True))
        rows.append([plain(record["table"]), *(shown.get(name, "") for name in names)])
    return Table("conditional.json", ["table", *names], rows, head)


# Tables of mixed columns


def tables_likelihood() -> Table:
    """Mean log-probabilities of complete test samples."""
    lines = read("tables_likelihood.txt")
    found: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        match = re.match(r"([\w+.]+), (.+), seed \d+: .*complete rows (-?[\d.]+)", line)
        if match:
            found.setdefault(match[2], {}).setdefault(match[1], []).append(float(match[3]))
    names = list(next(iter(found.values())))
    means = {
        method: {name: fmean(values[name]) for name in values} for method, values in found.items()
    }
    rows = []
    for method, own in means.items():
        row = [f"``{method}``" if method in OURS else method]
        for name in names:
            top = best({each: value[name] for each, value in means.items() if name in value})
            text = f"{own[name]:.3f}" if name in own else ""
            row.append(f"**{text}**" if method == top else text)
        rows.append(row)
    splits = {name: len(next(iter(found.values()))[name]) for name in names}
    header = ["method"]
    header += [f"{plain(name)} ({n} split{'s' * (n > 1)})" for name, n in splits.items()]
    return Table("tables_likelihood.txt", header, rows, machine(lines))


def tables_samples() -> Table:
    """How well drawn samples resemble real ones."""
    lines = read("tables_samples.txt")
    rows = []
    pattern = (
        r"(\w+), (.+), seed \d+: AUC ([\d.]+); shapes ([\d.]+), trends ([\d.]+), "
        r"boundary [\d.]+, category [\d.]+, dcr ([\d.]+); ([\d.]+) s"
    )
    for line in lines:
        match = re.match(pattern, line)
        if match:
            name, method, *values = match.groups()
            shown = f"``{method}``" if method in OURS else method
            rows.append([name, shown.replace("fitted rows", "training samples"), *values])
    header = ["table", "method", "AUC", "shapes", "trends", "DCR", "seconds"]
    return Table("tables_samples.txt", header, rows, machine(lines))


def tables_missing() -> Table:
    """Imputations by the share of values that were removed."""
    lines = read("tables_missing.txt")
    found: dict[tuple[str, str], dict[str, str]] = {}
    methods: list[str] = []
    for line in lines:
        match = re.match(r"(\w+), (.+), seed \d+: (\d+)% removed: .*CRPS ([\d.]+)", line)
        if match:
            found.setdefault((match[1], match[3]), {})[match[2]] = match[4]
            methods += [match[2]] if match[2] not in methods else []
    rows = [
        [plain(name), f"{share} %", *(values.get(method, "") for method in methods)]
        for (name, share), values in found.items()
    ]
    header = ["table", "removed"]
    header += [f"``{method}``" if method in OURS else method for method in methods]
    return Table("tables_missing.txt", header, rows, machine(lines))


# Graphs and samplers


def causal_rivals() -> Table:
    """Causal graphs by several packages."""
    lines = read("structure_rivals.txt")
    pattern = r"\s+(.+?)\s+SHD\s+([\d.]+) \(([\d.]+)\)\s+SID\s+([\d.]+)\s+([\d.]+) s"
    rows = []
    for line in lines:
        match = re.match(pattern, line)
        if match:
            rows.append([match[1], f"{match[2]} ± {match[3]}", match[4], match[5]])
    header = ["method", "SHD ± standard deviation", "SID", "seconds"]
    return Table("structure_rivals.txt", header, rows, machine(lines))


def causal_sachs() -> Table:
    """Causal graphs of the protein data."""
    lines = read("structure_sachs.txt")
    rows = []
    for line in lines:
        match = re.match(r"\s+(\w[\w, ]+?)\s{2,}(-|\d+) / (\d+) / (\d+)$", line)
        if match:
            name = {"by variance": "sorted by variance", "raw": "raw units"}.get(match[1], match[1])
            rows.append([name, match[2].strip("-"), match[3], match[4]])
    return Table(
        "structure_sachs.txt", ["result", "order divergence", "SHD", "SID"], rows, machine(lines)
    )


def edges() -> Table:
    """Coverage of intervals and false edges in simulations."""
    lines = read("structure_edges.txt")
    pattern = r"\s+(\w+) \w+ n=(\d+) p=(\d+)\s+edges ([\d.]+)\s+non-edges ([\d.]+).*error ([\d.]+)"
    rows = [
        [plain(m[1]), f"{int(m[2]):,}", m[3], m[4], m[5], m[6]]
        for m in (re.match(pattern, line) for line in lines)
        if m
    ]
    header = ["family", "samples", "features", "coverage, edges", "coverage, other pairs"]
    return Table("structure_edges.txt", [*header, "any false edge"], rows, machine(lines))


def undirected_rivals() -> Table:
    """Graphs of truncated normal data, beside the graphical lasso."""
    lines = read("structure_recovery.txt")
    rows = []
    for line in lines:
        match = re.match(r"\s+(.+?)\s{2,}([\d.]+)\s+by seed", line)
        if match:
            name = match[1]
            own = f'``RegularizedScoreMatching(weight="{name}")``'
            rows.append(["``GraphicalLasso``" if " " in name else own, match[2]])
    return Table("structure_recovery.txt", ["method", "area under the curve"], rows, machine(lines))


def samplers() -> Table:
    """Constants and distances of samplers."""
    lines = read("sampling_rivals.txt")
    rows, target = [], ""
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("seeds "))
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            target = line.split(";")[0]
        elif "out of time" in line:
            rows.append([target, cells(line)[0], "", "out of time", "", "", "", ""])
        else:
            name, _, calls, seconds, error, largest, _, distance, modes = cells(line)
            blank = ["" if each == "-" else each for each in (error, largest, distance, modes)]
            name = "``AnnealedSampler``" if name == "AnnealedSampler" else name
            name = name.replace("prior_scale=1", "the same, ``prior_scale=1``")
            rows.append([target, name, calls, seconds, *blank])
    header = ["target", "method", "evaluations", "seconds", "error of log Z", "largest error"]
    return Table("sampling_rivals.txt", [*header, "SW2", "modes"], rows, machine(lines))


def constants() -> Table:
    """Errors of log Z on targets whose log Z is known."""
    lines = read("sampling_constants.txt")
    rows, sampler = [], ""
    for line in lines:
        found = re.match(r"(AnnealedSampler|DiffusionSampler), (.+)$", line)
        if found:
            options = "" if found[2] == "defaults" else f", ``{found[2]}``"
            sampler = f"``{found[1]}``{options}"
        match = re.match(
            r"\s+(\S.*?)\s{2,}(\d+)\s+([+-][\d.]+)\s+(?:[\d.]+\s+)?([\d.]+)\s+[\d.]+\s+"
            r"(\d+ of \d+)\s+([\d.]+)\s+.*?([\d.]+)$",
            line,
        )
        if sampler and match:
            rows.append([sampler, *match.groups()])
    header = ["sampler", "target", "seeds", "mean error", "largest", "within 2 s.e.", "ESS"]
    return Table("sampling_constants.txt", [*header, "seconds"], rows, machine(lines))


TABLES: dict[str, Callable[[], Table]] = {
    each.__name__: each
    for each in (
        density,
        repeated_values,
        density_seconds,
        demonstration,
        two_moons,
        time_to_quality,
        gpu,
        conditional,
        conditional_by_method,
        tables_likelihood,
        tables_samples,
        tables_missing,
        causal_rivals,
        causal_sachs,
        edges,
        undirected_rivals,
        samplers,
        constants,
    )
}
