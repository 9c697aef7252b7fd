"""Load a trained model from a run directory or an exported file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vistok.config import make
from vistok.engine.device import best_device
from vistok.engine.weights import load_weights
from vistok.engine.weights_header import AGAIN, NotVistoks
from vistok.errors import UserError, damage_is_a_mistake
from vistok.generator.families import build_generator
from vistok.generator.interface import Generator
from vistok.nn.classifier import Classifier
from vistok.origin import Origin, TokenizerOf
from vistok.runs.headers import AnyHeader, GeneratorHeader, TokenizerHeader, check_header
from vistok.runs.weights_file import weights_file
from vistok.runs.wrong_file import TAKEN_BY, what_to_do
from vistok.tokenizer.bottlenecks.config import QuantizerConfig
from vistok.tokenizer.config import NETWORKS
from vistok.tokenizer.interface import Tokenizer

# Weights by name, and the header of their file.
Stored = tuple[dict[str, Tensor], dict[str, Any]]


def read_model(path: str | Path, kind: str | None = None, weights: str | None = None) -> Stored:
    """Return a model's weights and header, checking its kind if one is given.

    `weights`: "ema" or "raw"; None means a run's EMA weights, or whatever a file holds.

    Raises UserError for another kind, for weights other than those asked for, for another program's file (naming the
    verb that imports it), and for a damaged header.
    """
    file = weights_file(path, weights)
    try:
        state, header = load_weights(file)
    except NotVistoks as error:
        raise UserError(f"{error}; {what_to_do(file, kind)}") from None
    checked = check_header(header, file)
    model = header["model"]
    if kind is not None and model != kind:
        raise UserError(f"{path} holds a {model}, not a {kind}; {TAKEN_BY[model]}")
    if weights is not None and checked.weights != weights:
        raise UserError(
            f"{file} holds {checked.weights} weights, but {weights} weights were asked for; give the file that holds "
            f"those, or ask for {checked.weights} weights (--weights {checked.weights})"
        )
    return state, header


def load_tokenizer(path: str | Path, weights: str | None = None, device: str | torch.device | None = None) -> Tokenizer:
    """Return the tokenizer in a run directory or an exported file, in evaluation mode, on the best device.

    `encode` maps images (batch, channels, height, width), floats in [-1, 1], to latents, `decode` latents to images. `weights`:
    "ema" (averaged) or "raw"; None means a run's averaged ones, or whatever a file holds. Its `info` is the file's header: class
    names, data set, training, digest.

    Example: `tokens = load_tokenizer("runs/images64-vq-e9bd2f394f").encode(images)`. Raises UserError as `read_model` does.
    """
    network = network_of(read_model(path, "tokenizer", weights), path, device)
    assert isinstance(network, Tokenizer)
    return network


def load_tokenizer_at(path: str | Path, image_size: int | None, device: str | torch.device | None = None) -> Tokenizer:
    """Return a tokenizer as `load_tokenizer` does, at an image size; at its own where that is None."""
    tokenizer = load_tokenizer(path, device=device)
    return tokenizer.resized(image_size) if image_size else tokenizer


def load_generator(path: str | Path, weights: str | None = None, device: str | torch.device | None = None) -> Generator:
    """Return the generator in a run directory or an exported file, in evaluation mode, on the best device.

    `sample` maps labels (batch,), class numbers or names, to latents (batch, *space.shape), which its tokenizer decodes. `weights`
    as for `load_tokenizer`. Its `info` is the file's header: class names, the tokenizer it belongs to, training, digest.

    Example: `latents = load_generator("runs/images64-ar-655f1c39e6").sample([0, 1])`. Raises UserError as `read_model` does. A tokenizer that the file
    names without a folder, as in a pair of files, lies beside it.
    """
    network = network_of(read_model(path, "generator", weights), path, device)
    assert isinstance(network, Generator)
    if (tokenizer := network.info.tokenizer) is not None:
        place = tokenizer_place(weights_file(path, weights), tokenizer)
        network.info = network.info.replace(tokenizer=tokenizer.replace(path=str(place)))
    return network


def tokenizer_place(file: Path, tokenizer: TokenizerOf) -> Path:
    """Return where the tokenizer of a generator's weights file is: beside it, as in a pair of files, or where it was in training.

    Where nothing is left there, a run of that name beside the generator's own is taken: they were moved together.
    """
    place = Path(tokenizer.path)
    beside, moved = file.parent / place.name, file.absolute().parent.parent.parent / place.name
    if beside.is_file():
        return beside
    return moved if not place.exists() and moved.is_dir() else place


def decodes(tokenizer: Origin, wanted: TokenizerOf) -> bool:
    """Whether a tokenizer's latents are those of the wanted one: itself, or one of which the decoder alone was trained further."""
    return wanted.digest in (tokenizer.digest, *tokenizer.decodes)


