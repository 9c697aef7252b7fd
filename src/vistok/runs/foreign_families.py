"""Recognise a checkpoint's project by the names of its weights, so that a wrong verb can name the right one."""

import re
from collections.abc import Iterable
from pathlib import Path

from vistok.errors import UserError

COMMANDS = {
    "llamagen": "vistok import llamagen FILE --out RUN",
    "llamagen generator": "vistok import llamagen FILE --tokenizer RUN --out RUN",
    "taming": "vistok import taming FILE --config FILE.yaml --out RUN",
    "diffusers": "vistok import diffusers FOLDER --out RUN",
    "lightningdit": "vistok import lightningdit FILE --tokenizer RUN --statistics latents_stats.pt --out RUN",
    "dit": "vistok import dit FILE --tokenizer RUN --out RUN",
    "maskgit": "vistok import maskgit FILE --out RUN",
    "titok": "vistok import titok FILE --out RUN",
    "titok generator": "vistok import titok FILE --tokenizer RUN --out RUN",
}
_VQGAN = r"quantize\.embedding\.weight"
# Patterns that must all match the names, what they identify, and its verb or why it has none; the first match wins.
_MARKS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((r"cls_embedding\.cap_proj\.",), "a text-to-image generator of LlamaGen", "class-conditional ones (c2i) can be imported"),
    ((r"encoder\.conv_blocks\.\d",), "a tokenizer of LlamaGen", "llamagen"),
    ((r"tok_embeddings\.weight",), "a generator of LlamaGen", "llamagen generator"),
    ((r"(first_stage_model\.)?quantize\.(embed|proj)\.weight",), "a VQGAN with a Gumbel quantizer", "those with a codebook (VQModel) can be imported"),
    ((r"first_stage_model\." + _VQGAN,), "a transformer or diffusion model with its VQGAN inside", "taming"),
    ((r"first_stage_model\.encoder\.",), "a diffusion model with a KL autoencoder inside", "taming"),
    ((r"encoder\.text_guidance_proj\.|decoder\.text_guidance_proj\.",), "a tokenizer of TA-TiTok, which reads text", "those without text (TiTok) can be imported"),
    ((r"latent_tokens$", r"encoder\.latent_token_positional_embedding"), "a tokenizer of TiTok", "titok"),
    ((r"model\.lm_head\.weight", r"model\.embeddings\.word_embeddings\.weight"), "a generator of TiTok", "titok generator"),
    ((r"lm_head\.weight", r"mid_block\.attn\.qkv\.weight"), "a generator of TiTok", "titok generator"),
    ((r"encoder\.mid\.\d+\.norm1\.", _VQGAN), "a VQGAN of MaskGIT", "maskgit"),
    ((r"encoder\.down\.\d+\.block\.", _VQGAN), "a VQGAN of taming-transformers or latent-diffusion", "taming"),
    ((r"encoder\.down\.\d+\.block\.",), "a KL autoencoder of latent-diffusion or VA-VAE", "taming"),
    ((r"encoder\.down_blocks\.\d", _VQGAN), "a VQModel of diffusers", "diffusers"),
    ((r"blocks\.\d+\.adaLN_modulation\.", r"blocks\.\d+\.norm1\.weight"), "a diffusion transformer of LightningDiT", "lightningdit"),
    ((r"blocks\.\d+\.adaLN_modulation\.", r"feat_rope\."), "a diffusion transformer of LightningDiT", "lightningdit"),
    ((r"blocks\.\d+\.adaLN_modulation\.", r"blocks\.\d+\.mlp\.w12\."), "a diffusion transformer of LightningDiT", "lightningdit"),
    ((r"blocks\.\d+\.adaLN_modulation\.",), "a diffusion transformer of DiT", "dit"),
    ((r"encoder\.down_blocks\.\d",), "an AutoencoderKL of diffusers", "diffusers"),
)  # fmt: skip


def family_of(names: Iterable[str]) -> tuple[str, str] | None:
    """Return what weights with these names are, and the key of the command that imports them, or why there is none."""
    text = "\n".join(sorted(names)) + "\n"
    for patterns, family, verb in _MARKS:
        if all(re.search(f"^{pattern}", text, re.MULTILINE) for pattern in patterns):
            return family, verb
    return None


def require_family(path: Path, names: Iterable[str], *verbs: str) -> None:
    """Raise UserError for weights of other families than those of `verbs`, saying what they are and what imports them."""
    names = sorted(names)
    match = family_of(names)
    if match is None:
        raise UserError(
            f"{path}: neither a tokenizer nor a generator of a family that vistok knows (LlamaGen, taming and "
            f"latent-diffusion VQGANs, diffusers' VQModel and AutoencoderKL, DiT, LightningDiT, TiTok, MaskGIT's VQGAN); its weights are {', '.join(names[:4])}..."
        )
    family, right = match
    if right.split()[0] not in verbs or right not in COMMANDS:
        raise UserError(f"{path}: {family}; " + (f"import it with {COMMANDS[right]}" if right in COMMANDS else right))
