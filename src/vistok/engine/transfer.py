"""From the machine's memory to the device's, without the host waiting for it."""

from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from vistok.engine.phase import MicroBatch


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the machine's memory on a device; a GPU takes it from pinned memory while the host goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def sent_ahead(batches: Iterator[MicroBatch], device: torch.device) -> Generator[MicroBatch, None, None]:
    """Yield batches on a device.

    The host asks for the next batch as soon as it has queued a step. A GPU then receives it in a stream of its own, while
    it still works on that step.
    """
    if device.type != "cuda":
        for batch in batches:
            yield {name: tensor.to(device) for name, tensor in batch.items()}
        return
    stream = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            sent = {name: send(tensor, device) for name, tensor in batch.items()}
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for tensor in sent.values():
            tensor.record_stream(current)  # its memory is not reused before the step has ended
        yield sent
