"""The directive ``.. results:: NAME``: a table of ``results.py``, with its file and machine."""

from __future__ import annotations

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from results import RESULTS, TABLES
from sphinx.application import Sphinx


class ResultsDirective(Directive):
    """Show a table of results."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the table and of the note below it."""
        table = TABLES[self.arguments[0]]()
        environment = self.state.document.settings.env
        environment.note_dependency(str(RESULTS / table.source))
        container = nodes.container()
        lines = StringList(table.as_rst().splitlines(), source=table.source)
        self.state.nested_parse(lines, self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive ``results``."""
    app.add_directive("results", ResultsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
