"""Imported checkpoints against the code that made them: tokens, reconstructions, logits and greedy tokens.

    python benchmarks/parity.py --peer-path LlamaGen --taming-path taming-transformers --ldm-path latent-diffusion

Each project is compared where its path is given, and its rows are saved as soon as it is done. Weights are random ones,
saved as the projects save theirs; --taming-path and --ldm-path need the package einops, and diffusers' VQModel is
compared where that package is installed. A token that differs is a near tie where both its codes are equally far from
the latent but for rounding; near ties count as equal, and are counted.
"""

import argparse
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import arguments, earlier, entry, llamagen, save
from torch import Tensor

from vistok.generator.autoregressive.config import AutoregressiveSampling
from vistok.interop.diffusers import import_diffusers
from vistok.interop.llamagen import export_llamagen, import_llamagen
from vistok.interop.taming import import_taming
from vistok.runs.load import load_generator, load_tokenizer
from vistok.space import grid as grid_of

# Of a latent's squared length: what rounding in float32 leaves undecided.
NEAR = 1e-5
TITLE = "Imported checkpoints against the original code: largest difference, share of equal tokens"


def main() -> None:
    options = arguments(
        __doc__,
        taming_path=dict(type=Path, default=None, help="checkout of CompVis/taming-transformers"),
        ldm_path=dict(type=Path, default=None, help="checkout of CompVis/latent-diffusion"),
    )
    parts: dict[str, Callable[[Path], list[dict[str, Any]]]] = {}
    if options.peer_path:
        llamagen(options.peer_path)
        parts |= {"LlamaGen's tokenizers": llamagen_tokenizers, "LlamaGen's generators": llamagen_generators}
    if options.taming_path:
        parts["taming-transformers"] = partial(taming, path=options.taming_path)
    if options.ldm_path:
        parts["latent-diffusion"] = partial(latent_diffusion, path=options.ldm_path)
    if find_spec("diffusers"):
        parts["diffusers"] = diffusers
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        failed = [name for name, part in parts.items() if not measured(name, partial(part, Path(scratch)))]
    if failed or not parts:
        sys.exit(f"failed: {', '.join(failed)}" if parts else "nothing to compare with; see --help for the paths")


