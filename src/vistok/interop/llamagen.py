"""LlamaGen checkpoints (FoundationVision/LlamaGen, MIT): VQ-16, VQ-8, and the class-conditional GPT-B ... GPT-3B."""

import argparse
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import sweep, write_atomic
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.interop.autoencoder_names import exported_config, multipliers_of, network_of, shapes_of, to_ours, to_theirs
from vistok.interop.foreign_file import as_float, read_foreign, weights_of
from vistok.interop.imported import check_fits, imagenet_facts, tokenizer_run, with_row_for_none, write_run
from vistok.nn.transformer import feed_forward_width
from vistok.runs.config import GeneratorRun
from vistok.runs.foreign_families import require_family
from vistok.runs.load import check_network, load_tokenizer, read_model
from vistok.space import Tokens, token_grid
from vistok.tokenizer.bottlenecks.vq import OF_TRAINING
from vistok.tokenizer.config import ConvTokenizerConfig, VQConfig
from vistok.tokenizer.interface import Tokenizer

# Name and number of heads by (layers, width): no tensor's shape reveals the heads.
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

# Buffers that exist only in ours, for restarting dead codes.
_OF_TRAINING = {f"quantizer.{name}" for name in OF_TRAINING}
# Counts for a log, which every LlamaGen tokenizer file holds, and the size that LlamaGen's code expects.
_COUNTS, _NUM_COUNTS = "quantize.codebook_used", 65_536
# Image sizes of the files that LlamaGen published; only the file names state them.
_PUBLISHED_SIZES = re.compile(r"(?<!\d)(256|384|448|512)(?!\d)")


def import_llamagen(file: Path, out: Path, tokenizer: Path | None = None, image_size: int | None = None) -> str:
    """Write a run directory from a tokenizer or generator checkpoint; return a line that describes the network.

    A generator needs the `tokenizer` whose tokens it generates, which must have been imported before. If `image_size` is
    None, it is taken from the file, else from a number in its name, else it is 256; the weights do not reveal it. Raises
    UserError for a checkpoint of another architecture.
    """
    contents = read_foreign(file)
    size, note = _image_size(file, contents, image_size)
    state = weights_of(file, contents, ("ema", "model", "state_dict"))
    require_family(file, state, "llamagen")
    with damage_is_a_mistake(f"checkpoint {file}", "this checkpoint has a different architecture"):
        if "encoder.conv_in.weight" in state:
            return _import_tokenizer(file, out, state, contents, size) + note
        # LlamaGen samples with a generator's raw weights, not with their EMA.
        state = weights_of(file, contents, ("model", "module", "state_dict"))
        return _import_generator(file, out, state, contents, tokenizer, size) + note


def _argument(contents: dict[str, Any], name: str) -> Any:
    """Return an argument of the training command stored in the file, or None."""
    arguments = contents.get("args")
    if isinstance(arguments, argparse.Namespace):
        return vars(arguments).get(name)
    return arguments.get(name) if isinstance(arguments, dict) else None


def _image_size(file: Path, contents: dict[str, Any], given: int | None) -> tuple[int, str]:
    """Return pixels per side, and a remark for the user where they are not certain."""
    stored = _argument(contents, "image_size")
    size = stored if given is None else given
    if size is not None:
        if type(size) is not int or not 16 <= size <= 2**14:
            raise UserError(f"{file}: image size {size!r}; give 16 to {2**14} pixels with --image-size")
        return size, ""
    named = _PUBLISHED_SIZES.search(file.stem)
    if named:
        return int(named[1]), f"; {named[1]} pixels, going by the file's name alone (--image-size changes it)"
    return 256, "; 256 pixels assumed, since nothing in the file states it (--image-size changes it)"


