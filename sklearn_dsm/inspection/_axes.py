"""Where a picture is drawn."""

from __future__ import annotations


def networkx_module():
    """networkx, or an error that says how to install it."""
    try:
        import networkx
    except ImportError as error:
        raise ImportError(
            "Pictures of graphs need networkx, which is not installed: "
            "pip install 'sklearn_dsm[graphs]'."
        ) from error
    return networkx


def axes_of(ax, figsize):
    """The axes that were given, or those of a new figure; and their figure."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    return ax, ax.figure
