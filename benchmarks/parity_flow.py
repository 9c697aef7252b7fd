"""Imported flow generators and KL autoencoders against the code that made them: predictions, samples, latents, pictures.

    python benchmarks/parity_flow.py --lightningdit-path LightningDiT

The checkout of hustvl/LightningDiT needs the packages timm and einops; diffusers' AutoencoderKL is compared where that
package is installed. Weights are random ones, saved as the projects save theirs. Our samples start from the original's
noise, by its Euler loop and time warp, with its guidance of three channels and its interval. Differences are largest
absolute ones, in float32 beside values of about one.
"""

import os
import sys
import tempfile
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # the original compiles its blocks; the numbers are the same without

import torch
from common import arguments, earlier, entry, save
from torch import Tensor

from vistok.generator.flow.config import FlowSampling
from vistok.generator.flow.sampling import draw
from vistok.interop.diffusers import import_diffusers
from vistok.interop.lightningdit import import_lightningdit
from vistok.runs.load import load_generator, load_tokenizer

TITLE = "Imported flow generators and KL autoencoders against the original code: largest difference"
LIMIT = 1e-4
VAE = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [32, 64], "in_channels": 3, "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "layers_per_block": 2,
    "latent_channels": 4, "norm_num_groups": 32, "sample_size": 32, "scaling_factor": 0.18215,
}  # fmt: skip
# Arguments of the original, by what they try.
NETWORKS: dict[str, dict[str, Any]] = {
    "LightningDiT": {"use_swiglu": True, "use_rope": True, "use_rmsnorm": True},
    "LightningDiT, QK-norm": {"use_swiglu": True, "use_rope": True, "use_rmsnorm": True, "use_qknorm": True},
    "DiT block": {},
    "DiT block, patches of 2": {"patch_size": 2},
}


def vae(folder: Path) -> list[dict[str, Any]]:
    """Compare diffusers' AutoencoderKL with its import; leave the import at folder/vae for the generators."""
    from diffusers import AutoencoderKL

    theirs = AutoencoderKL.from_config(VAE).eval()
    theirs.save_pretrained(folder / "diffusers")
    import_diffusers(folder / "diffusers", folder / "vae")
    ours = load_tokenizer(folder / "vae")
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    posterior = theirs.encode(images).latent_dist
    means, deviations = ours.stored(images).chunk(2, dim=-1)
    latents = flat(posterior.mean)
    rows = {
        "means": means - latents,
        "deviations": deviations - flat(posterior.std),
        "pictures": ours.decode(latents) - theirs.decode(posterior.mean).sample,
    }
    return [row(f"diffusers' AutoencoderKL, {name}", difference) for name, difference in rows.items()]


def flat(x: Tensor) -> Tensor:
    """Return (batch channels height width) as vectors at positions."""
    return x.flatten(2).transpose(1, 2)


def dinov2(folder: Path) -> list[dict[str, Any]]:
    """Compare with timm's DINOv2, with random weights, at its own grid and at another."""
    from timm.models.vision_transformer import VisionTransformer

    from vistok.nn.dinov2 import load_dinov2

    theirs = VisionTransformer(
        img_size=70, patch_size=14, embed_dim=128, depth=3, num_heads=2, init_values=1.0, num_classes=0,
        dynamic_img_size=True,
    ).eval()  # fmt: skip
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    torch.save({**theirs.state_dict(), "mask_token": torch.zeros(1, 128)}, folder / "dinov2.pth")
    ours, rows = load_dinov2(str(folder / "dinov2.pth")), []
    for side in (70, 112):
        images = torch.rand(2, 3, side, side) * 2 - 1
        found = ours.stage_activations(images)[-1].flatten(2).transpose(1, 2)
        rows.append(row(f"timm's DINOv2 at {side} pixels", found - theirs.forward_features(images)[:, 1:]))
    return rows


def row(name: str, difference: Tensor) -> dict[str, Any]:
    largest = float(difference.abs().max())
    return entry(name, largest, None, "largest difference", LIMIT, passed=largest <= LIMIT)


