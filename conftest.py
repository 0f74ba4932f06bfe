"""Settings of a test run."""

import os
from importlib.util import find_spec

# Before SciPy is imported: scikit-learn's checks of array API input need it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import torch

# Its examples need skpro.
collect_ignore = [] if find_spec("skpro") else ["sklearn_dsm/regression/_skpro.py"]


def pytest_configure(config):
    # Two worker processes share two cores, and the networks of the tests are small.
    torch.set_num_threads(1)
