"""Data for examples, tests and benchmarks."""

from ._sachs import load_sachs

__all__ = ["load_sachs"]
