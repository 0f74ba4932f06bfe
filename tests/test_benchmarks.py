"""The benchmarks: their laws, tables, column maps and networks, and runs from end to end."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sklearn_dsm._core.noise.conversions import convert
from sklearn_dsm._core.scores.follmer import foellmer_drift
from sklearn_dsm.datasets import Funnel, GaussianMixtureLaw, TwoMoons

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMOKE_METHODS = ("DSMDensityEstimator", "KernelDensity", "GaussianMixture")
SMOKE_METHODS += ("NSF",) if find_spec("zuko") else ()
SMOKE_TABLES = ("wine+noise", "two_moons_300")


@pytest.fixture(scope="module")
def room():
    """name -> module of the benchmarks' folder, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def laws(room):
    return room("_laws")


@pytest.fixture(scope="module")
def tables(room):
    return room("_tables")


def test_mixture_of_fifty_columns_overlaps_a_little(laws):
    law = laws.mixture()
    X, component = law.sample_labelled(4000, np.random.default_rng(0))
    mistaken = (law.predict_proba(X).argmax(1) != component).mean()
    assert 0.01 < mistaken < 0.05


def test_a_law_gives_other_rows_to_test_than_to_fit(tables):
    table = tables.load("two_moons_300", Path("unused"), seed=0)
    again = tables.load("two_moons_300", Path("unused"), seed=0)
    np.testing.assert_array_equal(table.train, again.train)
    assert not np.isin(table.test, table.train).any()
    assert np.isfinite(table.truth).all()


def test_a_split_parts_the_rows_and_depends_on_the_seed(tables, tmp_path):
    X = np.arange(400.0).reshape(200, 2)
    np.savez(tmp_path / "counted.npz", X=X)
    first, second = (tables.load("counted", tmp_path, seed) for seed in (0, 1))
    assert first.test.shape == (20, 2)
    assert not np.array_equal(first.test, second.test)
    together = np.concatenate([first.train, first.test])
    np.testing.assert_array_equal(together[np.argsort(together[:, 0])], X)


def test_constant_columns_are_dropped_and_told(tables, tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 3))
    X[:, 1] = 2.0
    np.savez(tmp_path / "flat.npz", X=X)
    table = tables.load("flat", tmp_path, seed=0)
    assert table.train.shape == (45, 2)
    assert "1 constant columns dropped" in table.note


def test_quantum_noise_stays_within_the_smallest_step(tables):
    X = np.random.default_rng(0).integers(20, size=(300, 2)) * [0.1, 5.0]
    added = tables.with_noise(X) - X
    assert (added >= 0).all()
    assert (added.max(0) < [0.1 + 1e-12, 5.0]).all()
    assert (added.max(0) > [0.09, 4.5]).all()


def test_noise_of_a_given_width_is_named_with_the_table(tables, tmp_path):
    np.savez(tmp_path / "ratios.npz", X=np.ones((300, 2)) / np.arange(1, 3))
    table = tables.load("ratios+noise_0.01", tmp_path, seed=0)
    added = np.concatenate([table.train, table.test]) - [1.0, 0.5]
    assert (added >= 0).all()
    assert (added < 0.01).all()
    assert (added.max(0) > 0.009).all()


def test_patches_follow_the_published_protocol(tables, tmp_path):
    grey = np.random.default_rng(0).integers(256, size=(60, 64)).astype(np.uint8)
    np.savez(tmp_path / "bsds300_patches.npz", train=grey[:40], val=grey[40:50], test=grey[50:])
    table = tables.load("bsds300_patches", tmp_path, seed=0)
    assert table.train.shape == (50, 63)
    assert table.test.shape == (10, 63)
    expected = grey[50:] / 256.0 - (grey[50:] / 256.0).mean(1, keepdims=True)
    np.testing.assert_allclose(table.test, expected[:, :-1], atol=1 / 256)


@pytest.mark.parametrize("name", ["Standardized", "TailsPulledIn", "Gaussianized"])
def test_column_maps_give_the_log_of_their_slope(room, name):
    X = np.random.default_rng(0).standard_t(2, size=(500, 3)) * [1.0, 10.0, 0.1]
    columns, step = getattr(room("_columns"), name)(X), 1e-6
    above, below = (columns.forward(X[:50] + sign * step * X.std(0))[0] for sign in (1, -1))
    slopes = (above - below) / (2 * step * X.std(0))
    np.testing.assert_allclose(columns.forward(X[:50])[1], np.log(slopes).sum(1), atol=1e-3)


