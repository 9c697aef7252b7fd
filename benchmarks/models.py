"""The same networks twice: ours with the peer's weights in them."""

from typing import Any

import torch

from vistok.generator.autoregressive.config import paper_size
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.space import token_grid

PEER_SIZES = {"111m": "GPT-B", "343m": "GPT-L"}


def generators(name: str, peer_dropout: float = 0.1) -> tuple[AutoregressiveGenerator, Any]:
    """Return ours and LlamaGen's, 256 tokens of 16,384 codes, 1,000 classes, equal weights (a head that speaks)."""
    from autoregressive.models.gpt import GPT_models

    torch.manual_seed(0)
    peer = GPT_models[PEER_SIZES[name]](
        vocab_size=16_384, block_size=256, num_classes=1000, cls_token_num=1,
        token_dropout_p=peer_dropout, resid_dropout_p=peer_dropout, ffn_dropout_p=peer_dropout,
    )  # fmt: skip
    torch.nn.init.normal_(peer.output.weight, std=0.02)
    config = paper_size(name).replace(qk_norm=False, class_token_rotary="zero", dropout=peer_dropout)
    ours = AutoregressiveGenerator(config, token_grid(16, 16, 16_384), 1_000)
    ours.load_state_dict(translated(peer.state_dict()))
    return ours, peer


def translated(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return LlamaGen's weights under our names."""
    names = {
        "tok_embeddings.weight": "token_embedding.weight",
        "cls_embedding.embedding_table.weight": "classes.table.weight",
        "norm.weight": "norm.weight",
        "output.weight": "head.weight",
    }
    inside = {
        "attention.wqkv": "attention.qkv", "attention.wo": "attention.out", "attention_norm": "attention_norm",
        "ffn_norm": "feed_forward_norm", "feed_forward.w1": "feed_forward.gate", "feed_forward.w3": "feed_forward.up",
        "feed_forward.w2": "feed_forward.down",
    }  # fmt: skip
    found = {}
    for name, value in state.items():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            found[f"blocks.{number}.{inside[rest.removesuffix('.weight')]}.weight"] = value
        elif name in names:
            found[names[name]] = value
    return found
