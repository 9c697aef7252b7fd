"""What DiT's checkpoints and LightningDiT's have in common: names, layouts, and tables that are computed."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.errors import UserError, counted
from vistok.generator.flow.config import SIZES, FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.interop.foreign_file import as_float
from vistok.interop.imported import IMAGENET_CLASSES, check_fits, imagenet_facts, with_row_for_none, write_run
from vistok.runs.config import GeneratorRun
from vistok.space import Vectors
from vistok.tokenizer.interface import Tokenizer

# Their names -> ours, inside a block and around the blocks (without .weight and .bias).
BLOCK = {
    "norm1": "attention_norm", "norm2": "feed_forward_norm", "attn.qkv": "attention.qkv", "attn.proj": "attention.out",
    "attn.q_norm": "attention.query_norm", "attn.k_norm": "attention.key_norm", "mlp.w12": "feed_forward.gate_and_up",
    "mlp.w3": "feed_forward.down", "mlp.fc1": "feed_forward.up", "mlp.fc2": "feed_forward.down",
    "adaLN_modulation.1": "modulation.linear",
}  # fmt: skip
AROUND = {
    "x_embedder.proj": "embed", "t_embedder.mlp.0": "time.first", "t_embedder.mlp.2": "time.second",
    "y_embedder.embedding_table": "classes.table", "final_layer.norm_final": "norm", "final_layer.linear": "out",
    "final_layer.adaLN_modulation.1": "modulation.linear",
}  # fmt: skip
# Tables that we compute.
COMPUTED = {"pos_embed", "feat_rope.freqs_cos", "feat_rope.freqs_sin"}


def sizes_of(file: Path, state: dict[str, Tensor], num_heads: int | None) -> dict[str, int]:
    """Return width, depth, heads and patch, as shapes and names imply. Raises UserError where heads must be given."""
    embed = weight_of(file, state, "x_embedder.proj.weight")
    width = embed.shape[0]
    known = {size[0]: size[2] for size in SIZES.values()}
    heads = num_heads or known.get(width)
    if heads is None:
        raise UserError(
            f"{file}: its width {width} is none of the published ones ({', '.join(map(str, known))}), and its weights do not "
            "tell the number of attention heads; give --num-heads"
        )
    depth = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("blocks.")), default=-1)
    return {"width": width, "depth": depth, "num_heads": heads, "patch": embed.shape[-1]}


def write_generator(
    file: Path, out: Path, state: dict[str, Tensor], config: FlowConfig, tokenizer: Tokenizer, place: Path, name: str,
    mean: Tensor, deviation: Tensor, classes: int | None = None,
) -> str:  # fmt: skip
    """Write the run of a network that writes a tokenizer's vectors; return a line that describes it.

    `place`: where the tokenizer lies; `mean` and `deviation`: of each channel of its vectors; `classes`: see `_classes_of`. Raises
    UserError for weights that do not fit.
    """
    space = space_of(file, tokenizer.space, state)
    ours = to_ours(file, state) | {"mean": mean, "deviation": deviation}
    table = ours["network.classes.table.weight"]
    said, classes = classes, _classes_of(file, len(table), classes)
    if classes == len(table):
        config = config.replace(label_dropout=0.0)
        ours["network.classes.table.weight"] = with_row_for_none(table)
    with torch.device("meta"):
        model = FlowGenerator(config, space, classes)
    check_fits(ours, {key: tuple(value.shape) for key, value in model.state_dict().items()}, name)
    require_tables(file, state, FlowGenerator(config.replace(depth=1), space, 1))
    write_run(
        out, "generator", GeneratorRun(name=f"{name.lower()}-{config.width}", generator=config), ours, file,
        space=space.model_dump(mode="json"), num_classes=classes,
        tokenizer={"digest": tokenizer.info.digest, "path": str(place.resolve())}, **imagenet_facts(classes),
    )  # fmt: skip
    params = sum(value.numel() for value in ours.values())
    return f"{name}: generator, {params / 1e6:.1f}M parameters, {space}, {_table_in_words(len(table), classes, said is None)}"


def _classes_of(file: Path, rows: int, classes: int | None) -> int:
    """Return the number of classes in a table with so many rows; `classes`: as the user says, None if unsaid.

    Their code has a row for "no class" only where labels were dropped in training. 1,000 rows are taken for ImageNet's classes and one
    row for the only class, without it. Raises UserError for a number that the table cannot have.
    """
    if classes is None:
        return rows if rows in (1, IMAGENET_CLASSES) else rows - 1
    if classes not in (rows - 1, rows) or classes < 1:
        allowed = f"{rows - 1} (and one row for no class) or {rows}" if rows > 1 else "1"
        raise UserError(f"{file}: its table of classes has {rows} rows, so --classes is {allowed}, found {classes}")
    return classes


def _table_in_words(rows: int, classes: int, guessed: bool) -> str:
    """Say what the rows of a table of classes were taken for."""
    if classes == rows:
        return f"{counted(classes, 'class', 'classes')} and none for no class, so that it cannot be guided"
    doubt = f"; if all {rows} are classes, give --classes {rows}" if guessed and classes != IMAGENET_CLASSES else ""
    return f"{counted(classes, 'class', 'classes')} and one for no class{doubt}"


def weight_of(file: Path, state: dict[str, Tensor], name: str) -> Tensor:
    """Return a weight. Raises UserError where there is none of that name."""
    if name not in state:
        raise UserError(f"{file}: has no weight {name!r}, so it is not a whole diffusion transformer")
    return state[name]


def to_ours(file: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under our names and in our layout. Raises UserError for one that we do not know."""
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in COMPUTED:
            continue
        layer, _, kind = name.rpartition(".")
        place = AROUND.get(layer)
        if layer.startswith("blocks."):
            _, number, inner = layer.split(".", 2)
            place = f"blocks.{number}.{BLOCK[inner]}" if inner in BLOCK else None
        if place is None or kind not in ("weight", "bias"):
            raise UserError(f"{file}: weight {name!r} is not part of a DiT or LightningDiT that vistok knows")
        weights[f"network.{place}.{kind}"] = as_float(name, value)
    # A convolution over patches there, a linear layer over their numbers here: rows, columns, then channels.
    key = "network.embed.weight"
    weights[key] = weights[key].permute(0, 2, 3, 1).flatten(1)
    return weights


