"""TiTok's generators (arXiv 2406.07550; bytedance/1d-tokenizer): BERT for L-32 and B-64, a U-ViT for S-128."""

from pathlib import Path

import torch
from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.generator.masked.config import MaskedConfig
from vistok.generator.masked.generator import MaskedGenerator
from vistok.interop.foreign_file import as_float, read_foreign, weights_of
from vistok.interop.imported import check_fits, imagenet_facts, write_run
from vistok.runs.config import GeneratorRun
from vistok.runs.foreign_families import require_family
from vistok.runs.load import load_tokenizer
from vistok.space import Tokens
from vistok.tokenizer.interface import Tokenizer

# Heads of the published widths, which the weights do not tell.
HEADS = {768: 16, 1024: 16}
# Their names -> ours, in a block and around the blocks; queries, keys and values of BERT are one weight here.
_BERT_BLOCK = {
    "attention.output.dense": "attention.out", "attention.output.LayerNorm": "attention_norm", "intermediate.dense": "up",
    "output.dense": "down", "output.LayerNorm": "feed_forward_norm",
}  # fmt: skip
_UVIT_BLOCK = {
    "norm1": "attention_norm", "norm2": "feed_forward_norm", "attn.qkv": "attention.qkv", "attn.proj": "attention.out",
    "mlp.fc1": "up", "mlp.fc2": "down", "skip_linear": "skip",
}  # fmt: skip
_ROWS = ("query", "key", "value")


def import_titok_generator(file: Path, out: Path, tokenizer: Path, num_heads: int | None = None) -> str:
    """Write a run directory from a generator; return a line that describes the network.

    `tokenizer`: the one whose tokens it writes, imported before. `num_heads`: for widths other than the published ones. Raises
    UserError for what does not fit.
    """
    state = weights_of(file, read_foreign(file), ("state_dict", "model"))
    require_family(file, state, "titok")
    of = load_tokenizer(tokenizer, device="cpu")
    bert = "model.lm_head.weight" in state
    inner = {
        name.removeprefix("model."): as_float(name, value) for name, value in state.items() if value.is_floating_point()
    }
    with damage_is_a_mistake(f"checkpoint {file}", "give a file with the whole generator"):
        codes, width = inner["lm_head.weight"].shape
        ours = _bert(file, inner, codes) if bert else _uvit(file, inner, codes)
        depth = len({name.split(".")[1] for name in ours if name.startswith("blocks.")})
        classes = len(ours["classes.table.weight"]) - 1
    space = _space_of(file, of, tokenizer, codes, len(ours["places.weight"]) - 1)
    config = MaskedConfig(
        width=width, depth=depth if bert else depth - 1, num_heads=_heads(file, width, num_heads), rotary=False, qk_norm=False,
        blocks="bert" if bert else "uvit", dropout=0.1 if bert else 0.0, unmasked_weight=0.1,
    )  # fmt: skip
    with torch.device("meta"):
        model = MaskedGenerator(config, space, classes)
    ours = {f"network.{name}": value.contiguous() for name, value in ours.items()}
    check_fits(ours, {name: tuple(value.shape) for name, value in model.state_dict().items()}, "a generator of TiTok")
    write_run(
        out, "generator", GeneratorRun(name=f"titok-{config.blocks}-{width}", generator=config), ours, file,
        space=space.model_dump(mode="json"), num_classes=classes,
        tokenizer={"digest": of.info.digest, "path": str(tokenizer.resolve())}, **imagenet_facts(classes),
    )  # fmt: skip
    params = sum(value.numel() for value in ours.values())
    return f"TiTok: generator, {params / 1e6:.1f}M parameters, {space}, {classes} classes"


def _space_of(file: Path, tokenizer: Tokenizer, place: Path, codes: int, positions: int) -> Tokens:
    """Return the tokenizer's space. Raises UserError where the network writes another one."""
    space = tokenizer.space
    if not isinstance(space, Tokens) or space.codebook_size != codes or space.layout.positions != positions:
        raise UserError(
            f"{file}: it writes {positions} tokens of {codes} codes, but tokenizer {place} gives {space}; give the one that it was "
            "trained with, imported before"
        )
    return space


def _heads(file: Path, width: int, num_heads: int | None) -> int:
    heads = num_heads or HEADS.get(width)
    if heads is None:
        raise UserError(
            f"{file}: its width {width} is none of the published ones ({', '.join(map(str, HEADS))}), and its weights do not tell "
            "the number of attention heads; give --num-heads"
        )
    return heads


def _words(table: Tensor, codes: int) -> dict[str, Tensor]:
    """Return the embeddings of codes and the mask, and of the classes and \"no class\", which are one table there."""
    return {"token_embedding.weight": table[: codes + 1], "classes.table.weight": table[codes + 1 :]}


def _bert(file: Path, state: dict[str, Tensor], codes: int) -> dict[str, Tensor]:
    embeddings = {
        name: state.pop(f"embeddings.{name}_embeddings.weight") for name in ("word", "position", "token_type")
    }
    ours = _words(embeddings["word"], codes) | {"places.weight": embeddings["position"] + embeddings["token_type"][0]}
    rows: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in ("embeddings.LayerNorm", "lm_head"):
            ours[f"{'head' if layer == 'lm_head' else 'embedding_norm'}.{kind}"] = value
            continue
        word, _, rest = layer.removeprefix("encoder.").partition(".")
        number, _, inner = rest.partition(".")
        if word == "layer" and inner in _BERT_BLOCK:
            ours[f"blocks.{number}.{_BERT_BLOCK[inner]}.{kind}"] = value
        elif word == "layer" and inner.startswith("attention.self."):
            rows.setdefault(f"blocks.{number}.attention.qkv.{kind}", {})[inner.rpartition(".")[2]] = value
        else:
            raise _unknown(file, f"model.{name}")
    return ours | {name: torch.cat([parts[part] for part in _ROWS]) for name, parts in rows.items()}


def _uvit(file: Path, state: dict[str, Tensor], codes: int) -> dict[str, Tensor]:
    ours = _words(state.pop("embeddings.weight"), codes) | {"places.weight": state.pop("pos_embed")[0]}
    half = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("in_blocks."))
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in ("norm", "lm_head"):
            ours[f"{'head' if layer == 'lm_head' else 'norm'}.{kind}"] = value
            continue
        word, _, rest = layer.partition(".")
        number, _, inner = ("", "", rest) if word == "mid_block" else rest.partition(".")
        first = {"in_blocks": 0, "mid_block": half, "out_blocks": half + 1}.get(word)
        if first is None or inner not in _UVIT_BLOCK:
            raise _unknown(file, name)
        ours[f"blocks.{first + int(number or 0)}.{_UVIT_BLOCK[inner]}.{kind}"] = value
    return ours


def _unknown(file: Path, name: str) -> UserError:
    return UserError(f"{file}: weight {name!r} is not part of a TiTok generator that vistok knows")