def load_tokenizer_of(generator: Generator, path: str | Path | None = None) -> Tokenizer:
    """Return the tokenizer whose tokens a generator writes, from `path` or from where it was during training.

    One of which only the decoder was trained further decodes the same tokens. It is resized to the generator's grid if that is larger than its own, to decode larger images.

    Raises UserError if it is gone, or if another tokenizer is there.
    """
    wanted = generator.info.tokenizer
    assert wanted is not None
    place = Path(path or wanted.path)
    if not place.exists():
        raise UserError(
            f"the generator's tokenizer is no longer at {place}; give its run directory or exported file with --tokenizer"
        )
    tokenizer = load_tokenizer(place, wanted.weights)
    if not decodes(tokenizer.info, wanted):
        raise UserError(
            f"tokenizer {place} (digest {tokenizer.info.digest[:12]}) is not the one whose tokens this generator "
            f"learned (digest {wanted.digest[:12]}); give the right one with --tokenizer"
        )
    tokenizer = tokenizer.to(next(generator.parameters()).device)
    if wanted.image_size:
        tokenizer = tokenizer.resized(wanted.image_size)
    if tokenizer.space == generator.space:
        return tokenizer
    # Generators from other projects get their space at import; ours learned that of their tokenizer.
    larger = tokenizer.resized_for(generator.space.layout) if generator.info.imported else None
    if larger is None:
        raise UserError(
            f"the generator's header says {generator.space}, but its tokenizer turns images of "
            f"{tokenizer.config.image_size} pixels into {tokenizer.space}: the header is damaged; {AGAIN}"
        )
    return larger


def network_of(
    stored: Stored, path: str | Path, device: str | torch.device | None = None
) -> Tokenizer | Generator | Classifier:
    """Return the network that weights and header describe, in evaluation mode; its `info` is the header.

    `path` is for messages. Raises UserError if the weights do not fit the header's config; a config with absurd sizes
    costs no memory.
    """
    state, header = stored
    model: Any = _build(state, header, Path(path))
    _require_fit(state, model, Path(path))
    model.load_state_dict(state)
    model.info = check_header(header, Path(path))
    model = model.to(device or best_device()).eval()
    # Makes convolutions faster without changing any values.
    return model.to(memory_format=torch.channels_last) if isinstance(model, Tokenizer) else model


def check_network(stored: Stored, path: str | Path) -> None:
    """Raise UserError if weights do not fit their header's config, like `network_of` but without building the network."""
    with torch.device("meta"):
        model = _build(*stored, Path(path))
    _require_fit(stored[0], model, Path(path))


def _build(state: dict[str, Tensor], header: dict[str, Any], path: Path) -> nn.Module:
    checked = check_header(header, path)
    with damage_is_a_mistake(f"weights {path}: its config cannot be built", AGAIN), _no_larger_than(state):
        return _network(checked, state)


def _network(header: AnyHeader, state: dict[str, Tensor]) -> nn.Module:
    if isinstance(header, GeneratorHeader):
        return build_generator(header.config, header.space, header.num_classes)
    if not isinstance(header, TokenizerHeader):
        return Classifier(header.config)
    quantizer = header.config.quantizer
    # Checked here because the codebook is drawn, and so takes memory, before it becomes a parameter.
    if isinstance(quantizer, QuantizerConfig) and quantizer.table is not None:
        known = len(state[f"quantizer.{quantizer.table}"])
        if known != quantizer.codes:
            raise ValueError(f"codebook_size {quantizer.codes}, but {known} codes")
    return make(NETWORKS, header.config)  # type: ignore[no-any-return]


@contextmanager
def _no_larger_than(state: dict[str, Tensor]) -> Iterator[None]:
    """Stop building a network that is much larger than its weights, before its memory is touched."""
    left, thread = 2 * sum(value.numel() for value in state.values()), get_ident()

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and get_ident() == thread:
            left -= parameter.numel()
            if left < 0:
                raise ValueError("it describes a larger network than the weights belong to")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _require_fit(state: dict[str, Tensor], model: nn.Module, path: Path) -> None:
    """Raise UserError naming tensors that are missing, unexpected, of another shape, or integers instead of floats."""
    expected = model.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is unexpected" for name in state if name not in expected]
    for name in expected.keys() & state.keys():
        theirs, ours = state[name], expected[name]
        if theirs.shape != ours.shape:
            wrong.append(f"{name} {tuple(theirs.shape)} instead of {tuple(ours.shape)}")
        elif theirs.is_floating_point() != ours.is_floating_point() or theirs.is_complex():
            wrong.append(f"{name} {theirs.dtype} instead of {ours.dtype}")
    if wrong:
        raise UserError(
            f"weights {path} do not fit their own config: {'; '.join(sorted(wrong)[:3])} ({len(wrong)} in all); {AGAIN}"
        )
