"""Where a picture is drawn."""

from __future__ import annotations

from .._extras import extra

# Of data, of the model and of marks: told apart by people of every colour vision, and in grey.
DATA, MODEL, MARK = "0.6", "#0072b2", "#d55e00"
# Points of data over filled regions.
FILLED_DATA = "0.1"


def pyplot():
    """matplotlib.pyplot, or an error that says how to install it."""
    with plots():
        import matplotlib.pyplot as plt
    return plt


def figure_class():
    """The class of figures that no window and no notebook shows by themselves."""
    with plots():
        from matplotlib.figure import Figure
    return Figure


def networkx_module():
    """networkx, or an error that says how to install it."""
    with extra("graphs", "Pictures of graphs need networkx"):
        import networkx
    return networkx


def plots():
    """Around imports of matplotlib."""
    return extra("plots", "Pictures need matplotlib")


def axes_of(ax, figsize):
    """The axes that were given, or those of a new figure; and their figure."""
    if ax is None:
        _, ax = pyplot().subplots(figsize=figsize, layout="constrained")
    return ax, ax.figure


def panels_of(ax, shape, figsize, **options):
    """A grid of axes in the place of those that were given, or in a new figure; and their figure.

    Options are those of :func:`matplotlib.pyplot.subplots`.
    """
    if ax is None:
        figure, panels = pyplot().subplots(
            *shape, figsize=figsize, layout="constrained", squeeze=False, **options
        )
        return panels, figure
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            "ax has no place in a grid, and this picture has several panels. Give axes that "
            "matplotlib.pyplot.subplots made, or leave ax out."
        )
    ax.set_axis_off()
    panels = place.subgridspec(*shape).subplots(squeeze=False, **options)
    return panels, ax.figure
