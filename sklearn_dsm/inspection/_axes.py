"""Where a picture is drawn."""

from __future__ import annotations


def axes_of(ax, figsize):
    """The axes that were given, or those of a new figure; and their figure."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    return ax, ax.figure