def _import_tokenizer(
    file: Path, out: Path, state: dict[str, Tensor], contents: dict[str, Any], image_size: int
) -> str:
    state.pop(_COUNTS, None)
    config = tokenizer_config(state, image_size, cosine=_argument(contents, "codebook_l2_norm") in (None, True))
    ours = to_ours(state, config, "llamagen")
    name = f"llamagen-vq{config.encoder.downsample}"
    check_fits(ours, shapes_of(f"checkpoint {file}", config), name)
    write_run(out, "tokenizer", tokenizer_run(name, config), ours, file, data_digest="", **imagenet_facts())
    return f"{name}: tokenizer, {config.space} at {image_size} pixels"


def tokenizer_config(state: dict[str, Tensor], image_size: int, cosine: bool = True) -> ConvTokenizerConfig:
    """Return the config that the weight shapes of a LlamaGen tokenizer imply; `cosine` is its look-up, which they do not."""
    channels, multipliers = multipliers_of(state, r"encoder\.conv_blocks\.(\d+)\.", "conv_blocks.{}.res.0")
    codes = state.get("quantize.embedding.weight")
    if codes is None:
        raise UserError("the checkpoint has an encoder but no codebook (quantize.embedding.weight)")
    side = {
        "channels": channels,
        "multipliers": multipliers,
        # Attention is at the lowest resolution, whatever the image size.
        "attention_resolutions": [math.ceil(image_size / 2 ** (len(multipliers) - 1))],
        "norm_groups": math.gcd(32, channels),
    }
    return network_of(
        "the checkpoint", image_size=image_size, in_channels=state["encoder.conv_in.weight"].shape[1],
        latent_channels=state["quant_conv.weight"].shape[1], encoder=side, decoder=side,
        quantizer={
            "codebook_size": codes.shape[0], "code_dim": codes.shape[1], "lookup": "cosine" if cosine else "euclidean",
        },
    )  # fmt: skip


def _import_generator(
    file: Path, out: Path, state: dict[str, Tensor], contents: dict[str, Any], tokenizer: Path | None, image_size: int
) -> str:
    name, config = generator_config(state)
    ours = generator_to_ours(state)
    codes = len(ours["token_embedding.weight"])
    classes, has_null = _classes(file, len(ours["classes.table.weight"]), contents)
    if tokenizer is None:
        raise UserError(
            f"{file} is a generator ({name}) and needs the tokenizer whose tokens it generates: import that first, then "
            "pass its run directory with --tokenizer"
        )
    of = load_tokenizer(tokenizer, device="cpu")
    _require_its_tokenizer(file, contents, codes, tokenizer, of)
    if not has_null:
        config = config.replace(label_dropout=0.0)
        ours["classes.table.weight"] = with_row_for_none(ours["classes.table.weight"])
    space = _space_of(of, image_size, codes)
    with torch.device("meta"):
        model = AutoregressiveGenerator(config, space, classes)
        expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    check_fits(ours, expected, f"LlamaGen's {name}")
    digest = of.info.digest
    write_run(
        out, "generator", GeneratorRun(name=f"llamagen-{name.lower()}", generator=config), ours, file,
        space=space.model_dump(mode="json"), num_classes=classes,
        tokenizer={"digest": digest, "path": str(tokenizer.resolve())}, **imagenet_facts(classes),
    )  # fmt: skip
    params = sum(value.numel() for value in ours.values())
    return f"{name}: generator, {params / 1e6:.1f}M parameters, {space}, {classes} classes" + (
        "" if has_null else ", trained without label dropout, so guidance is not available"
    )


def _space_of(tokenizer: Tokenizer, image_size: int, codes: int) -> Tokens:
    side = math.ceil(image_size / tokenizer.config.encoder.downsample)  # type: ignore[attr-defined]
    return token_grid(side, side, codes)


