"""Lanes: CUDA streams that take turns with batches, and steps recorded as CUDA graphs.

A step of a thousand small kernels is started by one call once it is recorded: threads that decode
images would make every single call wait for the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]

# Recording can be switched off here: all results are the same without.
GRAPHS = True


class Graph:
    """A step recorded for batches of up to so many images of one size."""

    def __init__(self, step: Step, inputs: Sequence[Tensor], most: int, lane: Lane) -> None:
        self.most = most
        self.inputs = [
            torch.zeros((most, *x.shape[1:]), dtype=x.dtype, device=lane.device) for x in inputs
        ]
        self.graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(lane.device)
        with torch.cuda.graph(
            self.graph, pool=lane.pool, stream=lane.stream, capture_error_mode="thread_local"
        ):
            self.outputs = step(*self.inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        count = len(inputs[0])
        for fixed, given in zip(self.inputs, inputs, strict=True):
            fixed[:count].copy_(given, non_blocking=True)
        self.graph.replay()
        return [output[:count] for output in self.outputs]


class Lane:
    """One CUDA stream and the graphs recorded for it; on a CPU, neither."""

    def __init__(self, device: str) -> None:
        self.device = device
        cuda = device != "cpu"
        self.stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        # Graphs of one lane never run at the same time: they may share memory.
        self.pool = torch.cuda.graph_pool_handle() if cuda else None
        self.graphs: dict[tuple[object, ...], Graph] = {}
        self.recording = cuda and GRAPHS

    def current(self) -> AbstractContextManager[Any]:
        """What is begun within is begun on this lane's stream."""
        return torch.cuda.stream(self.stream) if self.stream else nullcontext()

    def run(self, step: Step, inputs: Sequence[Tensor], record: int = 0) -> list[Tensor]:
        """Outputs of a step; all that it computes is begun on this lane's stream.

        Parameters
        ----------
        step : callable
            Tensors in and out, on the device, the first axis that of the images; the same kernels
            whatever the values are, and no look at these from the CPU.
        inputs : sequence of Tensor
            Page-locked host memory that nobody writes to until the lane is `done`.
        record : int
            Record the step for up to so many images of this shape; 0: do not.

        Returns
        -------
        list of Tensor
            On the device; the next run of the lane may overwrite them.
        """
        # by name: a bound method would keep its object, and what that holds on the device
        key = step.__name__, *(n for x in inputs for n in x.shape[1:])
        graph = self.graphs.get(key)
        if graph and len(inputs[0]) <= graph.most:
            return graph(inputs)
        outputs = list(step(*(x.to(self.device, non_blocking=True) for x in inputs)))
        if record and self.recording and not graph:
            try:
                self.graphs[key] = Graph(step, inputs, record, self)
            except RuntimeError:  # no memory for it, or something that cannot be recorded
                self.forget()
                self.recording = False
        return outputs

    def forget(self) -> None:
        """Give back what the graphs hold."""
        self.graphs.clear()

    def done(self) -> Any:
        """An event that happens when all that was begun on this lane is done."""
        if not self.stream:
            return None
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self.stream)
        return event
