"""MaskGIT's VQGAN in PyTorch, as open-muse and TiTok's code (bytedance/1d-tokenizer) have it: a state dict in a file."""

from pathlib import Path

import torch
from torch import Tensor

from vistok.config import make
from vistok.errors import UserError, damage_is_a_mistake
from vistok.interop.foreign_file import as_float, read_foreign, weights_of
from vistok.interop.imported import check_fits, imagenet_facts, tokenizer_run, write_run
from vistok.runs.foreign_families import require_family
from vistok.tokenizer.config import NETWORKS, ConvNetConfig, MaskgitTokenizerConfig, TokenizerConfig

_BLOCK = {"norm1": "norm1", "norm2": "norm2", "conv1": "conv1", "conv2": "conv2", "nin_shortcut": "skip"}
_OUTER = ("conv_in", "norm_out", "conv_out")
# Of the published network, and of all others with that code.
NORM_GROUPS = 32


def import_maskgit(file: Path, out: Path, image_size: int = 256) -> str:
    """Write a run directory from MaskGIT's VQGAN; return a line that describes the network.

    Its weights do not tell the image size. Raises UserError for weights that do not fit the network.
    """
    state = weights_of(file, read_foreign(file), ("state_dict", "model"))
    require_family(file, state, "maskgit")
    config = network_of(file, state, "quantize", "decoder", image_size)
    ours = names_of(file, state, config, {"encoder": "encoder", "decoder": "decoder", "quantize": "quantizer"})
    check_fits(ours, shapes_of(config), f"MaskGIT's VQGAN with the widths of {file.name}")
    name = f"maskgit-vq-f{config.encoder.downsample}"
    write_run(out, "tokenizer", tokenizer_run(name, config), ours, file, data_digest="", **imagenet_facts())
    return f"{name}: tokenizer, {config.space} at {config.image_size} pixels"


def network_of(
    file: Path, state: dict[str, Tensor], quantizer: str, decoder: str, image_size: int
) -> MaskgitTokenizerConfig:
    """Return the config that the shapes of a decoder's weights imply; the encoder is taken to be alike.

    `quantizer`, `decoder`: their names in the file. Raises UserError for weights that are missing.
    """
    with damage_is_a_mistake(f"checkpoint {file}", "give a file with the whole VQGAN"):
        count = 1 + max(int(name.split(".")[2]) for name in state if name.startswith(f"{decoder}.up."))
        widths = [len(state[f"{decoder}.up.{i}.block.0.conv1.weight"]) for i in range(count)]
        blocks = 1 + max(int(name.split(".")[2]) for name in state if name.startswith(f"{decoder}.mid."))
        codes, dim = state[f"{quantizer}.embedding.weight"].shape
        side = ConvNetConfig(
            channels=widths[0], multipliers=tuple(width // widths[0] for width in widths), num_res_blocks=blocks,
            attention_resolutions=(), middle_attention=False, norm_groups=NORM_GROUPS,
        )  # fmt: skip
        return MaskgitTokenizerConfig(
            image_size=image_size, in_channels=len(state[f"{decoder}.conv_out.weight"]),  # type: ignore[arg-type]
            encoder=side, decoder=side,
            quantizer={"kind": "vq", "codebook_size": codes, "code_dim": dim, "lookup": "euclidean"},  # type: ignore[arg-type]
        )  # fmt: skip


def shapes_of(config: TokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's weights by name."""
    with torch.device("meta"):
        network = make(NETWORKS, config)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def names_of(
    file: Path, state: dict[str, Tensor], config: MaskgitTokenizerConfig, parts: dict[str, str]
) -> dict[str, Tensor]:
    """Return the weights of a VQGAN under our names, in float32; `parts`: the names of its parts, theirs -> ours.

    Raises UserError for weights that the network does not have.
    """
    places = {f"{theirs}.embedding": f"{ours}.codebook" for theirs, ours in parts.items() if ours.endswith("quantizer")}
    for theirs, ours in parts.items():
        if not ours.endswith("quantizer"):
            places |= _side(config.decoder, theirs, ours, down=ours.endswith("encoder"))
    weights = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        place = places.get(layer)
        if place is None or kind not in ("weight", "bias"):
            raise UserError(f"{file}: weight {name!r} is not part of a MaskGIT VQGAN that vistok knows")
        weights[place if place.endswith("codebook") else f"{place}.{kind}"] = as_float(name, value)
    return weights


def _side(network: ConvNetConfig, theirs: str, ours: str, down: bool) -> dict[str, str]:
    last, blocks = len(network.multipliers) - 1, range(network.num_res_blocks)
    pairs = {f"{theirs}.{layer}": f"{ours}.{layer}" for layer in _OUTER}
    residual = {f"{theirs}.mid.{i}": f"{ours}.middle.{i}" for i in blocks}
    for place in range(last + 1):
        level = f"{theirs}.{'down' if down else 'up'}.{place}"
        # A decoder's levels are numbered from the image inwards there, in order of use here.
        mine = f"{ours}.levels.{place if down else last - place}"
        residual |= {f"{level}.block.{i}": f"{mine}.{i}" for i in blocks}
        if not down and place > 0:
            pairs[f"{level}.upsample_conv"] = f"{mine}.{network.num_res_blocks}.conv"
    return pairs | {f"{a}.{x}": f"{b}.{y}" for a, b in residual.items() for x, y in _BLOCK.items()}