def test_pulled_in_tails_stay_within_the_bound(room):
    X = np.random.default_rng(0).standard_t(2, size=(500, 3))
    Z = room("_columns").TailsPulledIn(X).forward(X)[0]
    assert np.abs(Z).max() <= 5 + 1e-9


def test_the_mass_of_a_known_law_is_one(room):
    law = TwoMoons()
    law.score_samples = law.log_density
    X = law.sample(300, np.random.default_rng(0))
    assert room("_density_run").mass(law, X, 90) == pytest.approx(1, abs=1e-3)


def record(method, difference, seed=0, **more):
    """A record as a fit leaves it, with a difference to ours where it is a rival's."""
    figures = {"log_density": -1.0 + difference, "standard_error": 0.1}
    figures |= {"difference": difference, "difference_error": 0.1}
    shape = {"n_train": 90, "n_test": 10, "d": 2, "n_not_finite": 0}
    state = {"table": "t", "method": method, "seed": seed, "budget": 1.0, "status": "ok"}
    state |= {"started": "2026-01-02 10:00:00", "processor": "P"}
    return state | shape | figures | more


def summary(report, records):
    head = {"machine": "m", "threads": 1, "options": {"tables": ["t"], "budget": 1.0, "seeds": 1}}
    return "\n".join(report.report_lines(report.Results(head, records)))


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (0.5, "best KernelDensity; DSMDensityEstimator loses to KernelDensity, -0.5000"),
        (-0.5, "best DSMDensityEstimator; DSMDensityEstimator wins over KernelDensity, +0.5000"),
        (0.1, "best KernelDensity; DSMDensityEstimator ties with KernelDensity, -0.1000"),
    ],
)
def test_the_summary_names_the_winner(room, difference, sentence):
    records = [
        record("DSMDensityEstimator", 0.0),
        record("KernelDensity", difference),
        record("GaussianMixture", -1.0),
    ]
    assert sentence in summary(room("_density_report"), records)


def test_a_fit_of_ours_without_a_result_is_lost(room):
    ours = record("DSMDensityEstimator", 0.0) | {"status": "failed", "message": "m"}
    del ours["log_density"]
    text = summary(room("_density_report"), [ours, record("NSF", 0.0), record("MAF", 0.0)])
    assert "best competitor of each table: wins 0, ties 0, loses 1 of 1" in text


def test_a_competitor_with_a_result_on_some_splits_only_is_named(room):
    records = [record(name, -0.5, seed) for name in ("NSF", "MAF") for seed in (0, 1)]
    records += [record("DSMDensityEstimator", 0.0, seed) for seed in (0, 1)]
    records[1] |= {"log_density": None}
    text = summary(room("_density_report"), records)
    assert "without a result on some split, so not counted: NSF" in text
    assert "KernelDensity               not run" in text


def test_a_difference_to_a_fit_that_is_no_more_is_dropped(room, tmp_path):
    report = room("_density_report")
    for name in ("ours", "theirs"):
        np.savez(tmp_path / f"{name}.npz", log_density=np.arange(5.0) * (name == "ours"))
    ours = record("DSMDensityEstimator", 0.0, rows="ours.npz")
    theirs = record("NSF", 9.0, rows="theirs.npz")
    report.add_differences([ours, theirs], tmp_path)
    assert theirs["difference"] == -2.0
    (tmp_path / "theirs.npz").unlink()
    report.add_differences([ours, theirs], tmp_path)
    assert theirs["difference"] == -2.0
    report.add_differences([ours | {"started": "2026-01-03 10:00:00"}, theirs], tmp_path)
    assert "difference" not in theirs


def test_the_error_over_seeds_is_the_larger_of_rows_and_spread(room):
    figure = room("_density_report").Figure
    assert figure.over_seeds([(1.0, 0.3), (1.0, 0.4)]) == pytest.approx((1.0, 0.25))
    assert figure.over_seeds([(0.0, 0.1), (2.0, 0.1)]) == pytest.approx((1.0, 1.0))


