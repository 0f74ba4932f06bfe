"""Work on a GPU that is recorded once and then launched as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Calls before the recording: what is allocated or chosen at first must not be part of it.
N_WARM_UP = 2
# torch records one graph of a process at a time.
_RECORDING = threading.Lock()


class Recorded:
    """A function of tensors of fixed shapes on a GPU that is a replay after its first calls.

    Small networks keep a GPU waiting for the launches of its kernels. Recorded, all of a
    call's are one launch. The function must do the same on the device at every call: it must
    not wait for results, and what it keeps must be tensors that it changes in place.

    Parameters
    ----------
    function : callable (*Tensor) -> Tensor or tuple of Tensor
    generator : torch.Generator, optional
        On the device; what the function draws from.
    """

    def __init__(self, function: Callable[..., Any], generator: torch.Generator | None = None):
        self.function, self.generator = function, generator
        self.n_calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *tensors: Tensor) -> Any:
        # Streams and graphs are those of the current device, which need not be the tensors'.
        with torch.cuda.device_of(tensors[0]):
            return self._call(tensors)

    def _call(self, tensors: tuple[Tensor, ...]) -> Any:
        self.n_calls += 1
        if self.n_calls <= N_WARM_UP:
            return self._beside(tensors)
        if self.graph is None:
            self.graph = self._recorded(tensors)
        for place, tensor in zip(self.places, tensors, strict=True):
            place.copy_(tensor)
        self.graph.replay()
        # The next replay puts its results where these are.
        if isinstance(self.result, Tensor):
            return self.result.clone()
        return tuple(part.clone() for part in self.result)

    def _beside(self, tensors: tuple[Tensor, ...]) -> Any:
        """A plain call on a stream of its own, as the recording will be."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.function(*tensors)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _recorded(self, tensors: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self.places = [tensor.clone() for tensor in tensors]
        graph = torch.cuda.CUDAGraph()
        if self.generator is not None:
            graph.register_generator_state(self.generator)
        # torch's own stream for recordings is one of the first device that it recorded on. Other
        # threads may allocate meanwhile, which the usual mode forbids.
        recording = torch.cuda.graph(
            graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"
        )
        with _RECORDING, recording:
            self.result = self.function(*self.places)
        return graph


def repeated(
    function: Callable[..., Any], device: torch.device, generator: torch.Generator | None = None
) -> Callable[..., Any]:
    """A function that will be called often, recorded on a GPU; not where derivatives are kept."""
    if device.type != "cuda" or torch.is_grad_enabled():
        return function
    return Recorded(function, generator)