def measured(name: str, part: Callable[[], list[dict[str, Any]]]) -> bool:
    """Compare with one project and save the rows beside those of the others; return whether it came to an end."""
    torch.manual_seed(0)
    try:
        results = part()
    except Exception:  # the rows of the other projects are wanted all the same
        print(f"{name}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return False
    save("parity", [*earlier("parity", results), *results], TITLE)
    return True


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Give every weight a value of its own: fresh norms and biases would hide that two were exchanged."""
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def equal(a: Tensor, b: Tensor) -> float:
    return float((a == b).float().mean())


def compared(name: str, ours: Any, images: Tensor, theirs: Tensor) -> list[dict[str, Any]]:
    """Return the share of equal tokens, near ties among them, and the number of near ties."""
    latents = ours.quantizer(ours.to_latents(images)[0]).latents.flatten(0, 1).double()
    tokens, theirs = ours.encode(images).flatten(), theirs.flatten()
    # A cosine look-up compares on the unit sphere, and so do its codes here.
    distances = [
        (latents - ours.quantizer.indices_to_codes(chosen).double()).square().sum(-1) for chosen in (tokens, theirs)
    ]
    near = (tokens != theirs) & ((distances[0] - distances[1]).abs() <= NEAR * latents.square().sum(-1))
    return [
        entry(
            f"{name}, encode: equal tokens, but for near ties",
            equal(tokens.where(~near, theirs), theirs),
            None,
            "share",
        ),
        entry(f"{name}, encode: near ties among {len(tokens)} tokens", int(near.sum()), None, "tokens"),
    ]


def llamagen_tokenizers(folder: Path) -> list[dict[str, Any]]:
    from tokenizer.tokenizer_image.vq_model import VQ_models

    results = []
    for name, size in (("VQ-16", 256), ("VQ-8", 128)):
        peer = spread(VQ_models[name](codebook_size=16_384, codebook_embed_dim=8))
        arguments = argparse.Namespace(image_size=size, vq_model=name)
        torch.save({"model": peer.state_dict(), "args": arguments}, folder / f"{name}.pt")
        import_llamagen(folder / f"{name}.pt", folder / name)
        ours = load_tokenizer(folder / name)
        images = torch.rand(2, 3, size, size) * 2 - 1
        _, _, (_, _, theirs) = peer.encode(images)
        tokens = ours.encode(images)
        side = size // ours.config.encoder.downsample
        decoded = peer.decode_code(tokens.flatten(), (2, 8, side, side))
        results += [
            *compared(name, ours, images, theirs),
            entry(f"{name}, decode: difference", float((ours.decode(tokens) - decoded).abs().max()), None, "", 1e-4),
        ]
        export_llamagen(folder / name, folder / f"{name}-back.pt")
        back = torch.load(folder / f"{name}-back.pt", weights_only=True)["model"]
        # As LlamaGen's own code loads it: strictly.
        VQ_models[name](codebook_size=16_384, codebook_embed_dim=8).load_state_dict(back)
        assert all(torch.equal(value, peer.state_dict()[key]) for key, value in back.items())
    return results


def llamagen_generators(folder: Path) -> list[dict[str, Any]]:
    from autoregressive.models.generate import generate
    from autoregressive.models.gpt import GPT_models

    results = []
    for name in ("GPT-B", "GPT-L", "GPT-XL"):
        peer = GPT_models[name](vocab_size=16_384, block_size=256, num_classes=1000, cls_token_num=1)
        torch.nn.init.normal_(peer.output.weight, std=0.02)
        spread(peer)
        torch.save(
            {"model": peer.state_dict(), "steps": 1, "args": argparse.Namespace(gpt_model=name)}, folder / f"{name}.pt"
        )
        import_llamagen(folder / f"{name}.pt", folder / name, tokenizer=folder / "VQ-16")
        ours = load_generator(folder / name)
        tokens, labels = torch.randint(16_384, (2, 256)), torch.tensor([3, 977])
        peer.train()  # its way to full logits; without dropout
        for module in peer.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        peer.cls_embedding.dropout_prob = 0.0
        logits, _ = peer(cond_idx=labels, idx=tokens[:, :-1], targets=tokens)
        results.append(
            entry(f"{name}, logits: difference", float((ours(tokens, labels) - logits).abs().max()), None, "", 1e-4)
        )
        peer.eval()
        if name != "GPT-XL":
            theirs = generate(
                peer, labels, 256, cfg_scale=2.0, temperature=1.0, top_k=1, top_p=1.0, sample_logits=False
            )
            greedy = ours.sampler(AutoregressiveSampling(guidance_scale=2.0, temperature=0.0))(labels, torch.arange(2))
            results.append(entry(f"{name}, greedy tokens with guidance 2: equal", equal(greedy, theirs), None, "share"))
        (folder / f"{name}.pt").unlink()
    return results


def taming(folder: Path, path: Path) -> list[dict[str, Any]]:
    sys.path.insert(0, str(path))
    lightning: Any = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = torch.nn.Module
    sys.modules.setdefault("pytorch_lightning", lightning)
    from taming.modules.diffusionmodules.model import Decoder, Encoder
    from taming.modules.vqvae.quantize import VectorQuantizer2

    file = path / "configs" / "imagenet_vqgan.yaml"
    return vqgan("VQGAN f16", folder, file, Encoder, Decoder, VectorQuantizer2)


def latent_diffusion(folder: Path, path: Path) -> list[dict[str, Any]]:
    """Compare vq-f4-noattn; its quantizer is taming's, here by torch's own distances."""
    sys.path.insert(0, str(path))
    from ldm.modules.diffusionmodules.model import Decoder, Encoder

    class Quantizer(torch.nn.Module):
        def __init__(self, codes: int, dim: int, beta: float) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(codes, dim)

        def forward(self, z: Tensor) -> Any:
            found = torch.cdist(z.permute(0, 2, 3, 1).flatten(0, 2), self.embedding.weight).argmin(1)
            return self.embedding(found).view(z.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2), None, (0, 0, found)

    file = path / "models" / "first_stage_models" / "vq-f4-noattn" / "config.yaml"
    return vqgan("latent-diffusion vq-f4-noattn", folder, file, Encoder, Decoder, Quantizer)


def vqgan(name: str, folder: Path, file: Path, encoder: Any, decoder: Any, quantizer: Any) -> list[dict[str, Any]]:
    import yaml

    params = yaml.safe_load(file.read_text())["model"]["params"]
    network = params["ddconfig"]
    peer: Any = torch.nn.Module()
    peer.encoder, peer.decoder = encoder(**network), decoder(**network)
    peer.quantize = quantizer(params["n_embed"], params["embed_dim"], beta=0.25)
    peer.quant_conv = torch.nn.Conv2d(network["z_channels"], params["embed_dim"], 1)
    peer.post_quant_conv = torch.nn.Conv2d(params["embed_dim"], network["z_channels"], 1)
    spread(peer)
    callbacks = {argparse.ArgumentParser: {"monitor": "val/rec_loss"}}
    torch.save({"state_dict": peer.state_dict(), "epoch": 1, "callbacks": callbacks}, folder / "vqgan.ckpt")
    import_taming(folder / "vqgan.ckpt", file, folder / file.stem)
    ours = load_tokenizer(folder / file.stem)
    size = min(network["resolution"], 64 * ours.config.encoder.downsample)
    images = torch.rand(2, 3, size, size) * 2 - 1
    latents = peer.quant_conv(peer.encoder(images))
    _, _, (_, _, theirs) = peer.quantize(latents)
    return [*compared(name, ours, images, theirs), decoded(name, ours, theirs, peer, latents.shape)]


def decoded(name: str, ours: Any, tokens: Tensor, peer: Any, shape: torch.Size) -> dict[str, Any]:
    """Return the difference of the pictures of equal tokens; `shape` is the latents'."""
    codes = peer.quantize.embedding(tokens.flatten()).view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)
    theirs = peer.decoder(peer.post_quant_conv(codes))
    grid = grid_of(shape[2], shape[3])
    difference = float((ours.decode(tokens.view(shape[0], -1), grid) - theirs).abs().max())
    return entry(f"{name}, decode: difference", difference, None, "", 1e-4)


def diffusers(folder: Path) -> list[dict[str, Any]]:
    from diffusers.models.autoencoders.vq_model import VQModel

    peer = spread(
        VQModel(
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
            block_out_channels=(128, 256, 512), layers_per_block=2, sample_size=128, num_vq_embeddings=8192,
        )
    )  # fmt: skip
    peer.save_pretrained(folder / "vqmodel")
    import_diffusers(folder / "vqmodel", folder / "diffusers")
    ours = load_tokenizer(folder / "diffusers")
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    latents = peer.encode(images).latents
    _, _, (_, _, theirs) = peer.quantize(latents)
    name = "diffusers VQModel f4"
    return [*compared(name, ours, images, theirs), decoded(name, ours, theirs, peer, latents.shape)]


if __name__ == "__main__":
    main()