def test_a_report_tells_when_and_where_its_fits_were_made(room):
    report = room("_density_report")
    first, second = (record("NSF", 0.0, started=f"2026-02-0{day} 10:00:00") for day in (3, 4))
    assert report.when_and_where([first, first]) == "fits of 2026-02-03 on P"
    found = report.when_and_where([second | {"processor": "Q"}, first])
    assert found == "fits of 2026-02-03 to 2026-02-04 on P and Q"
    ours = record("DSMDensityEstimator", 0.0) | {"processor": "Q"}
    assert report.when_and_where([ours, first]).endswith("elsewhere than ours NSF")


def job(tmp_path, table, method="KernelDensity"):
    paths = {"data": str(tmp_path), "rows": str(tmp_path / "rows")}
    fit = {"table": table, "method": method, "seed": 0, "budget": 1.0}
    return fit | paths | {"started": "now", "processor": "P", "mass_points": 20}


@pytest.mark.slow
def test_a_missing_file_and_a_failure_are_recorded(room, tmp_path):
    density = room("density")
    (missing,) = density.records_of(job(tmp_path, "absent"))
    assert missing["status"] == "not found"
    np.savez(tmp_path / "broken.npz", X=np.full((50, 2), np.inf) * [[1.0, -1.0]])
    (failed,) = density.records_of(job(tmp_path, "broken"))
    assert failed["status"] == "failed"
    assert failed["message"]


def run_smoke(folder):
    command = [sys.executable, str(BENCHMARKS / "density.py"), "--smoke", "--results", str(folder)]
    command += ["--methods", *SMOKE_METHODS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr


def check_records(kept):
    by_fit = {(r["table"], r["method"]): r for r in kept["records"]}
    for table in SMOKE_TABLES:
        for method in SMOKE_METHODS:
            found = by_fit[table, method]
            assert found["status"] == "ok", found
            assert np.isfinite(found["log_density"])
            assert found["fit_mebibytes"] >= 0
            assert found["rows_per_second"] > 0
            assert ("difference" in found) == (method != "DSMDensityEstimator")
            assert ("divergence" in found) == (table == "two_moons_300")
    assert kept["machine"]
    assert by_fit["two_moons_300", "KernelDensity"]["mass"] == pytest.approx(1, abs=0.02)


def check_report(text):
    for table in SMOKE_TABLES:
        assert f"  {table}: best " in text
    assert "KL(truth || model) on two_moons_300: DSMDensityEstimator" in text


# One test: two would each have to wait for a run of their own in two worker processes.
@pytest.mark.slow
def test_a_smoke_run_records_reports_draws_and_can_be_resumed(room, tmp_path):
    run_smoke(tmp_path)
    kept = json.loads((tmp_path / "density.json").read_text())
    check_records(kept)
    check_report((tmp_path / "density.txt").read_text())
    assert (tmp_path / "density.png").stat().st_size > 10_000
    options = ["--smoke", "--resume", "--results", str(tmp_path), "--methods", *SMOKE_METHODS]
    room("density").main(options)
    assert json.loads((tmp_path / "density.json").read_text())["records"] == kept["records"]


@pytest.mark.parametrize("pinned", [False, True])
def test_a_raw_network_is_what_its_process_has_to_learn(room, pinned):
    raw = room("_raw_networks")
    model = raw.raw_model(3, 8, pinned, seed=0)
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.network.output.weight, generator=generator)
    x, time = torch.randn(50, 3, generator=generator), torch.tensor(0.3)
    process = raw.CLOCKS["PBM" if pinned else "VP"].process
    level = process.level(time)
    learned = model.network.raw(x, level.log_snr)
    if pinned:
        torch.testing.assert_close(foellmer_drift(model, process, x, time), learned)
    else:
        torch.testing.assert_close(model.score(x, level), learned - x)


def test_the_pinned_clock_weighs_noise_as_bridges_are_matched(room):
    clock, generator = room("_raw_networks").CLOCKS["PBM"], torch.Generator().manual_seed(0)
    clean, noise, predicted = torch.randn(3, 100, 2, generator=generator)
    time = 0.01 + 0.98 * torch.rand(100, 1, generator=generator)
    level = clock.process.level(time)
    y = level.a * clean + level.v.sqrt() * noise
    drift = (convert(predicted, y, level, "noise", "clean") - y) / time
    bridge = time * (drift - (clean - y) / time) ** 2
    torch.testing.assert_close(
        clock.weight(time) * (predicted - noise) ** 2, bridge, rtol=1e-3, atol=1e-3
    )


