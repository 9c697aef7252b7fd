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
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import AGAIN, NotVistoks, load_weights
from vistok.errors import UserError, damage_is_a_mistake
from vistok.generator.families import build_generator
from vistok.generator.interface import Generator
from vistok.nn.classifier import Classifier
from vistok.runs.headers import AnyHeader, GeneratorHeader, TokenizerHeader, check_header
from vistok.runs.wrong_file import TAKEN_BY, require_run, what_to_do
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.config import NETWORKS
from vistok.tokenizer.interface import Tokenizer

# Weights by name, and the header of their file.
Stored = tuple[dict[str, Tensor], dict[str, Any]]


def weights_file(path: str | Path, weights: str | None = None) -> Path:
    """Return the weights file of a run directory (None: the averaged weights), or the file itself.

    Raises UserError where there is nothing, or a run that is not finished or has no such weights.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: neither a run directory nor a weights file")
    require_run(path)
    run = RunDir(path)
    run.read_config()
    if not run.finished:
        raise UserError(f"run {path} is not finished; repeat its vistok train command, which goes on where it stopped")
    weights = weights or "ema"
    file = run.export(weights)
    if not file.is_file():
        other = "raw" if weights == "ema" else "ema"
        has = f"it has {other} weights" if run.export(other).is_file() else "its weights are gone"
        raise UserError(f"run {path} is finished and has no {weights} weights (no {file.relative_to(path)}); {has}")
    return file


def read_model(path: str | Path, kind: str | None = None, weights: str | None = None) -> Stored:
    """Return weights and header of a model, of this kind where one is named.

    `weights`: "ema" or "raw"; None takes a run's averaged weights, and what a file holds.

    Raises UserError for another kind, other weights than those asked for, another program's file (naming the verb that
    imports it), and for a header that is damaged.
    """
    file = weights_file(path, weights)
    try:
        state, header = load_weights(file)
    except NotVistoks as error:
        raise UserError(f"{error}; {what_to_do(file, kind)}") from None
    found = check_header(header, file)
    own = header["model"]
    if kind is not None and own != kind:
        raise UserError(f"{path} holds a {own}, not a {kind}; {TAKEN_BY[own]}")
    if weights is not None and found.weights != weights:
        raise UserError(
            f"{file} holds {found.weights} weights, and {weights} ones were asked for: name the file that holds those, or "
            f"ask for {found.weights} ones (--weights {found.weights})"
        )
    return state, header


def load_tokenizer(path: str | Path, weights: str | None = None, device: str | torch.device | None = None) -> Tokenizer:
    """Return a tokenizer in evaluation mode, on the best device; `weights`: "ema" or "raw", see `read_model`.

    Its `info` is the file's header: class names, data set, training, digest.
    """
    network = network_of(read_model(path, "tokenizer", weights), path, device)
    assert isinstance(network, Tokenizer)
    return network


def load_generator(path: str | Path, weights: str | None = None, device: str | torch.device | None = None) -> Generator:
    """Return a generator in evaluation mode, on the best device; `weights`: "ema" or "raw", see `read_model`.

    Its `info` is the file's header: class names, the tokenizer it belongs to, training, digest.
    """
    network = network_of(read_model(path, "generator", weights), path, device)
    assert isinstance(network, Generator)
    return network


def load_tokenizer_of(generator: Generator, path: str | Path | None = None) -> Tokenizer:
    """Return the tokenizer whose tokens a generator writes, from `path` or from where it was in training.

    It decodes the generator's grid: where that is larger than its own, larger images.

    Raises UserError where it is gone, or is another.
    """
    wanted = generator.info.tokenizer
    assert wanted is not None
    place = Path(path or wanted.path)
    if not place.exists():
        raise UserError(
            f"the generator's tokenizer is not at {place} any more; name its run directory or exported file "
            "with --tokenizer"
        )
    tokenizer = load_tokenizer(place, wanted.weights)
    if tokenizer.info.digest != wanted.digest:
        raise UserError(
            f"tokenizer {place} (digest {tokenizer.info.digest[:12]}) is not the one whose tokens this generator "
            f"learned (digest {wanted.digest[:12]}); name the right one with --tokenizer"
        )
    tokenizer = tokenizer.to(next(generator.parameters()).device)
    if wanted.image_size:
        tokenizer = tokenizer.resized(wanted.image_size)
    if tokenizer.space == generator.space:
        return tokenizer
    # Those of other projects are given their space at import; our own learned the space of their tokenizer.
    larger = tokenizer.resized_for(generator.space.layout) if generator.info.imported else None
    if larger is None:
        raise UserError(
            f"the generator's header says {generator.space}, and its tokenizer's images of {tokenizer.config.image_size} "
            f"pixels are {tokenizer.space}: the header is damaged; {AGAIN}"
        )
    return larger


def network_of(
    stored: Stored, path: str | Path, device: str | torch.device | None = None
) -> Tokenizer | Generator | Classifier:
    """Return the network that weights and header are of, in evaluation mode; its `info` is the header.

    `path` is for messages. Raises UserError where the weights do not fit the header's config; a config of absurd sizes
    takes no memory.
    """
    state, header = stored
    model: Any = _build(state, header, Path(path))
    _require_fit(state, model, Path(path))
    model.load_state_dict(state)
    model.info = check_header(header, Path(path))
    model = model.to(device or best_device()).eval()
    # Faster convolutions; the values are the same.
    return model.to(memory_format=torch.channels_last) if isinstance(model, Tokenizer) else model


def check_network(stored: Stored, path: str | Path) -> None:
    """Raise UserError where weights do not fit their header's config, as `network_of` does, without building it."""
    with torch.device("meta"):
        model = _build(*stored, Path(path))
    _require_fit(stored[0], model, Path(path))