def transformers(folder: Path, path: Path) -> list[dict[str, Any]]:
    sys.path.insert(0, str(path))
    from models.lightningdit import LightningDiT
    from transport.integrators import ode  # needs torchdiffeq, stood in for below

    rows = []
    for name, changes in NETWORKS.items():
        torch.manual_seed(0)
        theirs = LightningDiT(
            input_size=16, in_channels=4, hidden_size=64, depth=3, num_heads=4, num_classes=7, **{"patch_size": 1, **changes}
        )  # fmt: skip
        for weight in theirs.parameters():
            if weight.requires_grad and weight.dim() > 1 and float(weight.abs().max()) == 0:
                torch.nn.init.normal_(weight, std=0.1)  # what begins at zero should say something
        theirs.eval()
        file = folder / f"{name}.pt"
        torch.save({"model": {}, "ema": theirs.state_dict()}, file)
        mean, std = torch.randn(1, 4, 1, 1), torch.rand(1, 4, 1, 1) + 0.5
        torch.save({"mean": mean, "std": std}, folder / "stats.pt")
        import_lightningdit(file, folder / name, folder / "vae", folder / "stats.pt", num_heads=4)
        ours = load_generator(folder / name)
        x, t, labels = torch.randn(5, 4, 16, 16), torch.rand(5), torch.tensor([0, 3, 6, 7, 1])
        rows.append(row(f"{name}, prediction", ours.network(flat(x), t, labels) - flat(theirs(x, t, labels))))
        rows.append(samples(name, theirs, ours, ode, mean, std))
    return rows


def samples(name: str, theirs: Any, ours: Any, ode: Any, mean: Tensor, std: Tensor) -> dict[str, Any]:
    """Compare samples by the original's loop: 20 times are 19 steps, warped; guidance 4 of three channels, off near noise."""
    noise, labels = torch.randn(4, 4, 16, 16), torch.tensor([0, 1, 2, 6])
    loop = ode(
        drift=lambda x, t, model, **more: model(x, t, **more), t0=0, t1=1, sampler_type="euler", num_steps=20, atol=1e-6,
        rtol=1e-3, timestep_shift=0.3,
    )  # fmt: skip
    doubled = torch.cat([labels, torch.full_like(labels, 7)])
    drawn = loop.sample(
        torch.cat([noise, noise]), theirs.forward_with_cfg, y=doubled, cfg_scale=4.0, cfg_interval=True,
        cfg_interval_start=0.11,
    )[-1].chunk(2)[0]  # fmt: skip
    how = FlowSampling(steps=19, solver="euler", warp=0.3, guidance_scale=4.0, guidance_from=0.11, guidance_channels=3)
    mine = draw(ours.network, ours.process, flat(noise), labels, how) * ours.deviation + ours.mean
    return row(f"{name}, samples", mine - flat(drawn * std + mean))


def euler_of_torchdiffeq() -> None:
    """Stand in for torchdiffeq's fixed-step Euler method, where that package is missing."""
    if "torchdiffeq" in sys.modules or find_spec("torchdiffeq"):
        return

    def odeint(velocity: Any, x: Tensor, t: Tensor, **_: Any) -> list[Tensor]:
        found = [x]
        for now, after in zip(t, t[1:], strict=False):
            found.append(found[-1] + (after - now) * velocity(now, found[-1]))
        return found

    module: Any = types.ModuleType("torchdiffeq")
    module.odeint = odeint
    sys.modules["torchdiffeq"] = module


def without_fairscale() -> None:
    """Stand in for fairscale, which a file of the checkout imports for classes that are not used."""
    if "fairscale" in sys.modules or find_spec("fairscale"):
        return
    for name in ("fairscale", "fairscale.nn", "fairscale.nn.model_parallel", "fairscale.nn.model_parallel.initialize",
                 "fairscale.nn.model_parallel.layers"):  # fmt: skip
        module: Any = types.ModuleType(name)
        for unused in ("ColumnParallelLinear", "ParallelEmbedding", "RowParallelLinear"):
            setattr(module, unused, torch.nn.Linear)
        sys.modules[name] = module


def main() -> None:
    options = arguments(
        __doc__,
        lightningdit_path={"type": Path, "required": True, "help": "checkout of hustvl/LightningDiT"},
    )
    euler_of_torchdiffeq()
    without_fairscale()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        place = Path(scratch)
        results = [*vae(place), *transformers(place, options.lightningdit_path), *dinov2(place)]
    save("parity_flow", [*earlier("parity_flow", results), *results], TITLE)
    if failed := [result["name"] for result in results if not result["passed"]]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
