"""A network in one line: torch's own `repr` lists every layer, over pages."""

from torch import nn

from vistok.origin import Origin


def in_one_line(network: nn.Module, shapes: str, origin: Origin) -> str:
    """Return a network's class and shapes, its parameters, where it comes from, and the device that it is on."""
    weights = list(network.parameters())
    facts = [f"{sum(weight.numel() for weight in weights) / 1e6:.2f} M parameters"]
    facts += [origin.recipe] if origin.recipe else []
    facts += [f"digest {origin.digest[:10]}"] if origin.digest else []
    facts += [f"on {weights[0].device}"] if weights else []
    return f"{type(network).__name__}: {shapes} ({', '.join(facts)})"
