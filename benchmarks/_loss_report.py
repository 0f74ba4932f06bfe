"""The table, the verdicts and the picture of the losses' benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from _report import Report

BASE = "dsm"


class Figure:
    """A number of every record, and whether more of it is better."""

    def __init__(self, of: Callable[[dict], float | None], sign: int, digits: int):
        self.of, self.sign, self.digits = of, sign, digits

    def values(self, records: list[dict]) -> np.ndarray:
        return np.array([self.of(record) for record in records], dtype=float)


def noise_error(record: dict) -> float | None:
    errors = record["errors"]
    return errors and float(np.sqrt(np.mean(np.square(errors))))


def near_data(record: dict) -> float | None:
    return record["errors"] and record["errors"][-1]


def variance_of_a_second(record: dict) -> float:
    return record["variance"] * record["step_seconds"]


COLUMNS = {
    "noise error": Figure(noise_error, -1, 4),
    "near data": Figure(near_data, -1, 4),
    "bound": Figure(lambda record: record["bound"], 1, 3),
    "ODE": Figure(lambda record: record["ode"], 1, 3),
    "s/epoch": Figure(lambda r: r["fit_seconds"] / max(1, r["n_epochs"]), -1, 3),
    "epochs": Figure(lambda record: record["n_epochs"], 1, 0),
    "ms/step": Figure(lambda record: 1e3 * record["step_seconds"], -1, 1),
    "variance": Figure(lambda record: record["variance"], -1, 2),
    "x second": Figure(variance_of_a_second, -1, 4),
}
JUDGED = ("noise error", "near data", "bound", "ODE", "x second")
EXPLANATION = """\
noise error  root mean squared error, a column, of the noise -sqrt(v) s predicted in test rows
             noised to log-SNRs {levels}, against the exact noise of the law
near data    the same at the last of these levels
bound, ODE   mean log-density of 500 test rows, nats: likelihood bound and probability flow
s/epoch      seconds of the whole fit by its epochs; {seconds:g} s were given to each fit
ms/step      loss and gradient of one batch
variance     of a batch's gradient over levels, noise and directions, the rows and the weights
             fixed (those that denoising learned), over its squared mean
