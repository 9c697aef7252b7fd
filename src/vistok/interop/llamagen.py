"""LlamaGen's checkpoints (FoundationVision/LlamaGen, MIT): VQ-16, VQ-8, and the class-conditional GPT-B ... GPT-3B."""

import argparse
import io
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from vistok.errors import UserError
from vistok.files import write_atomic
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.generator.config import AutoregressiveConfig
from vistok.interop.autoencoder_names import multipliers_of, to_ours, to_theirs
from vistok.interop.foreign_file import read_foreign, weights_of
from vistok.interop.imported import IMAGENET_CLASSES, check_fits, tokenizer_run, write_run
from vistok.nn.transformer import feed_forward_width
from vistok.tasks.config import GeneratorRun
from vistok.tasks.load import check_network, load_tokenizer, read_model
from vistok.tokenizer.config import ConvNetConfig, TokenizerConfig, VQConfig
from vistok.tokenizer.model import ConvTokenizer

# Heads by (layers, width): no tensor tells them.
SIZES = {
    (12, 768): ("GPT-B", 12), (24, 1024): ("GPT-L", 16), (36, 1280): ("GPT-XL", 20), (48, 1536): ("GPT-XXL", 24),
    (48, 2560): ("GPT-XXXL", 40), (24, 3200): ("GPT-3B", 32),
}  # fmt: skip
_OUTER = {
    "tok_embeddings": "token_embedding",
    "cls_embedding.embedding_table": "classes.table",
    "norm": "norm",
    "output": "head",
}
_INNER = {
    "attention.wqkv": "attention.qkv",
    "attention.wo": "attention.out",
    "attention_norm": "attention_norm",
    "ffn_norm": "feed_forward_norm",
    "feed_forward.w1": "feed_forward.gate",
    "feed_forward.w3": "feed_forward.up",
    "feed_forward.w2": "feed_forward.down",
}


def import_llamagen(file: Path, out: Path, tokenizer: Path | None = None, image_size: int | None = None) -> str:
    """Write a run directory from a tokenizer's or a generator's file; return a line that says what it was.

    A generator needs the `tokenizer` (imported before) whose tokens it writes. `image_size` None: what the file
    says, else 256. Raises UserError for a checkpoint of another architecture.
    """
    found = read_foreign(file)
    size = image_size or int(_argument(found, "image_size") or 256)
    state = weights_of(file, found, ("ema", "model", "state_dict"))
    if "encoder.conv_in.weight" in state:
        return _import_tokenizer(file, out, state, size)
    return _import_generator(file, out, weights_of(file, found, ("model", "module", "state_dict")), tokenizer, size)


def _argument(found: dict[str, Any], name: str) -> Any:
    arguments = found.get("args")
    return getattr(arguments, name, None) if isinstance(arguments, argparse.Namespace) else None


def _import_tokenizer(file: Path, out: Path, state: dict[str, Tensor], image_size: int) -> str:
    state.pop("quantize.codebook_used", None)  # counts for a log
    config = tokenizer_config(state, image_size)
    ours = to_ours(state, config, "llamagen")
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in ConvTokenizer(config).state_dict().items()}
    name = f"llamagen-vq{config.encoder.downsample}"
    check_fits(ours, expected, name)
    write_run(out, "tokenizer", tokenizer_run(name, config), ours, file, **_imagenet())
    return f"{name}: tokenizer, {config.num_tokens} tokens of {config.quantizer.codebook_size} codes at {image_size} pixels"


def _imagenet() -> dict[str, Any]:
    return {"class_names": list(IMAGENET_CLASSES), "dataset": "imagenet", "data_digest": ""}


def tokenizer_config(state: dict[str, Tensor], image_size: int) -> TokenizerConfig:
    """Return the network that the shapes of LlamaGen's tokenizer describe."""
    channels, multipliers = multipliers_of(state, r"encoder\.conv_blocks\.(\d+)\.", "conv_blocks.{}.res.0")
    codes = state.get("quantize.embedding.weight")
    if codes is None:
        raise UserError("the checkpoint has an encoder and no codebook (quantize.embedding.weight)")
    side = ConvNetConfig(
        channels=channels,
        multipliers=multipliers,
        # Attention is at the lowest resolution, whatever the image.
        attention_resolutions=(math.ceil(image_size / 2 ** (len(multipliers) - 1)),),
        norm_groups=math.gcd(32, channels),
    )
    return TokenizerConfig(
        image_size=image_size,
        in_channels=state["encoder.conv_in.weight"].shape[1],  # type: ignore[arg-type]
        latent_channels=state["quant_conv.weight"].shape[1],
        encoder=side,
        decoder=side,
        quantizer=VQConfig(codebook_size=codes.shape[0], code_dim=codes.shape[1]),
    )


