"""Start a tokenizer's training from trained weights, to fine-tune one that was imported or trained earlier."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vistok.errors import UserError
from vistok.runs.checkpoint_weights import is_checkpoint, read_checkpoint
from vistok.runs.config import TokenizerRun
from vistok.runs.load import read_model
from vistok.runs.shipped import shipped_tokenizer, shipped_tokenizers
from vistok.tokenizer.bottlenecks.vq import OF_TRAINING
from vistok.tokenizer.config import NETWORKS, TokenizerConfig

# Buffers of training alone. The weights may lack them, if their run did not use them.
_COUNTS = {f"quantizer.{name}" for name in OF_TRAINING}


def with_network_of(config: TokenizerRun, path: str) -> TokenizerRun:
    """Return the run set to continue from the weights at `path` (see `read_initial`): their network and image size."""
    _, header = read_initial(path)
    stored = header["config"]
    network = NETWORKS[stored.get("kind", "conv")].config.from_json(json.dumps(stored))
    assert isinstance(network, TokenizerConfig)
    data = config.data.replace(
        image_size=network.image_size, image_width=network.image_width, channels=network.in_channels
    )
    place = path if _shipped(path) else str(Path(path).resolve())
    return config.replace(init_from=place, tokenizer=network, data=data)


def read_initial(path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a tokenizer's weights and header, given a run directory, exported file, checkpoint or shipped name."""
    path = str(_shipped(path) or path)
    if not Path(path).exists():
        raise UserError(
            f"--init-from {path}: not found; give a run directory, a weights file, a checkpoint, or a tokenizer that comes "
            f"with vistok: {', '.join(shipped_tokenizers())}"
        )
    return read_checkpoint(Path(path), "tokenizer") if is_checkpoint(path) else read_model(path, "tokenizer")


def _shipped(path: str) -> Path | None:
    """Return the file of the shipped tokenizer with this name, unless a local file or folder has the same name."""
    return None if Path(path).exists() else shipped_tokenizer(path)


def initial_weights(config: TokenizerRun) -> tuple[dict[str, Tensor], str] | None:
    """Return the weights that a run starts from and their digest, or None for newly initialized ones."""
    if not config.init_from:
        return None
    state, header = read_initial(config.init_from)
    return state, str(header["digest"])


def load_initial(tokenizer: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """Load initial weights. Raises UserError naming the differences if they belong to another network."""
    expected = tokenizer.state_dict()
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
            f"init_from {path}: its network differs from the config's ({'; '.join(wrong[:3])}); leave tokenizer.* as it is "
            "in that file"
        )
    tokenizer.load_state_dict(expected | {name: value for name, value in state.items() if name in expected})