def _classes(file: Path, rows: int, contents: dict[str, Any]) -> tuple[int, bool]:
    """Return the number of classes, and whether the class table of `rows` rows has an extra row for "no class".

    The file's arguments decide; without them, 1,000 rows are taken to be ImageNet's classes and nothing else.
    """
    classes, dropout = _argument(contents, "num_classes"), _argument(contents, "class_dropout_prob")
    if dropout is not None:
        has_null = dropout != 0
    else:
        has_null = rows != (1000 if classes is None else classes)
    if classes not in (None, rows - has_null):
        raise UserError(
            f"{file}: its class table has {rows} rows, but its arguments say num_classes {classes} and class_dropout_prob "
            f"{dropout}: arguments and weights do not belong together"
        )
    return rows - has_null, has_null


def _require_its_tokenizer(file: Path, contents: dict[str, Any], codes: int, path: Path, tokenizer: Tokenizer) -> None:
    """Raise UserError where the file's arguments or codes call for another tokenizer, or for a generator we cannot build."""
    for name, only in (("gpt_type", "c2i"), ("cls_token_num", 1)):
        if _argument(contents, name) not in (None, only):
            raise UserError(f"{file}: {name} {_argument(contents, name)} is not supported; only {only} is")
    space, network = tokenizer.space, tokenizer.config
    if space.kind != "tokens" or space.codebook_size != codes:
        raise UserError(f"{file} generates tokens of {codes} codes, but tokenizer {path} produces {space}")
    wanted, has = _argument(contents, "downsample_size"), network.encoder.downsample  # type: ignore[attr-defined]
    if wanted not in (None, has):
        raise UserError(
            f"{file} generates tokens of {wanted}x{wanted} pixels, but those of tokenizer {path} cover {has}x{has}"
        )


def generator_config(state: dict[str, Tensor]) -> tuple[str, AutoregressiveConfig]:
    """Return LlamaGen's name for a generator's size, and our config; heads come from a table, since no tensor reveals them."""
    if "tok_embeddings.weight" not in state:
        raise UserError(
            "the checkpoint is neither a tokenizer (encoder.conv_in) nor a generator (tok_embeddings) of LlamaGen"
        )
    width = state["tok_embeddings.weight"].shape[1]
    depth = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("layers.")), default=-1)
    if (depth, width) not in SIZES:
        known = ", ".join(f"{name} {layers} x {size}" for (layers, size), (name, _) in SIZES.items())
        raise UserError(
            f"the checkpoint has {depth} layers of width {width}, which is no size of LlamaGen's generators; known sizes: {known}"
        )
    name, heads = SIZES[depth, width]
    config = AutoregressiveConfig(
        width=width, depth=depth, num_heads=heads, qk_norm=False, class_token_rotary="zero", ffn_multiple=256
    )
    if len(state["layers.0.feed_forward.w1.weight"]) != feed_forward_width(width, 256):
        raise UserError(
            f"the checkpoint has the layers and width of {name}, but not its feed-forward width: it is not LlamaGen's"
        )
    return name, config


def generator_to_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a generator's weights under our names; raises UserError for a weight that LlamaGen's generators do not have."""
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        layer = name.removesuffix(".weight")
        if layer == "freqs_cis" or "kv_cache" in layer or layer == "causal_mask":
            continue  # computed here, not loaded
        if layer in _OUTER:
            weights[f"{_OUTER[layer]}.weight"] = as_float(name, value)
            continue
        word, _, rest = layer.partition(".")
        number, _, inner = rest.partition(".")
        if word != "layers" or inner not in _INNER:
            raise UserError(
                f"weight {name!r} is not part of LlamaGen's generators: this checkpoint has a different architecture"
            )
        weights[f"blocks.{number}.{_INNER[inner]}.weight"] = as_float(name, value)
    return weights


def generator_to_theirs(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under LlamaGen's names."""
    outer, inner = ({ours: theirs for theirs, ours in table.items()} for table in (_OUTER, _INNER))
    weights = {}
    for name, value in state.items():
        layer = name.removesuffix(".weight")
        if layer in outer:
            weights[f"{outer[layer]}.weight"] = value
        else:
            _, number, rest = layer.split(".", 2)
            weights[f"layers.{number}.{inner[rest]}.weight"] = value
    return weights


