"""DINOv2's vision transformers (Oquab et al. 2023, arXiv 2304.07193), for features of photographs.

The network is built from the weights' shapes; they come from a file of Meta's release, such as
dinov2_vitl14_pretrain.pth.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError, damage_is_a_mistake, some
from vistok.nn.attention import attend
from vistok.nn.frozen_config import DINOv2Config
from vistok.nn.imagenet_colours import DEVIATION, MEAN
from vistok.pickled_file import read_tensors

# Weights that each file of the release has, and one of ViT-g alone, whose feed-forward is gated.
NAMES = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight")
GATED = "blocks.0.mlp.w12.weight"
PATCH, HEAD_DIM, EPS = 14, 64, 1e-6
RELEASE = "https://github.com/facebookresearch/dinov2"
ADVICE = f"download dinov2_vitl14_pretrain.pth (see {RELEASE}) and give its path with features_file"


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_DIM
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(query, key, value).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn, self.mlp = _Attention(width), _Mlp(width, hidden)
        self.ls1, self.ls2 = _Scale(width), _Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DINOv2(nn.Module):
    """A vision transformer with patches of 14 pixels; it takes images of any whole number of patches.

    Images keep their values in [-1, 1], as in VA-VAE's code, or are `standardized` as in the network's training.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, width: int, depth: int, hidden: int, positions: int, registers: int = 0, standardized: bool = False
    ) -> None:
        super().__init__()
        self.width, self.standardized = width, standardized
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(_Block(width, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)

    def stage_activations(self, images: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Return one stage: the patches' features after the last norm, (batch width rows columns)."""
        images = images.expand(-1, 3, -1, -1)
        if self.standardized:
            images = (images / 2 + 0.5 - self.mean) / self.deviation
        x = self.patch_embed["proj"](images)
        rows, columns = x.shape[2:]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = x + self._positions(rows, columns)
        before = 1
        if self.register_tokens is not None:
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)
            before += self.register_tokens.shape[1]
        for block in self.blocks:
            x = block(x)
        return [self.norm(x)[:, before:].transpose(1, 2).unflatten(2, (rows, columns))]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the learned positions, interpolated to another grid (bicubic, as timm does)."""
        first, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        side = round(grid.shape[1] ** 0.5)
        if (rows, columns) == (side, side):
            return self.pos_embed
        square = grid.transpose(1, 2).unflatten(2, (side, side)).float()
        found = F.interpolate(square, (rows, columns), mode="bicubic", antialias=True)
        return torch.cat([first, found.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)


def load_dinov2(file: str | None) -> DINOv2:
    """Return the network in a file of Meta's release, in evaluation mode.

    Raises UserError where no file is given, or it is missing, damaged, or of another network.
    """
    state = read_dinov2(file)
    with damage_is_a_mistake(f"DINOv2 weights {file}", ADVICE):
        model = sized_like(state)
        model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def read_dinov2(file: str | None) -> dict[str, Tensor]:
    """Return the weights in a file of Meta's release, by name.

    Raises UserError where none is given, or it is missing, damaged, in other names, or ViT-g's.
    """
    if file is None:
        raise UserError(f"these features are DINOv2's, which does not come with vistok: {ADVICE}")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"DINOv2 weights {path}: not found; {ADVICE}")
    state = read_tensors(path, "DINOv2 weights", ADVICE)
    if missing := [name for name in NAMES if name not in state]:
        raise UserError(
            f"DINOv2 weights {path}: not in the names of Meta's release ({some(missing)} missing; it holds {some(state)}); {ADVICE} "
            "(transformers' copy has other names)"
        )
    if GATED in state:
        raise UserError(
            f"DINOv2 weights {path}: ViT-g has a gated feed-forward, which is not supported; use S, B or L: {ADVICE}"
        )
    return {name: value for name, value in state.items() if name != "mask_token"}


def sized_like(state: dict[str, Tensor]) -> DINOv2:
    """Return a new network of the sizes that weights have; a KeyError says which is missing."""
    sizes = sizes_of(state)
    hidden = len(state["blocks.0.mlp.fc1.weight"])
    return DINOv2(sizes["width"], sizes["depth"], hidden, sizes["positions"], sizes["registers"])


def sizes_of(state: dict[str, Tensor]) -> dict[str, int]:
    """Return the sizes of the network that weights belong to, by the names of `DINOv2Config`."""
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    registers = state["register_tokens"].shape[1] if "register_tokens" in state else 0
    sizes = {"width": state["cls_token"].shape[-1], "depth": depth, "registers": registers}
    return {**sizes, "positions": state["pos_embed"].shape[1]}


def planned_dinov2(config: DINOv2Config) -> DINOv2:
    """Return a new network as a config describes it, without the blocks behind the one whose features are taken."""
    depth = config.depth - config.block_from_end + 1
    hidden = 4 * config.width
    return DINOv2(config.width, depth, hidden, config.positions, config.registers, config.standardized)


def planned_weights(file: str | None, config: DINOv2Config) -> dict[str, Tensor]:
    """Return the weights of `planned_dinov2` from a file of Meta's release. Raises UserError if that is of other sizes."""
    state = read_dinov2(file)
    with damage_is_a_mistake(f"DINOv2 weights {file}", ADVICE):
        found = sizes_of(state)
    if wrong := {name: size for name, size in found.items() if size != getattr(config, name)}:
        settings = " ".join(f"--set tokenizer.dinov2.{name}={size}" for name, size in wrong.items())
        raise UserError(f"DINOv2 weights {file}: a network of other sizes than the config says; use {settings}")
    kept = config.depth - config.block_from_end + 1
    return {
        name: value for name, value in state.items() if not name.startswith("blocks.") or int(name.split(".")[1]) < kept
    }