def _import_generator(file: Path, out: Path, state: dict[str, Tensor], tokenizer: Path | None, image_size: int) -> str:
    if any(name.startswith("cls_embedding.cap_proj") for name in state):
        raise UserError(f"{file}: a text-to-image generator; class-conditional ones (c2i) can be imported")
    name, config = generator_config(state)
    ours = generator_to_ours(state)
    codes, classes = len(ours["token_embedding.weight"]), len(ours["classes.table.weight"]) - 1
    if tokenizer is None:
        raise UserError(
            f"{file} is a generator ({name}); name the tokenizer whose tokens it writes: import that first, then give "
            "its folder with --tokenizer"
        )
    of = load_tokenizer(tokenizer)
    if of.codebook_size != codes:
        raise UserError(f"{file} writes tokens of {codes} codes, tokenizer {tokenizer} has {of.codebook_size}")
    side = math.ceil(image_size / of.config.encoder.downsample)
    with torch.device("meta"):
        model = AutoregressiveGenerator(config, (side, side), codes, classes)
        expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    check_fits(ours, expected, f"LlamaGen's {name}")
    names = list(IMAGENET_CLASSES) if classes == 1000 else [str(number) for number in range(classes)]
    digest = of.info["digest"]
    write_run(
        out, "generator", GeneratorRun(name=f"llamagen-{name.lower()}", generator=config), ours, file,
        grid=[side, side], codebook_size=codes, num_classes=classes, class_names=names, dataset="imagenet",
        tokenizer={"digest": digest, "path": str(tokenizer.resolve())},
    )  # fmt: skip
    params = sum(value.numel() for value in ours.values())
    return (
        f"{name}: generator, {params / 1e6:.1f}M parameters, {side}x{side} tokens of {codes} codes, {classes} classes"
    )


def generator_config(state: dict[str, Tensor]) -> tuple[str, AutoregressiveConfig]:
    """Return LlamaGen's name of a size and our config; heads come from a table, since no tensor tells them."""
    if "tok_embeddings.weight" not in state:
        raise UserError("neither a tokenizer (encoder.conv_in) nor a generator (tok_embeddings) of LlamaGen")
    width = state["tok_embeddings.weight"].shape[1]
    depth = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("layers.")), default=-1)
    if (depth, width) not in SIZES:
        known = ", ".join(f"{name} {layers} x {size}" for (layers, size), (name, _) in SIZES.items())
        raise UserError(f"a generator of {depth} layers of width {width}; known are: {known}")
    name, heads = SIZES[depth, width]
    config = AutoregressiveConfig(
        width=width, depth=depth, num_heads=heads, qk_norm=False, class_token_rotary="zero", ffn_multiple=256
    )
    if len(state["layers.0.feed_forward.w1.weight"]) != feed_forward_width(width, 256):
        raise UserError(f"{name} with a feed-forward width of its own: not LlamaGen's")
    return name, config


def generator_to_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a generator's weights under our names; raises UserError for one that LlamaGen's has not."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        layer = name.removesuffix(".weight")
        if layer == "freqs_cis" or "kv_cache" in layer or layer == "causal_mask":
            continue  # made anew
        if layer in _OUTER:
            found[f"{_OUTER[layer]}.weight"] = value.float()
            continue
        word, _, rest = layer.partition(".")
        number, _, inner = rest.partition(".")
        if word != "layers" or inner not in _INNER:
            raise UserError(
                f"weight {name!r} is not part of LlamaGen's generators: a checkpoint of another architecture"
            )
        found[f"blocks.{number}.{_INNER[inner]}.weight"] = value.float()
    return found


def generator_to_theirs(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under LlamaGen's names."""
    outer, inner = ({ours: theirs for theirs, ours in table.items()} for table in (_OUTER, _INNER))
    found = {}
    for name, value in state.items():
        layer = name.removesuffix(".weight")
        if layer in outer:
            found[f"{outer[layer]}.weight"] = value
        else:
            _, number, rest = layer.split(".", 2)
            found[f"layers.{number}.{inner[rest]}.weight"] = value
    return found


def export_llamagen(source: Path, out: Path, weights: str = "ema") -> str:
    """Write a tokenizer or a generator for LlamaGen's code: .pt (under "model") or .safetensors; return its kind.

    Raises UserError for a network that LlamaGen cannot express.
    """
    if out.suffix not in (".pt", ".safetensors"):
        raise UserError(f"--out {out}: LlamaGen reads .pt, and .safetensors is the safe way; give one of them")
    state, header = read_model(source, weights=weights)
    check_network((state, header), source)
    kind = str(header["model"])
    if kind == "tokenizer":
        config = TokenizerConfig.from_json(json.dumps(header["config"]))
        _require_llamagen_tokenizer(config)
        theirs = to_theirs(state, config, "llamagen")
    elif kind == "generator":
        generator = AutoregressiveConfig.from_json(json.dumps(header["config"]))
        if generator.qk_norm or generator.class_token_rotary != "zero":
            raise UserError(
                f"generator {source} has QK-norm or a turned class token, which LlamaGen has not; it can take generators "
                "trained with --set generator.qk_norm=false --set generator.class_token_rotary=zero"
            )
        theirs = generator_to_theirs(state)
    else:
        raise UserError(f"{source} holds a {kind}; LlamaGen has tokenizers and generators")
    theirs = {name: value.contiguous() for name, value in theirs.items()}
    if out.suffix == ".safetensors":
        write_atomic(out, save(theirs))
    else:
        write_atomic(out, _pickled({"model": theirs}))
    return kind


def _require_llamagen_tokenizer(config: TokenizerConfig) -> None:
    expected = (config.padded_size // config.encoder.downsample,)
    quantizer = config.quantizer
    if (
        not isinstance(quantizer, VQConfig)
        or quantizer.lookup != "cosine"
        or any(side.attention_resolutions != expected for side in (config.encoder, config.decoder))
        or any(side.num_res_blocks != 2 or side.norm_groups != 32 for side in (config.encoder, config.decoder))
    ):
        raise UserError(
            "LlamaGen's tokenizer has a cosine look-up, two residual blocks a level, 32 norm groups and attention at the "
            f"lowest resolution ({expected[0]}); this one differs and cannot be exported to it"
        )


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
