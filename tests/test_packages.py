"""The wheel and the source distribution hold all that the package needs, and nothing else."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")

ROOT = Path(__file__).parents[1]
DATA = ("py.typed", "references.bib", "datasets/data/sachs.csv.gz")
SCRIPT = """
from pathlib import Path
import sklearn_dsm
from sklearn_dsm.datasets import load_sachs
print(Path(sklearn_dsm.__file__).parent)
X = load_sachs().data[:200, :2]
print(sklearn_dsm.GMMScoreEstimator(2, random_state=0).fit(X).score_samples(X).shape)
print(sklearn_dsm.citation(sklearn_dsm.DSMDensityEstimator()).count("@"))
"""


def python(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with both, built from a copy of what git tracks."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "--cached"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    made = python("-m", "build", "--outdir", str(folder), str(source), cwd=folder)
    assert made.returncode == 0, made.stderr + made.stdout
    return folder


@pytest.mark.slow
def test_the_wheel_works_where_the_sources_are_not(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    place = tmp_path / "site"
    options = ("--quiet", "--no-deps", "--target", str(place))
    installed = python("-m", "pip", "install", *options, str(wheel), cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    found = python("-c", SCRIPT, cwd=tmp_path, PYTHONPATH=str(place))
    assert found.returncode == 0, found.stderr
    where, shape, number = found.stdout.splitlines()
    assert Path(where) == place / "sklearn_dsm"
    assert shape == "(200,)" and int(number) > 3


@pytest.mark.slow
def test_both_hold_the_data_and_no_tests(built):
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    for name in DATA:
        assert f"sklearn_dsm/{name}" in in_wheel
        assert f"sklearn_dsm/{name}" in in_source
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in in_wheel)
    assert "LICENSE" in in_source and any(name.endswith("LICENSE") for name in in_wheel)
