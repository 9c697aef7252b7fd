"""Imported tokenizers and masked generators against the code that made them: tokens, logits, images, samples.

    python benchmarks/parity_tokens.py --titok-path 1d-tokenizer

The checkout of bytedance/1d-tokenizer needs the packages einops, omegaconf and transformers; diffusers' VQModel is compared
where that package is installed. Weights are random ones, saved as the projects save theirs. Samples are drawn by the original's
loop with our noise. Of tokens, the share that differs is counted; other differences are largest ones, in float32, divided by the
largest value where that is above one. Images are compared with the original's in double precision, and beside ours stands how far its
own ones in single precision are from those: dozens of convolutions of random weights round by more than 1e-5.
"""

import copy
import json
import sys
import tempfile
import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import arguments, earlier, entry, save
from torch import Tensor, nn

from vistok.generator.masked.config import MaskedSampling
from vistok.interop.diffusers import import_diffusers
from vistok.interop.maskgit import import_maskgit
from vistok.interop.titok import import_titok
from vistok.interop.titok_generator import import_titok_generator
from vistok.nn.keyed_noise import gumbel_noise
from vistok.rng import to_gumbel, uniform_grid
from vistok.runs.load import load_generator, load_tokenizer

TITLE = "Imported tokenizers and masked generators against the original code: largest difference"
LIMIT = 1e-5
SIDE, LATENTS, CODES, CLASSES = 64, 6, 128, 7
# Settings of the original's tokenizers, by what they try.
TOKENIZERS: dict[str, dict[str, Any]] = {
    "TiTok, two stages": {"use_l2_norm": True, "finetune_decoder": True},
    "TiTok, single stage": {"use_l2_norm": False, "finetune_decoder": False, "is_legacy": False, "token_size": 64},
    "TiTok, single stage, vectors": {"quantize_mode": "vae", "finetune_decoder": False, "is_legacy": False, "token_size": 16},
}  # fmt: skip
GENERATORS = {"TiTok's ViT": ("ImageBert", 4), "TiTok's U-ViT": ("UViTBert", 4)}
# Sampling, in the original's words and in ours. Its constant and linear scales are cond + s (cond - uncond).
SAMPLINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "constant": ({"guidance_scale": 2.0, "guidance_decay": "constant"}, {"guidance_scale": 3.0}),
    "linear": (
        {"guidance_scale": 4.5, "guidance_decay": "linear"},
        {"guidance_scale": 5.5, "guidance_schedule": "linear"},
    ),
    "power-cosine": (
        {"guidance_scale": 6.9, "guidance_decay": "power-cosine"},
        {"guidance_scale": 6.9, "guidance_schedule": "power_cosine"},
    ),
}
VQ_MODEL = {
    "_class_name": "VQModel", "act_fn": "silu", "block_out_channels": [32, 64], "in_channels": 3, "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "layers_per_block": 2,
    "latent_channels": 4, "norm_num_groups": 32, "sample_size": 32, "num_vq_embeddings": 64,
}  # fmt: skip


def row(name: str, ours: Tensor, theirs: Tensor) -> dict[str, Any]:
    largest = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
    return entry(name, largest, None, "largest difference", LIMIT, passed=largest <= LIMIT)


def images_row(name: str, ours: Tensor, theirs: Tensor, exact: Tensor) -> dict[str, Any]:
    scale = exact.abs().max().clamp(min=1)
    mine, its = (float((found.double() - exact).abs().max() / scale) for found in (ours, theirs))
    return entry(name, mine, its, "largest difference", LIMIT, passed=mine <= max(LIMIT, 2 * its))


def same(name: str, ours: Tensor, theirs: Tensor) -> dict[str, Any]:
    share = float((ours.flatten() != theirs.flatten()).double().mean())
    return entry(name, share, None, f"share of {ours.numel()} tokens that differ", 0.0, passed=share == 0.0)


def stirred(network: nn.Module) -> nn.Module:
    """Return a network in evaluation mode whose biases, norms and tables say something, too."""
    for parameter in network.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    return network.eval()


