"""Imported flow generators and KL autoencoders against the code that made them: predictions, samples, latents, pictures.

    pip install timm einops diffusers
    python benchmarks/parity_flow.py --lightningdit-path LightningDiT --dit-path DiT

Give checkouts of hustvl/LightningDiT and facebookresearch/DiT. Weights are random ones, saved as the projects save theirs.
Our samples start from the original's noise: LightningDiT's by its Euler loop and time warp, with its guidance of three
channels and its interval, and DiT's by its DDIM. Differences are largest absolute ones, in float32, divided by
the largest value where that is above one.
"""

import os
import sys
import tempfile
import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import arguments, earlier, entry, save
from torch import Tensor

from vistok.generator.flow.config import FlowSampling
from vistok.generator.flow.sampling import draw
from vistok.interop.diffusers import import_diffusers
from vistok.interop.dit import import_dit
from vistok.interop.lightningdit import import_lightningdit
from vistok.interop.taming import import_taming
from vistok.runs.load import load_generator, load_tokenizer
from vistok.space import grid

TITLE = "Imported flow generators and KL autoencoders against the original code: largest difference"
LIMIT = 1e-5
# What VA-VAE's yaml says of the network.
VAVAE = """model:
  target: ldm.models.autoencoder.AutoencoderKL
  params:
    embed_dim: 32
    ddconfig: {double_z: true, z_channels: 32, resolution: 256, in_channels: 3, out_ch: 3, ch: 128, ch_mult: [1, 1, 2, 2, 4],
      num_res_blocks: 2, attn_resolutions: [16], dropout: 0.0}
"""
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
        "pictures": beside(ours.decode(latents), theirs.decode(posterior.mean).sample),
    }
    return [row(f"diffusers' AutoencoderKL, {name}", difference) for name, difference in rows.items()]


def vavae(folder: Path, path: Path) -> list[dict[str, Any]]:
    """Compare VA-VAE's code with the import of its checkpoint, which also holds what only its training needs."""
    sys.path.insert(0, str(path))
    from tokenizer.autoencoder import AutoencoderKL

    theirs = AutoencoderKL(embed_dim=32, ch_mult=(1, 1, 2, 2, 4)).eval()
    more = {"loss.logvar": torch.zeros(()), "linear_proj.weight": torch.zeros(32, 1024)}
    torch.save({"state_dict": theirs.state_dict() | more}, folder / "vavae.ckpt")
    (folder / "vavae.yaml").write_text(VAVAE)
    import_taming(folder / "vavae.ckpt", folder / "vavae.yaml", folder / "vavae")
    ours = load_tokenizer(folder / "vavae")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    posterior = theirs.encode(images)
    means = ours.stored(images).chunk(2, dim=-1)[0]
    pictures = beside(ours.decode(flat(posterior.mode()), grid(4, 4)), theirs.decode(posterior.mode()))
    rows = {"means": means - flat(posterior.mode()), "pictures": pictures}
    return [row(f"VA-VAE's autoencoder, {name}", difference) for name, difference in rows.items()]


def dit(folder: Path, path: Path) -> list[dict[str, Any]]:
    """Compare DiT's code and DDIM with its import; `folder`/vae is the autoencoder."""
    models, diffusion = from_checkout(path, "models"), from_checkout(path, "diffusion")
    torch.manual_seed(0)
    theirs = models.DiT(input_size=16, in_channels=4, hidden_size=64, depth=3, num_heads=4, num_classes=7)
    something(theirs)
    torch.save({"ema": theirs.state_dict()}, folder / "dit.pt")
    import_dit(folder / "dit.pt", folder / "dit", folder / "vae", num_heads=4)
    ours = load_generator(folder / "dit")
    noise, labels = torch.randn(4, 4, 16, 16), torch.tensor([0, 1, 2, 6])
    steps = torch.tensor([999, 500, 10, 0])
    found = ours.network(flat(noise), 1 - (steps + 1) / 1000, labels)
    rows = [row("DiT, prediction", found - flat(theirs(noise, steps, labels)[:, :4]))]
    doubled = {"y": torch.cat([labels, torch.full_like(labels, 7)]), "cfg_scale": 4.0}
    kinds = diffusion.gaussian_diffusion
    steps_of = diffusion.SpacedDiffusion(
        set(range(19, 1000, 20)), betas=kinds.get_named_beta_schedule("linear", 1000), loss_type=kinds.LossType.MSE,
        model_mean_type=kinds.ModelMeanType.EPSILON, model_var_type=kinds.ModelVarType.LEARNED_RANGE,
    )  # fmt: skip
    drawn = steps_of.ddim_sample_loop(
        theirs.forward_with_cfg, (8, 4, 16, 16), torch.cat([noise, noise]), clip_denoised=False, model_kwargs=doubled, device="cpu"
    ).chunk(2)[0]  # fmt: skip
    how = FlowSampling(steps=50, solver="ddim", guidance_scale=4.0, guidance_channels=3)
    mine = draw(ours.network, ours.process, lambda number: flat(noise), labels, how)
    return [*rows, row("DiT, samples by DDIM", beside(mine, flat(drawn)))]


def from_checkout(path: Path, name: str) -> Any:
    """Import a module whose name another checkout has, too."""
    for known in [known for known in sys.modules if known.split(".")[0] == name]:
        del sys.modules[known]
    sys.path.insert(0, str(path))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(path))


def something(network: torch.nn.Module) -> None:
    """Give weights that begin at zero something to say, and stop training."""
    for weight in network.parameters():
        if weight.requires_grad and weight.dim() > 1 and float(weight.abs().max()) == 0:
            torch.nn.init.normal_(weight, std=0.1)
    network.eval()


def beside(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the difference where values are about one, and its ratio to the largest value where that is more."""
    return (ours - theirs) / max(1.0, float(theirs.abs().max()))


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
        something(theirs)
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
    mine = draw(ours.network, ours.process, lambda number: flat(noise), labels, how) * ours.deviation + ours.mean
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
        dit_path={"type": Path, "required": True, "help": "checkout of facebookresearch/DiT"},
    )
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # the original compiles its blocks; the numbers are the same without
    euler_of_torchdiffeq()
    without_fairscale()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        place = Path(scratch)
        # oneDNN takes other convolutions for another memory layout, whose rounding alone differs by 2e-5 in a deep decoder.
        with torch.backends.mkldnn.flags(enabled=False):  # type: ignore[attr-defined]
            results = [*vae(place), *vavae(place, options.lightningdit_path)]
        results += [*transformers(place, options.lightningdit_path), *dit(place, options.dit_path), *dinov2(place)]
    save("parity_flow", [*earlier("parity_flow", results), *results], TITLE)
    if failed := [result["name"] for result in results if not result["passed"]]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
