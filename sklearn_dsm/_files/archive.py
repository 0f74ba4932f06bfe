"""Safetensors files of a tree and arrays: written whole or not at all, and read with care."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import sklearn

from .._extras import extra
from .._version import __version__
from .encoding import FileError

FORMAT, FORMAT_VERSION = "sklearn_dsm", 1


class Content(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    kind : str
        What the file is for.
    tree : JSON
    arrays : dict of str to ndarray
    versions : dict of str to str
        Of this package and of scikit-learn, when the file was written.
    """

    kind: str
    tree: Any
    arrays: dict[str, np.ndarray]
    versions: dict[str, str]


def write(path: Any, kind: str, tree: Any, arrays: dict[str, np.ndarray]) -> None:
    """Write a file; where that fails, an earlier file of this name stays as it is."""
    safetensors = _safetensors()
    text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    head = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": kind,
        "sklearn_dsm_version": __version__,
        "sklearn_version": sklearn.__version__,
        "content": text,
    }
    head["digest"] = _digest(head, arrays)
    _replace(path, safetensors.numpy.save(arrays, metadata=head))


def read(path: Any, kind: str) -> Content:
    """Read a file that is for a purpose.

    Raises
    ------
    FileNotFoundError
    FileError
        If it is damaged, of a later format, or for another purpose.
    """
    safetensors = _safetensors()
    with open(path, "rb"):
        # For the usual errors where there is no such file, or none that may be read.
        pass
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            head = file.metadata() or {}
            _check_head(head, kind)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise FileError(
            f"it is no safetensors file, or a part of it is missing ({error}); copy it again or "
            "save it again. A file that pickle or joblib wrote is for these to read"
        ) from error
    if _digest(head, arrays) != head.get("digest"):
        raise FileError(
            "it is damaged: its digest is not that of its content; copy it again or save it again"
        )
    versions = {name: head.get(f"{name}_version", "") for name in ("sklearn_dsm", "sklearn")}
    try:
        tree = json.loads(head.get("content", ""))
    except (RecursionError, ValueError) as error:
        raise FileError(f"its content makes no sense ({error})") from error
    return Content(kind, tree, arrays, versions)


@contextmanager
def named_errors(path: Any) -> Iterator[None]:
    """Errors of a file, with its name."""
    try:
        yield
    except FileError as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be read: {error}.") from error


def _check_head(head: Mapping[str, str], kind: str) -> None:
    if head.get("format") != FORMAT:
        raise FileError("it is a safetensors file, but sklearn_dsm has not written it")
    version = head.get("format_version", "")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise FileError(
            f"it has format version {version!r}, written by sklearn_dsm "
            f"{head.get('sklearn_dsm_version')}, and sklearn_dsm {__version__} reads versions up "
            f"to {FORMAT_VERSION}; upgrade sklearn_dsm"
        )
    if head.get("kind") != kind:
        raise FileError(f"it holds a {head.get('kind')}, not a {kind}")


def _digest(head: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """Of all but the digest itself."""
    found = hashlib.blake2b(digest_size=16)
    texts = {name: text for name, text in head.items() if name != "digest"}
    found.update(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _replace(path: Any, data: bytes) -> None:
    """Put data on the disk beside a path, and then in its place."""
    # A link goes on to point where it does.
    target = os.path.realpath(os.fspath(path))
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(temporary)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Have the new name on the disk as well, where the system knows how."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safetensors() -> Any:
    """The package safetensors, with its part for numpy."""
    with extra("io", "Files and checkpoints need safetensors"):
        import safetensors.numpy
    return safetensors
