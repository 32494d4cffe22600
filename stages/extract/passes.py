"""Passes of a network over batches on a device: recorded, or in parts where memory is short."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from stages.extract.memory import is_out_of_memory, no_fit
from stages.extract.slots import Slot, Streams
from stages.frame.progress import note

if TYPE_CHECKING:
    from stages.algorithms.backbone import Backbone

Shape = tuple[int, int]
Maps = tuple[dict[str, torch.Tensor], torch.Tensor]  # as `Backbone.maps` gives them


class Passes:
    """A network and what is known of how its batches fit a device."""

    def __init__(self, backbone: "Backbone", streams: Streams) -> None:
        self._backbone, self.streams = backbone, streams
        self._graphs: dict[Shape, tuple[Any, torch.Tensor, Maps]] = {}
        # images to take at once where a batch did not fit, or could not be recorded
        self._most: dict[Shape, int] = {}

    def compute(self, pixels: torch.Tensor, slot: Slot, graph: bool) -> None:
        """Fill what a slot sends from its pixels, in parts where a whole batch does not fit.

        Parameters
        ----------
        pixels : uint8 tensor [n, h, w, 3]
            On the device, n >= 2.
        graph : bool
            Record the pass, or use what was recorded.
        """
        height, width = pixels.shape[1:3]
        if graph and (recorded := self._graph(pixels)):
            replay, static, (maps, ends) = recorded
            with torch.inference_mode():
                static.copy_(pixels)
                replay.replay()
                _keep(maps, slot, 0)
                slot.sent_ends.copy_(ends)
            return
        count, start = len(pixels), 0
        parts = []
        while start < count:
            most = self._most.get((height, width), count)
            first = min(start, count - 2)  # one image alone would be computed in another way
            found = self._tried(pixels[first : first + most])
            if found is None:
                self._halve(min(most, count - first), (height, width))
                continue
            with torch.inference_mode():
                _keep(found[0], slot, first)
            parts.append(found[1])
            del found  # its memory may be what the next part needs
            start = first + most
        with torch.inference_mode():
            ends = torch.stack(parts)
            slot.sent_ends.copy_(torch.stack([ends[..., 0].amin(0), ends[..., 1].amax(0)], dim=1))

    def _tried(self, pixels: torch.Tensor) -> Maps | None:
        """A pass, or None when the device's memory does not hold it."""
        try:
            return self._backbone.maps(pixels)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _halve(self, tried: int, shape: Shape) -> None:
        """Take fewer images of a shape at once from now on.

        Raises
        ------
        StageError
            When two images did not fit.
        """
        device = self._backbone.device
        if tried <= 2:
            from stages.algorithms.backbone import forward_bytes

            network = self._backbone
            peak, _ = forward_bytes(network.name, network.layers, tried, *shape)
            size = peak * network.dtype.itemsize // 4
            what = f"a pass of {tried} images of {shape[0]}x{shape[1]}"
            raise no_fit(what, size, device)
        self._most[shape] = max(2, tried // 2)
        if self.streams.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        note(
            f"extract: {tried} images of {shape[0]}x{shape[1]} do not fit the memory of {device}, "
            f"going on with {self._most[shape]} at once"
        )

    def _graph(self, pixels: torch.Tensor) -> tuple[Any, torch.Tensor, Maps] | None:
        """The recorded pass for full batches of this shape, or None where there is none."""
        shape = (int(pixels.shape[1]), int(pixels.shape[2]))
        if shape in self._most:
            return None
        if shape not in self._graphs:
            # once without a graph: it shows whether it fits, and libraries prepare themselves
            if self._tried(pixels) is None:
                return None
            try:
                static, graph = pixels.clone(), torch.cuda.CUDAGraph()
                others = [recorded for recorded, _, _ in self._graphs.values()]
                with torch.cuda.graph(
                    graph,
                    # graphs run one after the other, and their results are copied at once
                    pool=others[0].pool() if others else None,
                    stream=self.streams.compute,
                    capture_error_mode="thread_local",
                ):
                    maps = self._backbone.maps(static)
            except RuntimeError as error:
                torch.cuda.synchronize()
                self._most[shape] = len(pixels)
                first = next(iter(str(error).splitlines()), "no reason given")
                note(f"extract: going on without a CUDA graph ({first})")
                return None
            self._graphs[shape] = graph, static, maps
        return self._graphs[shape]


def _keep(maps: Mapping[str, torch.Tensor], slot: Slot, first: int) -> None:
    """Copy maps to where they are sent from, as the type they are sent in."""
    for layer, values in maps.items():
        each = values[0].numel()
        into = slot.sent[layer][first * each : (first + len(values)) * each]
        into.copy_(values.reshape(-1))
