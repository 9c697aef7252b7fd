"""Start training from trained weights, to fine-tune a network that was imported, trained earlier, or comes with vistok."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from vistok.config import Part
from vistok.errors import UserError
from vistok.generator.conditioning import ClassEmbedding
from vistok.generator.families import FAMILIES
from vistok.runs.checkpoint_weights import is_checkpoint, read_checkpoint
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.headers import FACTORS, MOMENTS
from vistok.runs.load import read_model
from vistok.runs.other_latents import fitted_to, of_other_kind
from vistok.runs.shipped import shipped_network, shipped_networks
from vistok.tokenizer.bottlenecks.vq import OF_TRAINING
from vistok.tokenizer.config import NETWORKS, TokenizerConfig
from vistok.tokenizer.interface import Tokenizer

# Buffers of training alone. The weights may lack them, if their run did not use them.
_COUNTS = {f"quantizer.{name}" for name in OF_TRAINING}
# The networks of each kind of run, and which of them is meant by weights that do not say.
_NETWORKS: dict[str, tuple[Mapping[str, Part], str]] = {
    "tokenizer": (NETWORKS, "conv"),
    "generator": (FAMILIES, "autoregressive"),
}
State = dict[str, Tensor]
R = TypeVar("R", TokenizerRun, GeneratorRun)


def with_network_of(config: R, path: str) -> R:
    """Return the run set to continue from the weights at `path` (see `read_initial`), with their network.

    A tokenizer's run also gets their image size and channels, but keeps its bottleneck where one gives tokens and the other vectors.
    Raises UserError for a generator of another family.
    """
    _, header = read_initial(path, config.kind)
    network = _network(config, header)
    if isinstance(config, TokenizerRun) and of_other_kind(network, config.tokenizer):
        network = network.replace(quantizer=config.tokenizer.quantizer)
    if isinstance(config, GeneratorRun) and network.kind != config.generator.kind:
        raise UserError(
            f"--init-from {path}: its network is of the {network.kind} family, but {config.name} trains one of the "
            f"{config.generator.kind} family; start from one of these, or take a recipe of that family (vistok recipes lists them)"
        )
    changes: dict[str, Any] = {"init_from": place_of(path, config.kind), config.kind: network}
    if isinstance(config, TokenizerRun):
        changes["data"] = config.data.replace(
            image_size=network.image_size, image_width=network.image_width, channels=network.in_channels
        )
    return config.replace(**changes)


def _network(config: TokenizerRun | GeneratorRun, header: dict[str, Any]) -> Any:
    """Return the config of the network whose weights have a header."""
    stored, (table, former) = header["config"], _NETWORKS[config.kind]
    return table[stored.get("kind", former)].config.from_json(json.dumps(stored))


def read_initial(path: str, kind: str, option: str = "--init-from") -> tuple[State, dict[str, Any]]:
    """Return a network's weights and header, given a run directory, exported file, checkpoint or shipped name.

    `option`: the one that named it, for messages.
    """
    path = str(_shipped(path, kind) or path)
    if not Path(path).exists():
        raise UserError(
            f"{option} {path}: not found; give a run directory, a weights file, a checkpoint, or a {kind} that comes "
            f"with vistok: {', '.join(shipped_networks(kind))}"
        )
    return read_checkpoint(Path(path), kind) if is_checkpoint(path) else read_model(path, kind)


def _shipped(path: str, kind: str) -> Path | None:
    """Return the file of the shipped network with this name, unless a local file or folder has the same name."""
    return None if Path(path).exists() else shipped_network(path, kind)


def place_of(path: str, kind: str) -> str:
    """Return a path that holds from any folder, or a shipped network's name as it is."""
    return path if _shipped(path, kind) else str(Path(path).resolve())


@dataclass(frozen=True)
class Initial:
    """The weights that a run starts from, their digest, and for a generator the names of its classes, if known.

    `decodes`: digests of other tokenizers with the same latents. `scales`: how its project normalises them for diffusion models, as the
    header says. `other`: a tokenizer's config, if its latents are of another
    kind than the run's.
    """

    path: str
    state: State
    digest: str
    class_names: tuple[str, ...] | None
    decodes: tuple[str, ...] = ()
    scales: Mapping[str, Any] = field(default_factory=dict)
    other: TokenizerConfig | None = None


def initial_weights(config: TokenizerRun | GeneratorRun) -> Initial | None:
    """Return the weights that a run starts from, or None for newly initialized ones."""
    if not config.init_from:
        return None
    state, header = read_initial(config.init_from, config.kind)
    names = header.get("class_names")
    names = None if names is None else tuple(names)
    other = None
    if isinstance(config, TokenizerRun) and of_other_kind(stored := _network(config, header), config.tokenizer):
        other = stored
    scales = {name: header[name] for name in (*FACTORS, *MOMENTS) if header.get(name) is not None}
    return Initial(
        config.init_from, state, str(header["digest"]), names, tuple(header.get("decodes", ())), scales, other
    )


def load_initial(network: nn.Module, initial: Initial, class_names: Sequence[str] = ()) -> None:
    """Load initial weights. Raises UserError naming the differences if they belong to another network.

    A generator of other classes than `class_names` begins each of these as "no class". A tokenizer of another kind of latents begins
    with a new bottleneck.
    """
    state = initial.state
    if initial.other is not None:
        assert isinstance(network, Tokenizer)
        state = fitted_to(network, state, initial.other, initial.path)
    expected = network.state_dict()
    if initial.class_names != tuple(class_names):
        state = _with_other_classes(network, state)
    wrong = [
        f"{name} {tuple(state[name].shape) if name in state else 'missing'} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name not in _COUNTS and (name not in state or state[name].shape != value.shape)
    ]
    wrong += [
        f"{name} {value.dtype} instead of {expected[name].dtype}"
        for name, value in state.items()
        if name in expected and value.is_floating_point() != expected[name].is_floating_point()
    ]
    wrong += [f"{name} is unexpected" for name in state if name not in expected and name not in _COUNTS]
    if wrong:
        raise UserError(
            f"init_from {initial.path}: its network differs from the config's ({'; '.join(wrong[:3])}); leave what shapes the network "
            "as it is in that file"
        )
    network.load_state_dict(expected | {name: value for name, value in state.items() if name in expected})


def _with_other_classes(network: nn.Module, state: State) -> State:
    """Return the weights with new tables of classes."""
    tables = {
        f"{name}.table.weight": module for name, module in network.named_modules() if isinstance(module, ClassEmbedding)
    }
    return state | {name: module.for_other_classes(state[name]) for name, module in tables.items() if name in state}
