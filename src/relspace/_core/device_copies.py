"""Copies between memory and a GPU on streams of their own, while the GPU computes.

Three streams work at once: one uploads the next block, the caller's computes on this one, and one
downloads the previous result. Events order them. Memory is pinned, because only then are copies
asynchronous. The allocators know which streams use a tensor (record_stream for device memory; a
non-blocking copy for pinned memory), so that none is reused too early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Copy:
    """A tensor, and the event after which it is complete; None where it already is."""

    tensor: torch.Tensor
    there: Any = None


class DeviceCopies:
    """Copies for a device that computes on tensors where they are: nothing is copied."""

    #: Whether copies run while the caller computes.
    overlap = False

    def send(self, rows: torch.Tensor) -> Copy:
        """Begin to upload rows; any thread may."""
        return Copy(rows)

    def receive(self, copy: Copy) -> torch.Tensor:
        """Return rows that were sent, ready for the next computation of the caller's thread."""
        return copy.tensor

    def fetch(self, result: torch.Tensor) -> Copy:
        """Begin to download a result of the caller's thread."""
        return Copy(result)

    def land(self, copy: Copy) -> torch.Tensor:
        """Wait for a download; any thread may."""
        return copy.tensor


class StreamedCopies(DeviceCopies):
    """Copies to a CUDA device and back, on two streams beside the one that computes.

    ``device`` has an index; ``cuda`` provides streams and events, as :mod:`torch.cuda` does.
    """

    overlap = True

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device, self._cuda = device, cuda
        self._inward, self._outward = cuda.Stream(device), cuda.Stream(device)

    def send(self, rows: torch.Tensor) -> Copy:
        """Begin to upload rows; any thread may."""
        if not self._is_on_host(rows):
            return Copy(rows)
        with self._cuda.stream(self._inward):
            return Copy(self._upload(rows), self._inward.record_event())

    def receive(self, copy: Copy) -> torch.Tensor:
        """Return rows that were sent, ready for the next computation of the caller's thread."""
        if copy.there is not None:
            computing = self._cuda.current_stream(self._device)
            computing.wait_event(copy.there)
            self._keep_for(copy.tensor, computing)
        return copy.tensor

    def fetch(self, result: torch.Tensor) -> Copy:
        """Begin to download a result of the caller's thread."""
        if self._is_on_host(result):
            return Copy(result)
        self._outward.wait_stream(self._cuda.current_stream(self._device))
        with self._cuda.stream(self._outward):
            copy = Copy(self._download(result), self._outward.record_event())
        self._keep_for(result, self._outward)
        return copy

    def land(self, copy: Copy) -> torch.Tensor:
        """Wait for a download; any thread may."""
        if copy.there is not None:
            copy.there.synchronize()
        return copy.tensor

    # The methods below need a GPU, and tests replace them.

    def _is_on_host(self, tensor: torch.Tensor) -> bool:
        return tensor.device.type == "cpu"

    def _upload(self, rows: torch.Tensor) -> torch.Tensor:
        pinned = rows if rows.is_pinned() else rows.pin_memory()
        return pinned.to(self._device, non_blocking=True)

    def _download(self, result: torch.Tensor) -> torch.Tensor:
        pinned = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        return pinned.copy_(result, non_blocking=True)

    def _keep_for(self, tensor: torch.Tensor, stream: Any) -> None:
        tensor.record_stream(stream)


def copies_for(device: torch.device) -> DeviceCopies:
    """Return the copies for a device."""
    return StreamedCopies(device) if device.type == "cuda" else DeviceCopies()