def test_generating_from_an_untrained_model_gives_standard_normal_rows(room):
    raw = room("_raw_networks")
    for name, clock in raw.CLOCKS.items():
        model = raw.raw_model(2, 4, name == "PBM", seed=0)
        rows = raw.generate(model, clock.process, 20_000, 200, seed=0)
        np.testing.assert_allclose(np.cov(rows.numpy().T), np.eye(2), atol=0.04)


@pytest.mark.slow
def test_smoothing_against_pinning_runs_from_end_to_end(room, tmp_path, monkeypatch):
    benchmark = room("vp_versus_pbm")
    monkeypatch.setattr(benchmark, "N_TRAIN", 300)
    monkeypatch.setattr(benchmark, "N_FRESH", 60)
    law = GaussianMixtureLaw([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    target = benchmark.law_target("two modes", law)
    options = ["--seeds", "2", "--steps", "5", "--widths", "4", "8", "--results", str(tmp_path)]
    benchmark.main(options, only=[target])
    text = (tmp_path / "vp_versus_pbm.txt").read_text()
    assert len(re.findall(r"^(smoothed|pinned) ", text, re.MULTILINE)) == 2 * 4
    assert len(re.findall(r"^package ", text, re.MULTILINE)) == 2
    assert "nan" not in text
    assert (tmp_path / "vp_versus_pbm.png").stat().st_size > 10_000


def test_samplers_smoothing_against_pinning_run_from_end_to_end(room, tmp_path, monkeypatch):
    benchmark = room("dds_versus_pis")
    monkeypatch.setattr(benchmark, "N_DRAWS", 50)
    law = GaussianMixtureLaw([[-2.0, 0.0], [2.0, 0.0]])
    case = benchmark.Case("two modes", law, lambda seed: law.sample(50, seed), 2.0)
    options = ["--seeds", "2", "--steps", "2", "--widths", "4", "8", "--results", str(tmp_path)]
    benchmark.main(options, only=[case])
    text = (tmp_path / "dds_versus_pis.txt").read_text()
    assert len(re.findall(r"^(dds|pis) ", text, re.MULTILINE)) == 2 * 2 * 2
    assert "nan" not in text
    assert (tmp_path / "dds_versus_pis.png").stat().st_size > 10_000


def bootstrapping_ratios(room, ladder, ridge, n_replicates):
    """Mean error of the bootstrapped score over that of the denoised one, at each time."""
    ladders, benchmark = room("_ladders"), room("bootstrapping")
    law, times = benchmark.four_modes(), benchmark.LADDERS[ladder]
    errors = np.mean(
        [
            ladders.ladder_errors(
                law, 300, times, benchmark.TIMES, ladders.wave_regression(2, ridge, seed), seed
            )
            for seed in range(n_replicates)
        ],
        0,
    )
    return errors[:, 1] / errors[:, 0]


def test_bootstrapping_along_a_ladder_of_ratio_two_halves_the_error(room):
    early, middle, late = bootstrapping_ratios(room, "ratio 2", 1e-3, n_replicates=8)
    assert late < 0.5
    assert early < 0.8
    assert middle < 0.6


def test_bootstrapping_adds_up_its_errors_along_a_fine_ladder(room):
    assert (bootstrapping_ratios(room, "step .05", 0.1, n_replicates=4)[1:] > 1.5).all()


@pytest.mark.slow
def test_bootstrapping_runs_from_end_to_end(room, tmp_path, monkeypatch):
    benchmark = room("bootstrapping")
    monkeypatch.setattr(benchmark, "RIDGES", (1e-3,))
    monkeypatch.setattr(benchmark, "N_TEST", 200)
    monkeypatch.setattr(benchmark, "N_BOUND", 50)
    monkeypatch.setattr(benchmark, "N_ROWS", 100)
    options = ["--replicates", "2", "--seeds", "2", "--epochs", "1", "--rows", "60"]
    benchmark.main([*options, "--dimensions", "2", "3", "--results", str(tmp_path)])
    text = (tmp_path / "bootstrapping.txt").read_text()
    assert text.count("ridge 0.001") == 3 + 1
    assert text.count("over dsm") == 2
    assert (tmp_path / "bootstrapping.png").stat().st_size > 10_000


def test_the_funnels_image_is_the_funnel_turned_scaled_and_shifted(room):
    law, random = Funnel(3), np.random.default_rng(0)
    turn, shift, factor = np.linalg.qr(random.normal(size=(3, 3)))[0], random.normal(size=3), 0.3
    image = room("_noised_laws").image(law, shift, factor * turn)
    a, v = 0.8, 0.36
    Z = a * factor * (law.sample(200, random) - shift) @ turn + 0.6 * random.normal(size=(200, 3))
    back = law.noised_score(Z @ turn.T + a * factor * shift, a * factor, v) @ turn
    np.testing.assert_allclose(image.noised_score(Z, a, v), back, rtol=1e-8, atol=1e-10)


def test_the_ring_has_unit_variance(room):
    X = room("_noised_laws").ring().sample(50_000, 0)
    np.testing.assert_allclose(np.cov(X.T), np.eye(2), atol=0.02)


def test_the_right_score_has_no_noise_error(room):
    laws = room("_noised_laws")
    law, image = laws.ring(), laws.image(laws.ring(), np.ones(2), np.diag([0.5, 2.0]))
    Z = (law.sample(100, 0) - 1) * [0.5, 2.0]
    assert laws.noise_errors(image.noised_score, image, Z, (0.0, 4.0), 0).max() == 0
    assert laws.noise_errors(law.noised_score, image, Z, (0.0, 4.0), 0).min() > 0.01


@pytest.mark.slow
def test_a_short_run_of_the_losses_records_reports_and_draws(room, tmp_path):
    options = ["--seconds", "0.3", "--seeds", "1", "--gradients", "3", "--problems", "mixture"]
    losses = ["bsm", "dsm, edm"]
    room("losses").main([*options, "--results", str(tmp_path), "--losses", *losses])
    records = json.loads((tmp_path / "losses.json").read_text())["records"]
    assert [record["loss"] for record in records] == ["dsm", *losses]
    for record in records:
        assert record["variance"] > 0
        assert np.isfinite([record["ode"], record["bound"], *record["errors"]]).all()
    text = (tmp_path / "losses.txt").read_text()
    for name in ("noise error", "near data", "bound", "ODE", "x second"):
        assert f"mixture, {name}: " in text
    assert (tmp_path / "losses.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_tiny_run_of_curvature_smoothing_reports_and_draws(room, tmp_path):
    room("curvature").main(["--tiny", "--results", str(tmp_path)])
    text = (tmp_path / "curvature.txt").read_text()
    assert "lcss - ism, nats" in text
    assert text.count("Milliseconds of a step by columns") == 2
    assert text.count("relative error of the score") == 2
    assert (tmp_path / "curvature.png").stat().st_size > 10_000


def test_a_smoke_run_of_the_kernel_estimates_reports_every_part(room, tmp_path):
    room("kernels").main(["--smoke", "--results", str(tmp_path)])
    text = (tmp_path / "kernels.txt").read_text()
    assert text.count("KernelScoreEstimator, support") == 4
    for law in room("kernels").LAWS:
        assert f"  {law}" in text
    assert text.count("against the best of the others") == len(room("kernels").LAWS)
    assert "nan" not in text


@pytest.mark.slow
def test_a_smoke_run_larger_than_memory_reports_every_fit(room, tmp_path):
    room("larger_than_memory").main(["--smoke", "--results", str(tmp_path)])
    text = (tmp_path / "larger_than_memory.txt").read_text()
    assert text.count("+-") == 3
    assert "nan" not in text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("structure", ["edges", "recovery", "orders", "sachs", "rates", "cost"]),
        ("sampling", ["tilted", "constants", "rivals"]),
        ("tables", ["likelihood", "samples", "missing", "scale"]),
    ],
)
def test_smoke_runs_of_parts_report_each(room, name, parts, tmp_path):
    room(name).main(["--smoke", "--results", str(tmp_path), "--parts", *parts])
    for part in parts:
        assert len((tmp_path / f"{name}_{part}.txt").read_text().splitlines()) > 4


def test_a_benchmark_of_tables_that_is_taken_up_again_fits_nothing_twice(
    room, tmp_path, monkeypatch
):
    options = ["--smoke", "--results", str(tmp_path), "--methods", "independent columns"]
    room("tables").main(options)
    first = (tmp_path / "tables_likelihood.jsonl").read_text()
    monkeypatch.setattr(room("_tables_jobs"), "run", None)
    room("tables").main([*options, "--resume"])
    assert (tmp_path / "tables_likelihood.jsonl").read_text() == first
    assert "1 seeds" in (tmp_path / "tables_likelihood.txt").read_text()


@pytest.mark.parametrize("name", ["heteroscedastic", "bimodal", "heavy_tails"])
def test_the_mass_of_a_conditional_law_is_one_and_its_draws_follow_it(room, name):
    law, random = room("_conditional_tables").LAWS[name], np.random.default_rng(0)
    x = law.features(1, random)
    y = np.linspace(-200, 200, 400_001)
    density = np.exp(law.log_density(np.repeat(x, len(y), axis=0), y))
    assert np.trapezoid(density, y) == pytest.approx(1, abs=1e-4)
    drawn = law.draw(np.repeat(x, 20_000, axis=0), random)
    levels = np.searchsorted(np.sort(drawn), [-1.0, 0.0, 0.5, 1.0]) / len(drawn)
    cdf = np.cumsum(density) * (y[1] - y[0])
    np.testing.assert_allclose(levels, np.interp([-1.0, 0.0, 0.5, 1.0], y, cdf), atol=0.015)


def test_a_split_without_a_file_of_targets_predicts_the_last_column(room, tmp_path):
    X = np.arange(300.0).reshape(100, 3)
    np.savez(tmp_path / "joint.npz", X=X)
    split = room("_conditional_tables").load("joint", tmp_path, seed=0, most_rows=50)
    assert split.X.shape == (50, 2)
    np.testing.assert_array_equal(split.y_test, split.X_test[:, 1] + 1)
    assert not np.isin(split.y_test, split.y).any()


def test_quantiles_of_a_normal_mixture_invert_its_distribution_function(room):
    parts = (np.log([[0.3, 0.7], [0.5, 0.5]]), [[-2.0, 1.0], [0.0, 0.0]], [[0.1, 0.5], [2.0, 2.0]])
    log_weights, means, scales = map(np.array, parts)
    levels = np.array([0.01, 0.25, 0.5, 0.99])
    found = room("_conditional_densities").mixture_quantiles(log_weights, means, scales, levels)
    below = norm.cdf(found[..., None], means[:, None], scales[:, None])
    np.testing.assert_allclose(
        (below * np.exp(log_weights)[:, None]).sum(-1) - levels, 0, atol=1e-6
    )
    np.testing.assert_allclose(found[1], norm.ppf(levels, 0, 2), atol=1e-6)


@pytest.mark.parametrize("kernel", ["normal", "t(3)"])
def test_a_kernel_estimate_of_draws_has_mass_one(room, kernel):
    draws = np.random.default_rng(0).normal(size=(1, 100))
    y = np.linspace(-60, 60, 20_001)
    every = np.repeat(draws, len(y), axis=0)
    values = room("_conditional_densities").kernel_log_density(every, y, kernel, 1.0, 1e-3)
    assert np.trapezoid(np.exp(values), y) == pytest.approx(1, abs=1e-4)


def test_measures_of_the_true_law_are_its_own(room):
    split = room("_conditional_tables").load("heteroscedastic_1000", Path("unused"), seed=0)
    run, tables = room("_conditional_run"), room("_conditional_tables")
    levels = np.concatenate([run.LEVELS, run.ENDS])
    scale = tables.growing(split.X_test)
    quantiles = tables.sine(split.X_test)[:, None] + scale[:, None] * norm.ppf(levels)
    found = run.measures(split.truth, quantiles, split)
    assert found["divergence"] == 0
    assert found["coverage"] == pytest.approx(0.9, abs=0.02)
    # Of a normal law the mean of the CRPS is its scale over the root of pi.
    assert found["crps"] == pytest.approx(scale.mean() / np.sqrt(np.pi), rel=0.05)


def conditional_record(method, split, nll):
    state = {"table": "t", "method": method, "split": split, "seconds": 1.0, "status": "ok"}
    shape = {"n_train": 90, "n_test": 10, "n_features": 2, "clock": "wall", "most_rows": None}
    seconds = dict.fromkeys(("fit_wall", "fit_processor", "predict_wall", "predict_processor"), 1.0)
    return state | shape | seconds | {"nll": nll, "crps": 1.0, "coverage": 0.9, "note": ""}


@pytest.mark.parametrize(("better", "word"), [(0.5, "win"), (-0.5, "loss"), (0.0, "tie")])
def test_the_report_of_conditional_densities_tells_losses_as_wins(room, tmp_path, better, word):
    report, spread = room("_conditional_report"), (0.0, 0.1, -0.1)
    records = [conditional_record("DSMRegressor", i, 1.0 + each) for i, each in enumerate(spread)]
    records += [conditional_record("NGBoost", i, 1.0 + better) for i in range(3)]
    failed = {"table": "t", "method": "CatBoost", "seconds": 1.0, "clock": "wall"}
    failed |= {"most_rows": None, "status": "failed", "message": "no memory"}
    records += [failed | {"split": i} for i in range(3)]
    # Of an interrupted run: a split that only some methods had.
    records.append(conditional_record("DSMRegressor", 3, 9.0))
    report.write_report(records, tmp_path, "machine")
    text = (tmp_path / "conditional.txt").read_text()
    assert f"{word} 1" in text
    assert "CatBoost: 3 failed: no memory" in text
    assert json.loads((tmp_path / "conditional.json").read_text())["tables"][0]["n_splits"] == 3


def test_records_that_an_interruption_cut_are_made_again(room, tmp_path):
    benchmark, path = room("conditional"), tmp_path / "conditional.jsonl"
    whole = conditional_record("NGBoost", 0, 1.0)
    path.write_text(json.dumps(whole) + "\n" + json.dumps(whole | {"split": 1})[:40])
    records = room("_records")
    store = records.Records(path, benchmark.identity, keep=True)
    assert whole in store
    assert (whole | {"split": 1}) not in store
    assert records.read(path) == [whole]


@pytest.mark.slow
def test_a_smoke_run_of_conditional_densities_reports_and_can_be_resumed(room, tmp_path):
    benchmark = room("conditional")
    benchmark.main(["--smoke", "--results", str(tmp_path)])
    read = room("_records").read
    records = read(tmp_path / "conditional.jsonl")
    assert len(records) == 2 * 2 * len(benchmark.SMOKE_METHODS)
    for found in records:
        assert found["status"] == "ok", found
        assert np.isfinite([found["nll"], found["crps"]]).all()
        assert ("divergence" in found) == (found["table"] == "heteroscedastic_1000")
    text = (tmp_path / "conditional.txt").read_text()
    assert "Tables, 1" in text
    assert "Known laws, 1" in text
    benchmark.main(["--smoke", "--resume", "--results", str(tmp_path)])
    assert read(tmp_path / "conditional.jsonl") == records


@pytest.mark.slow
def test_a_conditional_fit_in_a_process_of_its_own_fails_as_a_record(room, tmp_path):
    np.savez(tmp_path / "broken.npz", X=np.full((50, 2), np.inf), y=np.ones(50))
    job = {"table": "broken", "method": "HGB, in-sample", "split": 0, "seconds": 1.0}
    job |= {"clock": "wall", "most_rows": None, "data": str(tmp_path)}
    found = room("conditional").record_of(job)
    assert found["status"] == "failed"
    assert found["message"]


def test_a_smoke_run_of_outlier_detectors_reports_both_protocols(room, tmp_path):
    benchmark = room("outliers")
    methods = ["DSMOutlierDetector", "IsolationForest", "DTE-NP"]
    options = ["--smoke", "--results", str(tmp_path), "--methods", *methods]
    benchmark.main(options)
    records = room("_records").read(tmp_path / "outliers.jsonl")
    assert len(records) == len(methods) * len(benchmark.PROTOCOLS)
    assert all(0.8 < found["auc"] <= 1 for found in records)
    text = (tmp_path / "outliers.txt").read_text()
    assert text.count("minus IsolationForest") == 2
    benchmark.main([*options, "--resume"])
    assert room("_records").read(tmp_path / "outliers.jsonl") == records
