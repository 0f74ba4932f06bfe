"""Python values as a tree for JSON beside named arrays, and back, without any code.

Numbers, strings and lists stand for themselves in the tree. Everything else is a dict with a tag,
the name of what it is, as its first key. Classes and functions go by names of a vocabulary: what
is not in it is neither written nor read.
"""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

# Those that safetensors has for numpy.
PLAIN_DTYPES = {np.dtype(bool)} | {
    np.dtype(f"{kind}{size}") for kind in "iuf" for size in (1, 2, 4, 8) if kind + str(size) != "f1"
}
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class FileError(ValueError):
    """A file that cannot be read, or not by this version."""


class Vocabulary(NamedTuple):
    """What a file may hold by name.

    Attributes
    ----------
    classes : dict of str to type
        Of objects that are their attributes, and of named tuples.
    built : dict of str to type
        Of objects without a state, which are called into being without arguments.
    functions : dict of str to callable
    """

    classes: Mapping[str, type] = {}
    built: Mapping[str, type] = {}
    functions: Mapping[str, Callable] = {}


def encode(value: Any, vocabulary: Vocabulary, name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """A value as a tree and arrays.

    Raises
    ------
    TypeError
        If a part of the value is of a kind that files do not hold; ``name`` is what it lies in.
    """
    encoder = _Encoder(vocabulary)
    return encoder(value, name), encoder.arrays


def decode(
    tree: Any,
    arrays: Mapping[str, np.ndarray],
    vocabulary: Vocabulary,
    finish: Callable[[Any], None] = lambda found: None,
) -> Any:
    """The value of a tree and arrays; ``finish`` is called with every object of a class.

    Raises
    ------
    FileError
        If the tree has a name that is not in the vocabulary, or is not one that is written here.
    """
    try:
        return _Decoder(arrays, vocabulary, finish)(tree)
    except FileError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise FileError(f"its content makes no sense ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise FileError(f"its content makes no sense ({error})") from error


class _Encoder:
    def __init__(self, vocabulary: Vocabulary):
        self.arrays: dict[str, np.ndarray] = {}
        self.class_names = {each: name for name, each in vocabulary.classes.items()}
        self.built_names = {each: name for name, each in vocabulary.built.items()}
        self.functions = vocabulary.functions
        # Those that were met, by id; an object that is met again may be a part of itself.
        self.numbers: dict[int, int] = {}

    def __call__(self, value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is list:
            return self._items(value, path)
        if kind in self.class_names:
            return self._object(value, path)
        if kind in self.built_names:
            return {"built": self.built_names[kind]}
        tagged = self._of_python(value, path) or self._of_arrays(value, path)
        if tagged is None:
            raise TypeError(_why_not(value, path))
        return tagged

    def _items(self, values: Any, path: str) -> list:
        return [self(value, f"{path}[{k}]") for k, value in enumerate(values)]

    def _object(self, value: Any, path: str) -> dict:
        name = self.class_names[type(value)]
        if isinstance(value, tuple):
            pairs = zip(type(value)._fields, value, strict=True)  # type: ignore[attr-defined]
            return {"named tuple": name, "items": [self(v, f"{path}.{k}") for k, v in pairs]}
        if id(value) in self.numbers:
            return {"again": self.numbers[id(value)]}
        self.numbers[id(value)] = len(self.numbers)
        state = {key: self(each, f"{path}.{key}") for key, each in vars(value).items()}
        return {"object": name, "state": state}

    def _of_python(self, value: Any, path: str) -> dict | None:
        kind = type(value)
        if kind in (tuple, set, frozenset):
            return {kind.__name__: self._items(value, path)}
        if kind is dict:
            items = [[self(k, path), self(v, f"{path}[{k!r}]")] for k, v in value.items()]
            return {"dict": items}
        if kind is bytes:
            return {"bytes": value.hex()}
        if isinstance(value, pathlib.PurePath):
            return {"path": str(value)}
        if kind is complex:
            return {"complex": self._items((value.real, value.imag), path)}
        if kind in (slice, range):
            ends = value.start, value.stop, value.step
            return {kind.__name__: self._items(ends, path)}
        if kind is functools.partial:
            parts = value.func, value.args, value.keywords
            return {"partial": self._items(parts, path)}
        for name, function in self.functions.items():
            if value is function:
                return {"function": name}
        return None

    def _of_arrays(self, value: Any, path: str) -> dict | None:
        if type(value) in (np.ndarray, np.memmap):
            return self._array(np.asarray(value), path)
        if isinstance(value, torch.Tensor):
            return {"tensor": self(value.detach().cpu().numpy(), path)}
        if isinstance(value, np.generic):
            return {"scalar": value.tobytes().hex(), "dtype": self(value.dtype, path)}
        if isinstance(value, np.dtype):
            return {"dtype": self(np.lib.format.dtype_to_descr(value), path)}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {"scalar type": value.__name__}
        if type(value) is np.random.RandomState:
            return {"RandomState": self(value.get_state(legacy=False), path)}
        if type(value) is np.random.Generator:
            return {"Generator": self(value.bit_generator.state, path)}
        return None

    def _array(self, array: np.ndarray, path: str) -> dict:
        if array.dtype.hasobject:
            if array.dtype != object:
                raise TypeError(_why_not(array, path))
            return {"objects": self._items(array.ravel(), path), "shape": list(array.shape)}
        # Sums over another order of the numbers differ in their last digits.
        in_columns = array.flags.f_contiguous and not array.flags.c_contiguous
        rows = array.T if in_columns else array
        # Which makes vectors of single numbers.
        rows = np.ascontiguousarray(rows).reshape(rows.shape)
        tagged: dict = {}
        if array.dtype not in PLAIN_DTYPES:
            tagged = {"dtype": self(array.dtype, path), "shape": list(rows.shape)}
            rows = np.frombuffer(rows.tobytes(), dtype=np.uint8)
        key = path if path not in self.arrays else f"{path} ({len(self.arrays)})"
        self.arrays[key] = rows
        return {"array": key} | tagged | ({"in columns": True} if in_columns else {})


class _Decoder:
    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        vocabulary: Vocabulary,
        finish: Callable[[Any], None],
    ):
        self.arrays, self.vocabulary, self.finish = arrays, vocabulary, finish
        # In the order in which they were met when they were encoded.
        self.found: list[Any] = []
        self.readers: dict[str, Callable[[dict], Any]] = {
            "float": lambda tagged: float(tagged["float"]),
            "tuple": lambda tagged: tuple(self(tagged["tuple"])),
            "set": lambda tagged: set(self(tagged["set"])),
            "frozenset": lambda tagged: frozenset(self(tagged["frozenset"])),
            "dict": lambda tagged: {self(key): self(value) for key, value in tagged["dict"]},
            "bytes": lambda tagged: bytes.fromhex(tagged["bytes"]),
            "path": lambda tagged: pathlib.Path(tagged["path"]),
            "complex": lambda tagged: complex(*self(tagged["complex"])),
            "slice": lambda tagged: slice(*self(tagged["slice"])),
            "range": lambda tagged: range(*self(tagged["range"])),
            "partial": self._partial,
            "function": lambda tagged: self._known(self.vocabulary.functions, tagged["function"]),
            "object": self._object,
            "again": lambda tagged: self.found[tagged["again"]],
            "named tuple": self._named_tuple,
            "built": lambda tagged: self._known(self.vocabulary.built, tagged["built"])(),
            "array": self._array,
            "objects": self._objects,
            "tensor": lambda tagged: torch.from_numpy(self(tagged["tensor"])),
            "scalar": self._scalar,
            "dtype": lambda tagged: np.lib.format.descr_to_dtype(self(tagged["dtype"])),
            "scalar type": lambda tagged: np.dtype(tagged["scalar type"]).type,
            "RandomState": self._random_state,
            "Generator": self._generator,
        }

    def __call__(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self(each) for each in tree]
        if not isinstance(tree, dict):
            return tree
        tag = next(iter(tree), None)
        if tag not in self.readers:
            raise FileError(f"it holds {tag!r}, which this version of sklearn_dsm does not know")
        return self.readers[tag](tree)

    @staticmethod
    def _known(names: Mapping[str, Any], name: str) -> Any:
        if name not in names:
            raise FileError(
                f"it names {name!r}, which is not among the classes and functions that files of "
                "this version of sklearn_dsm hold"
            )
        return names[name]

    def _class(self, name: str, is_tuple: bool) -> type:
        kind = self._known(self.vocabulary.classes, name)
        if issubclass(kind, tuple) is not is_tuple:
            raise FileError(f"it takes {name!r} for another kind of class")
        return kind

    def _object(self, tagged: dict) -> Any:
        found: Any = object.__new__(self._class(tagged["object"], is_tuple=False))
        self.found.append(found)
        vars(found).update({name: self(value) for name, value in tagged["state"].items()})
        self.finish(found)
        return found

    def _named_tuple(self, tagged: dict) -> Any:
        return self._class(tagged["named tuple"], is_tuple=True)(*self(tagged["items"]))

    def _partial(self, tagged: dict) -> functools.partial:
        function, args, keywords = self(tagged["partial"])
        if function not in self.vocabulary.functions.values():
            raise FileError(f"it calls {function!r}, which is no function that files may call")
        return functools.partial(function, *args, **keywords)

    def _array(self, tagged: dict) -> np.ndarray:
        found = self.arrays[tagged["array"]]
        if "dtype" in tagged:
            dtype = self(tagged["dtype"])
            if dtype.hasobject:
                raise FileError("it has objects in place of numbers")
            found = np.frombuffer(found.tobytes(), dtype).reshape(tagged["shape"])
        # A copy of its own, which may be written and lies where arrays usually do.
        found = found.copy()
        return found.T if tagged.get("in columns") else found

    def _objects(self, tagged: dict) -> np.ndarray:
        items = self(tagged["objects"])
        found = np.empty(len(items), dtype=object)
        for k, item in enumerate(items):
            found[k] = item
        return found.reshape(tagged["shape"])

    def _scalar(self, tagged: dict) -> np.generic:
        dtype = self(tagged["dtype"])
        if dtype.hasobject:
            raise FileError("it has an object in place of a number")
        return np.frombuffer(bytes.fromhex(tagged["scalar"]), dtype)[0]

    def _bit_generator(self, state: dict) -> Any:
        name = state["bit_generator"]
        if name not in BIT_GENERATORS:
            raise FileError(f"it has the source of random numbers {name!r}, which is not known")
        found = getattr(np.random, name)()
        found.state = state
        return found

    def _random_state(self, tagged: dict) -> np.random.RandomState:
        state = self(tagged["RandomState"])
        found = np.random.RandomState(self._bit_generator(state))
        found.set_state(state)
        return found

    def _generator(self, tagged: dict) -> np.random.Generator:
        return np.random.Generator(self._bit_generator(self(tagged["Generator"])))


def _why_not(value: Any, path: str) -> str:
    kind = type(value)
    if callable(value) and not isinstance(value, type):
        return (
            f"{path} is {value!r}, and files hold no code. Set it to None with set_params before "
            "saving, and to the function again after loading; or use joblib.dump, whose files are "
            "for people who trust each other and have the same versions."
        )
    return (
        f"{path} is of the type {kind.__module__}.{kind.__qualname__}, which is not among those "
        "that files of sklearn_dsm hold. Replace or remove it before saving; or use joblib.dump, "
        "whose files are for people who trust each other and have the same versions."
    )
