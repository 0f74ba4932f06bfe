"""Files in which a long fit stores how far it is, to go on from there when it was killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ._budget import Budget
from ._files.archive import named_errors, read, write
from ._files.encoding import Vocabulary, decode, encode
from ._warn import warn

KIND = "checkpoint"
PLAIN = Vocabulary()


class Step:
    """A long step of a fit: one that is done, one that is on its way, or one that begins.

    Attributes
    ----------
    result : dict or None
        What came of it, if it was done before the fit was killed.
    state : dict or None
        Where it was, if it was on its way.
    """

    def __init__(self, checkpoint: Checkpoint, name: str, stored: Mapping[str, Any]):
        self.checkpoint, self.name = checkpoint, name
        self.result, self.state = stored.get("result"), stored.get("state")

    def reached(self, state: Callable[[], dict[str, Any]]) -> None:
        """Store where it is, if it is time to."""
        if self.checkpoint.is_due:
            self.checkpoint.store({"name": self.name, "state": state()})

    def finish(self, result: dict[str, Any]) -> None:
        """Say what came of it."""
        self.checkpoint.add({"name": self.name, "result": result})


class Checkpoint:
    """The steps of a fit in a file: the results of those that are done, and where the last one is.

    A fit that is begun again asks for the same steps in the same order. It gets results instead of
    work until it comes to where it was. What is cheap is no step, and is done again.

    Parameters
    ----------
    path : str, path-like or None
        None stores nothing.
    interval : float
        Seconds between two times of writing.
    say : callable (str) -> None
        Is told of what is resumed.
    """

    def __init__(
        self,
        path: Any = None,
        interval: float = 60.0,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.path, self.interval, self.say = path, interval, say
        self.head: dict[str, Any] = {}
        self.budget, self.written = Budget(), time.perf_counter()
        self.done: list[dict[str, Any]] = []
        # Of the file, in the order in which they will be asked for.
        self.stored: list[dict[str, Any]] = []

    def begin(self, identity: dict[str, str], seed: int, budget: Budget) -> int:
        """Take up what a file holds, or make one; the seed of the fit.

        Parameters
        ----------
        identity : dict of str to str
            What has to be the same for the file to be of use, in words.
        seed : int
            Of a fit that begins.
        budget : Budget
            Whose clock goes on from where it was.

        Raises
        ------
        ValueError
            If the file is of a fit to something else, or cannot be read.
        OSError
            If it cannot be written.
        """
        if self.path is None:
            return seed
        self.budget, self.head = budget, {"identity": identity, "seed": seed}
        if not os.path.exists(self.path):
            self._write()
            return seed
        with named_errors(self.path):
            content = read(self.path, KIND)
            found = decode(content.tree, content.arrays, PLAIN)
        self._check(found["head"]["identity"], identity)
        self.head, self.stored = found["head"], found["steps"]
        self.say(f"resumes the fit of {os.fspath(self.path)}")
        return self.head["seed"]

    def _check(self, earlier: dict[str, str], identity: dict[str, str]) -> None:
        different = [name for name in identity if earlier.get(name) != identity[name]]
        if not different:
            return
        name = different[0]
        raise ValueError(
            f"The checkpoint {os.fspath(self.path)!r} is of another fit: {name} was "
            f"{earlier.get(name)}, and is {identity[name]}. Fit with what it was to resume that "
            "fit; or delete the file, or name another one in checkpoint, to begin a new fit."
        )

    def step(self, name: str) -> Step:
        """The next step, with what the file holds of it."""
        if not self.stored:
            return Step(self, name, {})
        found = self.stored.pop(0)
        if found["name"] != name:
            # Where time is limited, it depends on the clock which step is next.
            warn(
                f"The checkpoint holds the step {found['name']!r}, and the fit has come to the "
                f"step {name!r} this time. It does this step and later ones anew.",
                RuntimeWarning,
            )
            self.stored = []
            return Step(self, name, {})
        self.budget.taken = found["taken"]
        if "result" in found:
            self.done.append(found)
        return Step(self, name, found)

    @property
    def is_due(self) -> bool:
        """Whether so much has passed since the last writing that it is time for the next."""
        return self.path is not None and time.perf_counter() - self.written >= self.interval

    def add(self, step: dict[str, Any]) -> None:
        """Store a step that is done, at the next time of writing."""
        if self.path is None:
            return
        self.done.append(step | {"taken": self.budget.taken})
        if self.is_due:
            self.store()

    def store(self, *running: dict[str, Any]) -> None:
        """Write the file; where that fails, the fit goes on with the earlier one."""
        try:
            self._write(*running)
        except OSError as error:
            warn(
                f"The checkpoint could not be written: {error}. The fit goes on, and the file is "
                "as old as it was. Make room, or allow the folder to be written to.",
                RuntimeWarning,
            )

    def _write(self, *running: dict[str, Any]) -> None:
        self.written = time.perf_counter()
        steps = [*self.done, *(step | {"taken": self.budget.taken} for step in running)]
        write(self.path, KIND, *encode({"head": self.head, "steps": steps}, PLAIN, KIND))

    def remove(self) -> None:
        """Delete the file of a fit that is over."""
        if self.path is not None:
            with suppress(FileNotFoundError):
                os.remove(self.path)


NO_CHECKPOINT = Checkpoint()
