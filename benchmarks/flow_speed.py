"""A training step of a flow generator, and sampling from it, against LightningDiT's code: the same weights on the same machine.

    python benchmarks/flow_speed.py --lightningdit-path LightningDiT

The checkout of hustvl/LightningDiT needs the packages timm and einops. Networks have 256 positions of 32 numbers, float32. A step is
loss (squared error and direction), gradients, clipping, AdamW and the average of the weights, each by its side's own code; samples take
Euler's steps with guidance of three channels. The original runs plainly, and with the parts compiled that it asks to have compiled.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import alternate_apart, arguments, entry, matrix_rate, median, save, training_step
from parity_flow import euler_of_torchdiffeq, without_fairscale

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12)}
SIDE, DIM, CLASSES = 16, 32, 1000
# Images of a training step, images drawn at once, Euler's steps, and the guidance scale.
BATCH, DRAWN, STEPS, SCALE = 4, 2, 4, 4.0
PEERS = {"LightningDiT": False, "it compiled": True}


def original(size: str, path: Path, compiled: bool) -> Any:
    """Return LightningDiT's network with random weights, those that begin at zero included."""
    import torch

    if not compiled:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # read where the original asks for its parts to be compiled
    without_fairscale()
    euler_of_torchdiffeq()
    sys.path.insert(0, str(path))
    from models.lightningdit import LightningDiT

    width, depth, heads = SIZES[size]
    torch.manual_seed(0)
    network = LightningDiT(
        input_size=SIDE, patch_size=1, in_channels=DIM, hidden_size=width, depth=depth, num_heads=heads,
        num_classes=CLASSES, use_swiglu=True, use_rope=True, use_rmsnorm=True,
    )  # fmt: skip
    for weight in network.parameters():
        if weight.requires_grad and weight.dim() > 1 and float(weight.detach().abs().max()) == 0:
            torch.nn.init.normal_(weight, std=0.02)
    return network


def checked(run: Callable[[], None], compiled: bool) -> Callable[[], None]:
    """Return what was run once, and so compiled. Raises RuntimeError where torch compiled nothing, or should not have."""
    from torch._dynamo.utils import counters

    run()
    if bool(graphs := counters["stats"]["unique_graphs"]) != compiled:
        raise RuntimeError(f"{graphs} graphs were compiled, where {'some' if compiled else 'none'} should be")
    return run


def objective(size: str) -> tuple[Any, Any]:
    """Return a run of ours and its objective."""
    import torch

    from vistok.engine.config import OptimizerConfig
    from vistok.generator.flow.config import FlowConfig
    from vistok.generator.flow.objective import Matching
    from vistok.runs.config import GeneratorRun
    from vistok.space import Grid, Vectors

    width, depth, heads = SIZES[size]
    run = GeneratorRun(
        generator=FlowConfig(width=width, depth=depth, num_heads=heads, time_scale=1.0),
        batch_size=BATCH,
        optimizer=OptimizerConfig(lr=2e-4, betas=(0.9, 0.95), weight_decay=0.0),
        ema_decay=0.9999,
    )
    space = Vectors(layout=Grid(height=SIDE, width=SIDE), dim=DIM)
    return run, Matching(run, space, CLASSES, torch.get_default_device())


def with_its_weights(size: str, path: Path) -> tuple[Any, Any]:
    """Return a run of ours and its objective, with the weights of LightningDiT's network in it."""
    from vistok.engine.config import ExecutionConfig
    from vistok.engine.device import setup_device
    from vistok.interop.diffusion_transformer import to_ours

    setup_device(ExecutionConfig())
    run, ours = objective(size)
    found = to_ours(path, original(size, path, compiled=False).state_dict())
    ours.model.network.load_state_dict({name.removeprefix("network."): value for name, value in found.items()})
    return run, ours


def our_training(size: str, path: Path) -> Callable[[], None]:
    """Return our training step."""
    run, ours = with_its_weights(size, path)
    return training_step(ours, run)