def space_of(file: Path, space: Any, state: dict[str, Tensor]) -> Vectors:
    """Return the tokenizer's space. Raises UserError where the network writes another one."""
    embed = state["x_embedder.proj.weight"]
    if not isinstance(space, Vectors):
        raise UserError(f"{file}: it writes vectors, but the tokenizer gives {space}; import its autoencoder first")
    if space.dim != embed.shape[1]:
        raise UserError(f"{file}: it writes vectors of {embed.shape[1]} numbers, but the tokenizer gives {space}")
    positions = state.get("pos_embed")
    count = space.layout.positions // embed.shape[-1] ** 2
    if positions is not None and positions.shape[1] != count:
        raise UserError(f"{file}: it has {positions.shape[1]} positions, but the tokenizer gives {space}")
    return space


def require_tables(file: Path, state: dict[str, Tensor], model: FlowGenerator) -> None:
    """Raise UserError where the file's positions are not those that we compute."""
    ours = {"pos_embed": model.network.places}
    for name, table in (("cos", model.network.cos), ("sin", model.network.sin)):
        ours[f"feat_rope.freqs_{name}"] = table.repeat_interleave(2, dim=1)
    for name, table in ours.items():
        theirs = state.get(name)
        if theirs is not None and (
            theirs.numel() != table.numel() or float((theirs.float().view_as(table) - table).abs().max()) > 1e-4
        ):
            raise UserError(f"{file}: its positions ({name}) are not those of DiT and LightningDiT")
