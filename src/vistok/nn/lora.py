"""Changes of low rank to a network's linear layers (LoRA, Hu et al. 2021, arXiv 2106.09685): weight + up down."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """A change of rank `rank` for each linear layer of a network, all zero at first.

    The network keeps plain weights: `applied_to` puts the changed ones in their place while a loss is computed, so that gradients
    reach the changes; `merge_into` writes them down, so that averages, samples and exports see what was learned.
    """

    def __init__(self, network: nn.Module, rank: int) -> None:
        super().__init__()
        layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
        self.names = {name: name.replace(".", "/") for name in layers}
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, layer in layers.items():
            outputs, inputs = layer.weight.shape
            within = min(rank, outputs, inputs)
            self.down[self.names[name]] = nn.Parameter(torch.randn(within, inputs) / within**0.5)
            self.up[self.names[name]] = nn.Parameter(torch.zeros(outputs, within))
            self.register_buffer(f"first/{self.names[name]}", layer.weight.detach().clone())

    @torch.no_grad()
    def begin_at(self, network: nn.Module) -> None:
        """Take a network's present weights as those that are changed: it may have been given others since."""
        for name, key in self.names.items():
            self.get_buffer(f"first/{key}").copy_(network.get_submodule(name).weight)  # type: ignore[arg-type]

    def weight(self, name: str) -> Tensor:
        """Return the changed weight of the layer with this name."""
        key = self.names[name]
        return self.get_buffer(f"first/{key}") + self.up[key] @ self.down[key]

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Let a network compute with the changed weights."""
        layers = {name: network.get_submodule(name)._parameters for name in self.names}
        kept = {name: parameters["weight"] for name, parameters in layers.items()}
        try:
            # In their places: averages and optimizers go through parameters in order.
            for name, parameters in layers.items():
                parameters["weight"] = self.weight(name)  # type: ignore[assignment]
            yield
        finally:
            for name, parameters in layers.items():
                parameters["weight"] = kept[name]

    @torch.no_grad()
    def merge_into(self, network: nn.Module) -> None:
        """Write the changed weights into a network."""
        for name in self.names:
            network.get_submodule(name).weight.copy_(self.weight(name))  # type: ignore[operator]
