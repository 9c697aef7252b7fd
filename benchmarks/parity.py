"""Imported checkpoints against the code that made them: tokens, reconstructions, logits and greedy tokens.

    python benchmarks/parity.py --peer-path LlamaGen --taming-path taming-transformers

Weights are random ones, saved as the projects save theirs; --taming-path needs the package einops.
"""

import argparse
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
from common import arguments, entry, llamagen, save
from torch import Tensor

from vistok.generator.config import SamplingConfig
from vistok.interop.llamagen import export_llamagen, import_llamagen
from vistok.interop.taming import import_taming
from vistok.tasks.load import load_generator, load_tokenizer


def main() -> None:
    options = arguments(
        __doc__, taming_path=dict(type=Path, default=None, help="checkout of CompVis/taming-transformers")
    )
    llamagen(options.peer_path)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        folder = Path(scratch)
        results = [*llamagen_tokenizers(folder), *llamagen_generators(folder)]
        if options.taming_path:
            results += taming(folder, options.taming_path)
    save("parity", results, "Imported checkpoints against the original code: largest difference, share of equal tokens")


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Give every weight a value of its own: fresh norms and biases would hide that two were exchanged."""
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def equal(a: Tensor, b: Tensor) -> float:
    return float((a == b).float().mean())


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
            entry(f"{name}, encode: equal tokens", equal(tokens.flatten(), theirs), None, "share"),
            entry(f"{name}, decode: difference", float((ours.decode(tokens) - decoded).abs().max()), None, "", 1e-4),
        ]
        export_llamagen(folder / name, folder / f"{name}-back.pt")
        back = torch.load(folder / f"{name}-back.pt", weights_only=True)["model"]
        missing, unexpected = VQ_models[name](codebook_size=16_384, codebook_embed_dim=8).load_state_dict(
            back, strict=False
        )
        assert not unexpected and missing in ([], ["quantize.codebook_used"]), (missing, unexpected)
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
            greedy = ours.sampler(SamplingConfig(guidance_scale=2.0, temperature=0.0))(labels, torch.arange(2))
            results.append(entry(f"{name}, greedy tokens with guidance 2: equal", equal(greedy, theirs), None, "share"))
        (folder / f"{name}.pt").unlink()
    return results


def taming(folder: Path, path: Path) -> list[dict[str, Any]]:
    sys.path.insert(0, str(path))
    lightning: Any = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = torch.nn.Module
    sys.modules.setdefault("pytorch_lightning", lightning)
    import yaml
    from taming.modules.diffusionmodules.model import Decoder, Encoder
    from taming.modules.vqvae.quantize import VectorQuantizer2

    file = path / "configs" / "imagenet_vqgan.yaml"
    params = yaml.safe_load(file.read_text())["model"]["params"]
    peer: Any = torch.nn.Module()
    peer.encoder, peer.decoder = Encoder(**params["ddconfig"]), Decoder(**params["ddconfig"])
    peer.quantize = VectorQuantizer2(params["n_embed"], params["embed_dim"], beta=0.25)
    peer.quant_conv, peer.post_quant_conv = (torch.nn.Conv2d(256, 256, 1) for _ in range(2))
    spread(peer)
    callbacks = {argparse.ArgumentParser: {"monitor": "val/rec_loss"}}
    torch.save({"state_dict": peer.state_dict(), "epoch": 1, "callbacks": callbacks}, folder / "vqgan.ckpt")
    import_taming(folder / "vqgan.ckpt", file, folder / "vqgan")
    ours = load_tokenizer(folder / "vqgan")
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    quantized, _, (_, _, theirs) = peer.quantize(peer.quant_conv(peer.encoder(images)))
    tokens = ours.encode(images)
    decoded = peer.decoder(peer.post_quant_conv(quantized))
    # Where all tokens agree the pictures must.
    difference = float((ours.decode(theirs.view(2, -1)) - decoded).abs().max())
    return [
        entry("VQGAN f16, encode: equal tokens", equal(tokens.flatten(), theirs.flatten()), None, "share"),
        entry("VQGAN f16, decode: difference", difference, None, "", 1e-4),
    ]


if __name__ == "__main__":
    main()