def _build(state: dict[str, Tensor], header: dict[str, Any], path: Path) -> nn.Module:
    found = check_header(header, path)
    with damage_is_a_mistake(f"weights {path}: its config cannot be built", AGAIN), _no_larger_than(state):
        return _network(found, state)


def _network(found: AnyHeader, state: dict[str, Tensor]) -> nn.Module:
    if isinstance(found, GeneratorHeader):
        return build_generator(found.config, found.space, found.num_classes)
    if not isinstance(found, TokenizerHeader):
        return Classifier(found.config)
    quantizer = found.config.quantizer
    # Drawn, and so in memory, before it is a parameter.
    if isinstance(quantizer, VQConfig) and state["quantizer.codebook"].shape[0] != quantizer.codebook_size:
        raise ValueError(f"codebook_size {quantizer.codebook_size}, and {len(state['quantizer.codebook'])} codes")
    return make(NETWORKS, found.config)  # type: ignore[no-any-return]


@contextmanager
def _no_larger_than(state: dict[str, Tensor]) -> Iterator[None]:
    """Stop the building of a network that is much larger than its weights, before its memory is touched."""
    left, thread = 2 * sum(value.numel() for value in state.values()), get_ident()

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and get_ident() == thread:
            left -= parameter.numel()
            if left < 0:
                raise ValueError("it describes a larger network than the weights are of")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _require_fit(state: dict[str, Tensor], model: nn.Module, path: Path) -> None:
    """Raise UserError naming what is missing, too much, of another shape, or integers in place of floats."""
    own = model.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in state]
    wrong += [f"{name} has no place" for name in state if name not in own]
    for name in own.keys() & state.keys():
        theirs, ours = state[name], own[name]
        if theirs.shape != ours.shape:
            wrong.append(f"{name} {tuple(theirs.shape)} instead of {tuple(ours.shape)}")
        elif theirs.is_floating_point() != ours.is_floating_point() or theirs.is_complex():
            wrong.append(f"{name} {theirs.dtype} instead of {ours.dtype}")
    if wrong:
        raise UserError(
            f"weights {path} do not fit their own config: {'; '.join(sorted(wrong)[:3])} ({len(wrong)} in all); {AGAIN}"
        )