def settings(**changes: Any) -> dict[str, Any]:
    network = {
        "codebook_size": CODES, "token_size": 12, "commitment_cost": 0.25, "vit_enc_model_size": "small",
        "vit_dec_model_size": "small", "vit_enc_patch_size": 16, "vit_dec_patch_size": 16, "num_latent_tokens": LATENTS,
        **changes,
    }  # fmt: skip
    generator = {
        "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256, "dropout": 0.1,
        "attn_drop": 0.1, "image_seq_len": LATENTS, "condition_num_classes": CLASSES,
    }  # fmt: skip
    return {
        "model": {"vq_model": network, "generator": generator}, "dataset": {"preprocessing": {"crop_size": SIDE}},
    }  # fmt: skip


def stored(network: nn.Module, folder: Path, config: dict[str, Any] | None) -> Path:
    """Save a network as the hub has it (safetensors and config.json), or without a config as a .bin."""
    from safetensors.torch import save_file

    folder.mkdir()
    if config is None:
        torch.save(network.state_dict(), folder / "weights.bin")
        return folder / "weights.bin"
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


def tokenizers(folder: Path) -> list[dict[str, Any]]:
    """Compare TiTok's tokenizers; leave the import of each at folder/NAME/run."""
    from modeling.titok import TiTok

    rows, images = [], torch.rand(8, 3, SIDE, SIDE)
    for name, changes in TOKENIZERS.items():
        config = settings(**changes)
        theirs = stirred(TiTok(config))
        # With published settings, no config is needed beside the weights.
        file = stored(theirs, folder / name, config if "single" in name else None)
        import_titok(file, folder / name / "run")
        ours = load_tokenizer(folder / name / "run", device="cpu")
        z, facts = theirs.encode(images)
        if isinstance(facts, dict):
            latents = facts["min_encoding_indices"]
            rows.append(same(f"{name}, tokens", ours.encode(images * 2 - 1), latents[:, 0]))
            mine = latents[:, 0]
        else:
            z = facts.mean
            mine, latents = z[:, :, 0].mT, z
            rows.append(row(f"{name}, means", ours.encode(images * 2 - 1), mine))
        if hasattr(ours.decoder, "logits"):
            logits = ours.decoder.logits(ours.quantizer.to_decoder(mine))
            rows.append(row(f"{name}, logits", logits, theirs.decoder(z).flatten(2).mT))
        wide = latents if latents.dtype == torch.int64 else latents.double()
        exact = copy.deepcopy(theirs).double().decode_tokens(wide)
        pictures = (ours.decode(mine) + 1) / 2
        rows.append(images_row(f"{name}, images", pictures, theirs.decode_tokens(latents), exact))
    return rows


def maskgit_vqgan(folder: Path) -> list[dict[str, Any]]:
    """Compare MaskGIT's VQGAN."""
    from modeling.titok import PretrainedTokenizer

    theirs = PretrainedTokenizer.__new__(PretrainedTokenizer)
    torch_load, torch.load = torch.load, lambda *_, **__: None
    loads, nn.Module.load_state_dict = nn.Module.load_state_dict, lambda *_, **__: None  # type: ignore[method-assign]
    PretrainedTokenizer.__init__(theirs, "")
    torch.load, nn.Module.load_state_dict = torch_load, loads  # type: ignore[method-assign]
    file = stored(stirred(theirs), folder / "maskgit", None)
    import_maskgit(file, folder / "maskgit" / "run", SIDE)
    ours, images = load_tokenizer(folder / "maskgit" / "run", device="cpu"), torch.rand(4, 3, SIDE, SIDE)
    tokens = theirs.encode(images)
    wide = copy.deepcopy(theirs).double()
    pictures, exact = (of.decoder(of.quantize.get_codebook_entry(tokens)) for of in (theirs, wide))  # not clipped
    return [
        same("MaskGIT's VQGAN, tokens", ours.encode(images * 2 - 1), tokens),
        images_row("MaskGIT's VQGAN, images", (ours.decode(tokens) + 1) / 2, pictures, exact),
    ]


