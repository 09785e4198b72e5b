"""Copies the next batch to a GPU while the present one is trained on."""
from collections.abc import Callable, Generator, Iterable
from typing import Any

import torch
from torch import Tensor

Stage = Callable[[Any], Callable[[], Any]]  # starts the copy of a batch; what it returns gives the copied batch


def prefetch(batches: Iterable, device: torch.device) -> Iterable:
    """Yields the same batches. The images of the next batch are copied to the GPU meanwhile, on a separate stream.

    Only 'inputs' are copied, almost all of the bytes. Other entries stay on the CPU, where hooks read them without
    waiting for the GPU. Nothing that a checkpoint stores depends on how far the loader is ahead: a resumed run finds
    its batches by the number of the iteration.
    """
    return one_ahead(batches, CopyToGPU(device)) if device.type == 'cuda' else batches


def one_ahead(batches: Iterable, stage: Stage) -> Generator[Any, None, None]:
    """Yields batches in their order, each after the copy of the next one has been started.

    An error of the loader is raised after the batches before it.
    """
    iterator = iter(batches)
    try:
        copied: Callable[[], Any] | None = None
        while True:
            error: Exception | None = None
            following: Callable[[], Any] | None = None
            try:
                following = stage(next(iterator))
            except StopIteration:
                pass
            except Exception as raised:
                error = raised
            if copied is not None:
                yield copied()
            if error is not None:
                raise error
            if following is None:
                return
            copied = following
    finally:
        if isinstance(iterator, Generator):
            iterator.close()


class CopyToGPU:
    """Copies the images of batches to the GPU on a separate stream, without waiting."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def __call__(self, batch: Any) -> Callable[[], Any]:
        """Starts the copy; the returned function makes the present stream wait for it, and returns the batch."""
        inputs = batch.get('inputs') if isinstance(batch, dict) else None
        with torch.cuda.stream(self.stream):
            copies = map_tensors(inputs, lambda x: x.to(self.device, non_blocking=True))

        def ready() -> Any:
            if inputs is None:
                return batch
            present = torch.cuda.current_stream(self.device)
            present.wait_stream(self.stream)
            map_tensors(copies, lambda x: x.record_stream(present))  # its memory is not reused before that
            return {**batch, 'inputs': copies}
        return ready


def map_tensors(inputs: Any, function: Callable[[Tensor], Any]) -> Any:
    """Applies a function to a tensor, or to the tensors of a list. Other objects are returned unchanged."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, list | tuple):
        return type(inputs)(map_tensors(x, function) for x in inputs)
    return inputs