def export_llamagen(source: Path, out: Path, weights: str = "ema") -> str:
    """Write a tokenizer or generator for LlamaGen's code, as .pt (under "model") or .safetensors; return its kind.

    Exporting the same network again is fine. Raises UserError for a network that LlamaGen cannot express, and where `out`
    exists with other contents.
    """
    if out.suffix not in (".pt", ".safetensors"):
        raise UserError(f"--out {out}: use .pt, which LlamaGen reads, or .safetensors, which is safer")
    state, header = read_model(source, weights=weights)
    check_network((state, header), source)
    kind = str(header["model"])
    note = ""
    if kind == "tokenizer":
        theirs = _tokenizer_to_theirs(state, exported_config(header, source, "LlamaGen's code"))
    elif kind == "generator":
        if header["config"].get("kind", "autoregressive") != "autoregressive":
            raise UserError(
                f"generator {source} is of the {header['config']['kind']} family; LlamaGen's code has autoregressive ones only"
            )
        generator = AutoregressiveConfig.from_json(json.dumps(header["config"]))
        if generator.qk_norm or generator.class_token_rotary != "zero":
            raise UserError(
                f"generator {source} has QK-norm or a rotated class token, which LlamaGen lacks; export a generator "
                "trained with --set generator.qk_norm=false --set generator.class_token_rotary=zero"
            )
        theirs = generator_to_theirs(state)
        if generator.label_dropout == 0:
            theirs["cls_embedding.embedding_table.weight"] = theirs["cls_embedding.embedding_table.weight"][:-1]
            note = " (trained without label dropout: build LlamaGen's with class_dropout_prob=0)"
    else:
        raise UserError(f"{source} holds a {kind}; only tokenizers and generators can be exported to LlamaGen")
    theirs = {name: value.contiguous() for name, value in theirs.items()}
    _write_once(out, save(theirs) if out.suffix == ".safetensors" else _pickled({"model": theirs}))
    return kind + note


def _write_once(out: Path, data: bytes) -> None:
    """Write a file unless it exists with the same contents, and remove what a killed export left beside it."""
    sweep(out.parent, of=out.name)
    if out.exists():
        if out.is_file() and out.stat().st_size == len(data) and out.read_bytes() == data:
            return
        raise UserError(f"{out} already exists with other contents; choose another file with --out, or delete it first")
    write_atomic(out, data)


def _tokenizer_to_theirs(state: dict[str, Tensor], config: ConvTokenizerConfig) -> dict[str, Tensor]:
    _require_llamagen_tokenizer(config)
    kept = {name: value for name, value in state.items() if name not in _OF_TRAINING}
    # LlamaGen loads strictly and expects its counts for the log, too.
    return to_theirs(kept, config, "llamagen") | {_COUNTS: torch.zeros(_NUM_COUNTS)}


def _require_llamagen_tokenizer(config: ConvTokenizerConfig) -> None:
    expected = (config.padded_sides[0] // config.encoder.downsample,)
    quantizer = config.quantizer
    if (
        not isinstance(quantizer, VQConfig)
        or quantizer.lookup != "cosine"
        or any(side.attention_resolutions != expected for side in (config.encoder, config.decoder))
        or any(side.num_res_blocks != 2 or side.norm_groups != 32 for side in (config.encoder, config.decoder))
        or not (config.encoder.middle_attention and config.decoder.middle_attention)
        or config.encoder.patch * config.decoder.patch > 1
        or config.shortcut
        or config.decoder_channels is not None
    ):
        raise UserError(
            "LlamaGen's tokenizer has a cosine look-up, no patches or shortcut, as wide a decoder as its encoder, two residual blocks per level, 32 norm groups "
            f"and attention only at the lowest resolution ({expected[0]}); this tokenizer differs and cannot be exported"
        )


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
