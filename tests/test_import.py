"""Importing the package changes nothing, and its public names are real and documented."""

import inspect
import json
import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import sklearn_dsm

API_PAGES = Path(__file__).parents[1] / "docs" / "api"

PROBE = """
import json, os, random, sys, warnings, locale, signal, threading
import numpy as np, torch, sklearn, scipy, joblib
# Heavy dependencies first: what they do at import is not this package's doing.
import skorch, sklearn.mixture, torch.optim.swa_utils
try:
    import sklearn.callback
except ModuleNotFoundError:
    pass

def state():
    return {
        "torch dtype": str(torch.get_default_dtype()),
        "torch device": str(torch.get_default_device()),
        "torch threads": torch.get_num_threads(),
        "torch interop threads": torch.get_num_interop_threads(),
        "torch grad": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch benchmark": torch.backends.cudnn.benchmark,
        "torch tf32": torch.backends.cuda.matmul.allow_tf32,
        "torch matmul": torch.get_float32_matmul_precision(),
        "torch generator": torch.get_rng_state().tolist(),
        "sklearn config": repr(sorted(sklearn.get_config().items())),
        "numpy errors": np.geterr(),
        "numpy print": repr(np.get_printoptions()),
        "numpy generator": repr(np.random.get_state()[1].tolist()),
        "random": repr(random.getstate()),
        "warnings": repr(warnings.filters),
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "interrupt": repr(signal.getsignal(signal.SIGINT)),
        "threads": threading.active_count(),
        "recursion": sys.getrecursionlimit(),
    }

def roots():
    return {name.split(".")[0] for name in sys.modules}

before, loaded = state(), roots()
from sklearn_dsm import *
import sklearn_dsm.datasets, sklearn_dsm.io, sklearn_dsm.metrics, sklearn_dsm.out_of_core
after = state()
changed = [key for key in before if before[key] != after[key]]
print(json.dumps({"changed": changed, "new": sorted(roots() - loaded), "all": sorted(roots())}))
"""


@pytest.fixture(scope="module")
def probed():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_import_changes_no_global_state(probed):
    assert probed["changed"] == []


def test_import_loads_nothing_beyond_its_dependencies(probed):
    # skorch loads pandas where it is installed; matplotlib nobody does.
    third_party = set(probed["new"]) - sys.stdlib_module_names - {"sklearn_dsm"}
    assert not third_party & {"pandas", "polars", "networkx", "skops", "pytest", "torchdiffeq"}
    assert "matplotlib" not in probed["all"]


def test_import_prints_and_warns_nothing():
    run = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            "from sklearn_dsm import *; import sklearn_dsm.datasets, sklearn_dsm.metrics",
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_import_alone_waits_for_no_other_package():
    """Until a name is used, nothing but the standard library is loaded."""
    code = (
        "import sys, sklearn_dsm; sklearn_dsm.__version__, dir(sklearn_dsm); "
        "print({name.split('.')[0] for name in sys.modules} & {'numpy', 'sklearn', 'torch'})"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True).stdout.strip() == "set()"


def test_names_not_imported_yet_are_found_and_others_are_refused():
    package = Path(sklearn_dsm.__file__).parent
    public = {path.stem for path in package.iterdir() if re.fullmatch("[a-z]+", path.stem[:1])}
    public -= {"py", "references"}
    assert public <= set(dir(sklearn_dsm))
    assert all(getattr(sklearn_dsm, name).__name__ == f"sklearn_dsm.{name}" for name in public)
    assert set(sklearn_dsm.__all__) <= set(dir(sklearn_dsm))
    with pytest.raises(AttributeError, match="no attribute 'densities'"):
        sklearn_dsm.densities  # noqa: B018


def test_public_names_exist_once():
    assert len(set(sklearn_dsm.__all__)) == len(sklearn_dsm.__all__)
    missing = [name for name in sklearn_dsm.__all__ if not hasattr(sklearn_dsm, name)]
    assert missing == []


def test_star_import():
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec("from sklearn_dsm import *", names)
    assert set(sklearn_dsm.__all__) <= set(names)


def test_version():
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(\.?(dev|a|b|rc)\d*)?", sklearn_dsm.__version__)


@pytest.mark.parametrize("name", sklearn_dsm.__all__)
def test_docstring(name):
    """One line first; then parameters, where there are any, and an example."""
    thing = getattr(sklearn_dsm, name)
    # A class inherits the docstring of its base.
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    doc = inspect.cleandoc(own or "")
    assert doc, f"{name} has no docstring of its own"
    summary, *rest = doc.splitlines()
    assert summary.endswith("."), summary
    assert len(summary) < 100 and (not rest or not rest[0].strip())
    assert "Examples\n" in doc and ">>> " in doc, f"{name} has no example"
    if hasattr(thing, "get_params"):
        documented = set(re.findall(r"^(\w[\w, ]*?) : ", doc, re.MULTILINE))
        documented = {part.strip() for names in documented for part in names.split(",")}
        params = set(thing._get_param_names())
        assert params <= documented, sorted(params - documented)


MODULES = [
    "causal",
    "datasets",
    "density",
    "graphical",
    "inspection",
    "metrics",
    "mixture",
    "outliers",
    "regression",
    "sampling",
    "utils",
]


def public_objects():
    """The public classes and functions by what they are: a name may be importable twice."""
    names = [*MODULES, "io", "out_of_core"]
    modules = [sklearn_dsm, *(import_module(f"sklearn_dsm.{name}") for name in names)]
    return {
        id(getattr(module, name)): f"{module.__name__}.{name}"
        for module in reversed(modules)
        for name in module.__all__
    }


def documented_objects():
    """What the tables of docs/api/ list, each under the module named before it."""
    module, found = "", []
    pages = "\n".join(page.read_text() for page in sorted(API_PAGES.glob("*.rst")))
    for line in pages.splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split(":: ")[1]
        elif re.fullmatch(r"   \w+", line):
            found.append(getattr(import_module(module), line.strip()))
    return found


def test_every_public_name_has_a_page():
    found = {id(each) for each in documented_objects()}
    missing = [name for key, name in public_objects().items() if key not in found]
    assert missing == []


def test_every_page_is_of_a_public_name():
    public = public_objects()
    assert [each for each in documented_objects() if id(each) not in public] == []


def test_every_page_of_names_is_in_the_reference():
    listed = re.findall(r"^   api/(\w+)$", API_PAGES.with_suffix(".rst").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in API_PAGES.glob("*.rst"))


def test_every_public_module_is_checked():
    folders = (Path(__file__).parents[1] / "sklearn_dsm").glob("[!_]*/__init__.py")
    assert sorted(path.parent.name for path in folders) == MODULES