x second     variance times the seconds of a step: what is left after a second's steps
Mean over {seeds} seeds, and half the range; of differences, which are taken within a seed, too.
Held-out rows choose the weights of an epoch, and an output's gain by level, by the same bound
for every loss. Finite differences (fd_ssm, lcss) multiply in float32, all others in bfloat16
where the processor is faster at it."""


def chosen(records: list[dict], problem: str, loss: str) -> list[dict]:
    found = [r for r in records if (r["problem"], r["loss"]) == (problem, loss)]
    return sorted(found, key=lambda record: record["seed"])


def names(records: list[dict], key: str) -> list[str]:
    """Different values in the order of their first appearance."""
    return list(dict.fromkeys(record[key] for record in records))


def cell(figure: Figure, records: list[dict], spread: bool) -> str:
    values = figure.values(records)
    if np.isnan(values).any():
        return "-"
    mean = f"{values.mean():.{figure.digits}f}"
    return mean + (f" ±{np.ptp(values) / 2:.{figure.digits}f}" if spread else "")


def write_report(kept: dict, folder: Path) -> None:
    """The table, and for every problem who wins by how much."""
    records = kept["records"]
    seeds = len(names(records, "seed"))
    seconds = {"wall": "s", "processor": "processor seconds"}[kept["clock"]]
    report = Report("losses", f"Losses at {kept['seconds']:g} {seconds} of fit each", folder)
    report.lines[1] = kept["machine"]
    levels = ", ".join(map(str, kept["log_snrs"]))
    report(EXPLANATION.format(levels=levels, seconds=kept["seconds"], seeds=seeds))
    verdicts = []
    for problem in names(records, "problem"):
        own = [record for record in records if record["problem"] == problem]
        report("")
        truth = own[0]["truth"]
        known = "" if truth is None else f"; the law's own mean log-density {mean_truth(own):.3f}"
        report(kept["titles"][problem] + known)
        report(f"{'':<12}" + "".join(f"{name:>{width(name)}}" for name in COLUMNS))
        for loss in names(own, "loss"):
            found = chosen(own, problem, loss)
            cells = (
                f"{cell(column, found, name in JUDGED):>{width(name)}}"
                for name, column in COLUMNS.items()
            )
            report(f"{loss:<12}" + "".join(cells))
        verdicts += [f"{problem}, {name}: {verdict(own, problem, name)}" for name in JUDGED]
    report("")
    for line in verdicts:
        if not line.endswith("unknown"):
            report(line)
    report.save()


def width(name: str) -> int:
    return 17 if name in JUDGED else 9


def mean_truth(records: list[dict]) -> float:
    return float(np.mean([record["truth"] for record in records]))


def verdict(records: list[dict], problem: str, name: str) -> str:
    """Which loss is best, and by how much it beats denoising, or denoising the next."""
    figure = COLUMNS[name]
    values = {
        loss: figure.values(chosen(records, problem, loss)) for loss in names(records, "loss")
    }
    if np.isnan(values[BASE]).any():
        return "unknown"
    order = sorted(values, key=lambda loss: -figure.sign * values[loss].mean())
    first = order[0]
    other = order[1] if first == BASE else BASE
    gap = values[first] - values[other]
    ratio = values[first].mean() / values[other].mean()
    share = "" if name in ("bound", "ODE") else f", to {ratio:.2f} of it"
    within = " (less than the spread)" if np.ptp(np.sign(gap)) else ""
    mean, spread = (f"{x:.{figure.digits}f}" for x in (abs(gap.mean()), np.ptp(gap) / 2))
    better = f"{first} over {other} by {mean} ±{spread}"
    place = "" if first == BASE else f"; dsm is {order.index(BASE) + 1} of {len(order)}"
    return better + share + within + place


def draw(kept: dict, path: Path) -> None:
    """A row a problem: errors by level, log-densities beside denoising's, gradients."""
    records = kept["records"]
    problems, losses = names(records, "problem"), names(records, "loss")
    colours = dict(zip(losses, plt.colormaps["tab10"].colors, strict=False))
    figure, panels = plt.subplots(
        len(problems),
        3,
        figsize=(13, 0.6 + 3.4 * len(problems)),
        squeeze=False,
        layout="constrained",
    )
    for problem, (left, middle, right) in zip(problems, panels, strict=True):
        own = [record for record in records if record["problem"] == problem]
        left.set_title(kept["titles"][problem], fontsize="medium", loc="left")
        draw_errors(left, own, problem, kept["log_snrs"], colours)
        draw_log_densities(middle, own, problem, colours)
        draw_variances(right, own, problem, colours)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_errors(panel, records: list[dict], problem: str, log_snrs, colours: dict) -> None:
    for loss, colour in colours.items():
        found = chosen(records, problem, loss)
        if found[0]["errors"] is None:
            panel.text(0.5, 0.5, "no exact score", ha="center", transform=panel.transAxes)
            panel.set_axis_off()
            return
        errors = np.array([record["errors"] for record in found])
        style = "--" if "," in loss else "-"
        panel.plot(log_snrs, errors.mean(0), style, color=colour, label=loss, linewidth=1.4)
    panel.set_yscale("log")
    panel.set_xlabel("log-SNR: noise left, data right")
    panel.set_ylabel("error of the predicted noise")
    panel.legend(fontsize="x-small", ncols=2)
    panel.grid(alpha=0.3)


def draw_log_densities(panel, records: list[dict], problem: str, colours: dict) -> None:
    base = COLUMNS["ODE"].values(chosen(records, problem, BASE))
    for place, (loss, colour) in enumerate(colours.items()):
        gaps = COLUMNS["ODE"].values(chosen(records, problem, loss)) - base
        panel.plot(gaps, np.full(len(gaps), place), "o", color=colour, alpha=0.6, markersize=5)
        panel.plot(gaps.mean(), place, "|", color="black", markersize=14)
    panel.axvline(0, color="black", linewidth=0.8)
    largest = max(abs(bound) for bound in panel.get_xlim())
    panel.set_xscale("symlog", linthresh=10.0 ** np.floor(np.log10(largest / 3)))
    finish(panel, colours, "log-density (ODE) less that of dsm, nats: right is better")


def draw_variances(panel, records: list[dict], problem: str, colours: dict) -> None:
    base = {
        name: COLUMNS[name].values(chosen(records, problem, BASE)).mean()
        for name in ("variance", "x second")
    }
    for place, (loss, colour) in enumerate(colours.items()):
        found = chosen(records, problem, loss)
        step, second = (COLUMNS[name].values(found).mean() / base[name] for name in base)
        panel.plot([step, second], [place, place], color=colour, linewidth=1)
        panel.plot(step, place, "o", color=colour, fillstyle="none", markersize=6)
        panel.plot(second, place, "o", color=colour, markersize=6)
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_xscale("log")
    finish(panel, colours, "gradient variance over dsm's: ○ a step, ● a second")


def finish(panel, colours: dict, label: str) -> None:
    panel.set_yticks(range(len(colours)), list(colours), fontsize="small")
    panel.invert_yaxis()
    panel.grid(axis="x", alpha=0.3)
    panel.set_xlabel(label, fontsize="small")
