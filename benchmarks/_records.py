"""Records of jobs, each a line of JSON in a file, read again where a run is taken up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

# Records of these states stand when a run is taken up again.
DONE = ("ok", "failed", "timed out")


class Records:
    """The records of a file, to which each is added as it comes.

    Two jobs with the same identity have the same record.
    """

    def __init__(self, path: Path, identity: Callable[[dict], dict], keep: bool):
        self.path, self.identity = path, identity
        self.all: list[dict] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if keep and path.exists():
            self.all = [record for record in read(path) if record["status"] in DONE]
        path.write_text("".join(json.dumps(record) + "\n" for record in self.all))

    def of(self, job: dict) -> dict | None:
        same = self.identity(job).items()
        return next((record for record in self.all if same <= record.items()), None)

    def __contains__(self, job: dict) -> bool:
        return self.of(job) is not None

    def add(self, record: dict) -> None:
        self.all.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[dict]:
    """The records of a file, of which an interruption may have cut the last line."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records