def vq_model(folder: Path) -> list[dict[str, Any]]:
    """Compare diffusers' VQModel."""
    if find_spec("diffusers") is None:
        return []
    from diffusers import VQModel

    theirs = VQModel.from_config(VQ_MODEL).eval()
    theirs.save_pretrained(folder / "diffusers")
    import_diffusers(folder / "diffusers", folder / "diffusers" / "run")
    ours, images = load_tokenizer(folder / "diffusers" / "run", device="cpu"), torch.rand(4, 3, 32, 32) * 2 - 1
    hidden = theirs.encode(images).latents
    tokens = theirs.quantize(hidden)[2][2]
    return [
        same("diffusers' VQModel, tokens", ours.encode(images), tokens),
        row("diffusers' VQModel, images", ours.decode(tokens.view(4, -1)), theirs.decode(hidden).sample),
    ]


def generators(folder: Path) -> list[dict[str, Any]]:
    """Compare TiTok's generators: logits with a class and without, and samples under equal noise."""
    from modeling import maskgit

    rows = []
    for name, (kind, heads) in GENERATORS.items():
        theirs = stirred(getattr(maskgit, kind)(settings()))
        file = stored(theirs, folder / name, settings())
        import_titok_generator(file, folder / name / "run", folder / "TiTok, two stages" / "run", heads)
        ours = load_generator(folder / name / "run", device="cpu")
        tokens, labels = torch.randint(CODES + 1, (5, LATENTS)), torch.tensor([0, 3, 6, 2, 1])
        for words, dropped, mine in (("class", 0.0, labels), ("no class", 1.0, torch.full_like(labels, CLASSES))):
            logits = theirs(tokens, labels, cond_drop_prob=dropped)
            rows.append(row(f"{name}, logits, {words}", ours.network(tokens, mine), logits))
        rows += [samples(name, theirs, ours, maskgit, words) for words in SAMPLINGS]
    return rows


def samples(name: str, theirs: Any, ours: Any, module: Any, words: str) -> dict[str, Any]:
    """Compare samples of 4 steps; the original's Gumbel noise is ours."""
    their_words, our_words = SAMPLINGS[words]
    labels, ids = torch.arange(CLASSES).repeat(20), torch.arange(CLASSES * 20)
    module.torch = _OurNoise(ids)
    drawn = theirs.generate(labels, num_sample_steps=4, randomize_temperature=2.0, **their_words)
    module.torch = torch
    how = MaskedSampling(steps=4, choice_temperature=2.0, convention="titok", **our_words)
    return same(f"{name}, samples, {words} guidance", ours.sampler(how)(labels, ids), drawn)


class _OurNoise:
    """Torch whose logarithms of logarithms, of which the original makes Gumbel noise, are our noise: codes, then confidence."""

    def __init__(self, ids: Tensor) -> None:
        self.ids, self.calls = ids, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def log(self, values: Tensor) -> Tensor:
        step, call = divmod(self.calls, 4)
        self.calls += 1
        if call in (0, 2):
            return torch.log(values)
        if call == 3:
            return -to_gumbel(uniform_grid(0, self.ids, step, LATENTS, "confidence"))
        places = torch.arange(LATENTS)
        noise = [gumbel_noise(0, self.ids, step * LATENTS + int(place), CODES) for place in places]
        return -torch.stack(noise, dim=1)


def without_accelerate() -> None:
    """Stand in for accelerate, of which the tokenizers' code imports a function for several processes."""
    if find_spec("accelerate"):
        return
    for package in ("transformers", "diffusers"):  # which look for it, too, and must not find this
        if find_spec(package):
            import_module(package)
    for name in ("accelerate", "accelerate.utils", "accelerate.utils.operations"):
        module: Any = types.ModuleType(name)
        module.gather = lambda value: value
        sys.modules[name] = module


def main() -> None:
    options = arguments(
        __doc__, titok_path={"type": Path, "required": True, "help": "checkout of bytedance/1d-tokenizer"}
    )
    sys.path.insert(0, str(options.titok_path))
    without_accelerate()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        place = Path(scratch)
        results = [*vq_model(place), *maskgit_vqgan(place), *tokenizers(place), *generators(place)]
    save("parity_tokens", [*earlier("parity_tokens", results), *results], TITLE)
    if failed := [result["name"] for result in results if not result["passed"]]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