def peer_training(size: str, path: Path, compiled: bool) -> Callable[[], None]:
    """Return LightningDiT's training step, as its train.py takes it."""
    import copy

    import torch

    network = original(size, path, compiled)
    from transport import create_transport

    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4, weight_decay=0, betas=(0.9, 0.95))
    transport = create_transport("Linear", "velocity", use_cosine_loss=True, use_lognorm=True)
    data, labels = torch.zeros(BATCH, DIM, SIDE, SIDE), torch.zeros(BATCH, dtype=torch.int64)

    def step() -> None:
        losses = transport.training_losses(network, data, {"y": labels})
        optimizer.zero_grad()
        (losses["cos_loss"].mean() + losses["loss"].mean()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for averaged, weight in zip(average.parameters(), network.parameters(), strict=True):
                averaged.mul_(0.9999).add_(weight.data, alpha=1 - 0.9999)

    return checked(step, compiled)


def our_sampling(size: str, path: Path) -> Callable[[], None]:
    """Return how we draw a few images' latents."""
    import torch

    from vistok.generator.flow.config import FlowSampling

    model = with_its_weights(size, path)[1].model.eval()
    how = FlowSampling(steps=STEPS, solver="euler", guidance_scale=SCALE, guidance_channels=3)
    sampler, labels, numbers = model.sampler(how), torch.arange(DRAWN), torch.arange(DRAWN)
    return lambda: sampler(labels, numbers)


def peer_sampling(size: str, path: Path, compiled: bool) -> Callable[[], None]:
    """Return how LightningDiT draws them, as its inference.py does."""
    import torch

    network = original(size, path, compiled).eval()
    from transport.integrators import ode

    loop = ode(
        drift=lambda x, t, model, **more: model(x, t, **more), t0=0, t1=1, sampler_type="euler", num_steps=STEPS + 1,
        atol=1e-6, rtol=1e-3, timestep_shift=0.0,
    )  # fmt: skip
    labels = torch.cat([torch.arange(DRAWN), torch.full((DRAWN,), CLASSES)])

    @torch.no_grad()
    def draw() -> None:
        noise = torch.randn(DRAWN, DIM, SIDE, SIDE)
        loop.sample(torch.cat([noise, noise]), network.forward_with_cfg, y=labels, cfg_scale=SCALE)

    return checked(draw, compiled)


def flops_of_training(size: str) -> float:
    """Return the floating-point operations of a training step's networks, forward and backward."""
    import torch

    from vistok.runs.plan import step_flops
    from vistok.units import Scale

    with torch.device("meta"):
        run, ours = objective(size)
        return step_flops(ours.phases(Scale(BATCH, 1, 1, (), 1000)), ours.example(BATCH, torch.device("meta")), 0)


def main() -> None:
    options = arguments(
        __doc__, lightningdit_path={"type": Path, "required": True, "help": "checkout of hustvl/LightningDiT"}
    )
    path, rows = options.lightningdit_path.resolve(), []
    for size in SIZES:
        for what, mine, theirs in (
            ("training step", our_training, peer_training),
            ("sampling", our_sampling, peer_sampling),
        ):
            sides = {name: (theirs, (size, path, compiled)) for name, compiled in PEERS.items()}
            seconds = alternate_apart(options.repeats, ours=(mine, (size, path)), **sides)
            took = {name: median(found) for name, found in seconds.items()}
            flops = flops_of_training(size) if what == "training step" else 0.0
            more = {"share_of_matrix_rate": flops / matrix_rate() / took["ours"]} if flops else {}
            many = f"{BATCH} images" if flops else f"{DRAWN} images, {STEPS} guided steps"
            rows += [
                entry(f"{size}, {what}, {many}, against {name}", took["ours"], took[name], "s", 1.2, **more)
                for name in PEERS
            ]
            print(rows[-2:], flush=True)
    save("flow_speed", rows, "A flow generator's speed beside LightningDiT's code")


if __name__ == "__main__":
    main()
