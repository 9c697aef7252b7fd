"""Weights of torchvision's classifiers, from a file that the user has, torchvision's cache, or its download."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vistok.errors import UserError
from vistok.pickled_file import read_pickled
from vistok.torch_files import refuse_program


@dataclass(frozen=True)
class TorchvisionFile:
    """A file of weights: the network's name, the file's, the config's field for its path, and how to do without it."""

    network: str
    name: str
    setting: str
    without: str

    def load(self, path: str | None) -> dict[str, Tensor]:
        """Return the weights (tensors only) from a path; None: from torchvision's cache or download.

        Raises UserError with advice if they are not to be found.
        """
        if path is not None:
            refuse_program(Path(path), f"{self.network} weights")
        try:
            if path is not None:
                return read_pickled(Path(path))  # type: ignore[no-any-return]
            url = f"https://download.pytorch.org/models/{self.name}"
            return torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=False, weights_only=True)
        except Exception as error:  # torch raises many kinds here; all of them mean that there are no weights
            raise UserError(
                f"torchvision's {self.network} weights ({self.name}) are needed, but cannot be read "
                f"({type(error).__name__}: {error}). Put the file into {torch.hub.get_dir()}/checkpoints, or give its path with "
                f"--set {self.setting}=PATH, or {self.without}"
            ) from None

    def fill(self, network: nn.Module, found: dict[str, Tensor], prefix: str = "") -> None:
        """Load weights into a network whose names have another prefix in the file.

        Raises UserError if a tensor is missing or cannot be this network's.
        """
        wanted = network.state_dict()
        for name, expected in wanted.items():
            self._require_like(found, prefix + name, expected)
        network.load_state_dict({name: found[prefix + name] for name in wanted})

    def _require_like(self, found: dict[str, Tensor], name: str, expected: Tensor) -> None:
        weight = found.get(name) if isinstance(found, dict) else None
        if not isinstance(weight, Tensor):
            wrong = "is missing"
        elif weight.shape != expected.shape:
            wrong = f"is {tuple(weight.shape)} instead of {tuple(expected.shape)}"
        elif not weight.is_floating_point() or not bool(torch.isfinite(weight).all()):
            wrong = "holds NaN, infinity or integers"
        else:
            return
        raise UserError(f"{self.network} weights: {name!r} {wrong}; use torchvision's {self.name}")
