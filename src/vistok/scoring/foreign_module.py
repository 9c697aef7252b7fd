"""Any network that draws images from labels, or that encodes and decodes them: called and checked, whatever it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from vistok.data.images.transforms import to_float, to_uint8
from vistok.engine.log import Progress
from vistok.errors import UserError, reason
from vistok.nn.evaluation import in_evaluation
from vistok.tokenizer.given import FARTHEST


class ForeignAutoencoder:
    """A network with `encode` and `decode`, as scores call one. Raises UserError where it does not give images back.

    `darkest`: the lowest value decoded so far; 0 tells of a network for images in [0, 1].
    """

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module
        self.device = device_of(module)
        self.darkest = float("inf")  # of all decoded pixels, -1 for black

    def encode(self, images: Tensor) -> tuple[Any, torch.Size]:
        """Return the network's latents, whatever they are, and the images' shape."""
        with _of_the_module(self.module, "encode", images):
            return self.module.encode(images.to(self.device)), images.shape

    def decode(self, latents: tuple[Any, torch.Size]) -> Tensor:
        """Return images (batch, channels, height, width), floats in [-1, 1]."""
        encoded, shape = latents
        with _of_the_module(self.module, "decode", None):
            decoded = self.module.decode(encoded)
        images = checked_images(decoded, int(shape[0]), f"{type(self.module).__name__}.decode")
        if images.shape[1] != shape[1]:
            raise UserError(
                f"{type(self.module).__name__}.decode: {images.shape[1]} channels for images with {shape[1]}; they must agree"
            )
        images = to_float(images) if images.dtype == torch.uint8 else images
        self.darkest = min(self.darkest, float(images.min()))
        return images


def drawn_images(
    module: nn.Module, labels: Tensor, batch_size: int, seed: int, progress: Progress
) -> Iterator[UInt8[Tensor, "batch channels height width"]]:
    """Yield the images that `module.sample(labels)` draws, uint8, a batch at a time; torch's random numbers begin at `seed`.

    Raises UserError where they are no images.
    """
    name, device = type(module).__name__, device_of(module)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        progress.task(f"samples of {name}", len(labels)) as bar,
    ):
        torch.manual_seed(seed)
        for part in labels.split(batch_size):
            with _of_the_module(module, "sample", part):
                found = module.sample(part.to(device))  # type: ignore[operator]
            images = checked_images(found, len(part), f"{name}.sample")
            yield (images if images.dtype == torch.uint8 else to_uint8(images)).cpu()
            bar.advance(len(part))


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a network's first weight; the CPU if it has none."""
    tensor = next(iter([*module.parameters(), *module.buffers()]), None)
    return torch.device("cpu") if tensor is None else tensor.device


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Run a block with a network in evaluation mode and without gradients; its mode is restored."""
    with in_evaluation(module), torch.no_grad():
        yield


def checked_images(found: Any, count: int, what: str) -> Tensor:
    """Return what a network gave as images (batch, channels, height, width): uint8, or floats in [-1, 1].

    Raises UserError for anything else, since a score of it would mean nothing.
    """
    if not isinstance(found, Tensor):
        raise UserError(
            f"{what} returns type {type(found).__name__}; wanted a tensor (batch, channels, height, width): wrap the network in one "
            "whose method returns that"
        )
    if found.ndim != 4 or len(found) != count or found.shape[1] not in (1, 3):
        raise UserError(
            f"{what} returns the shape {tuple(found.shape)} for a batch of {count}; wanted (batch, channels, height, width) with 1 "
            "or 3 channels"
        )
    if found.dtype == torch.uint8:
        return found
    if not found.is_floating_point():
        raise UserError(f"{what} returns {found.dtype}; wanted uint8, 0...255, or floats in [-1, 1]")
    low, high = (float(value) for value in torch.aminmax(found.float()))
    if not (low >= -FARTHEST and high <= FARTHEST):
        raise UserError(
            f"{what} returns values from {low:g} to {high:g}; wanted floats in [-1, 1], or uint8: wrap the network in one that "
            "scales them"
        )
    return found


def looks_like_zero_to_one(images: UInt8[Tensor, "batch channels height width"]) -> bool:
    """Whether all of these images lie in the upper half of the range, as floats in [0, 1] do when taken for [-1, 1]."""
    return int(images.min()) >= 127


@contextmanager
def _of_the_module(module: nn.Module, method: str, given: Tensor | None) -> Iterator[None]:
    """Turn what a network raises into a sentence that says how it was called."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        shape = "its own latents" if given is None else f"{given.dtype} of shape {tuple(given.shape)}"
        raise UserError(
            f"{type(module).__name__}.{method} failed on {shape} ({type(error).__name__}: {reason(error)}); it must take that"
        ) from error
