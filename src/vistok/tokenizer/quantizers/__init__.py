"""Quantizers: one abstract class, one output type, one file an idea."""

from vistok.tokenizer.config import FSQConfig, VQConfig
from vistok.tokenizer.quantizers.base import Quantizer, QuantizerOutput
from vistok.tokenizer.quantizers.fsq import FSQ
from vistok.tokenizer.quantizers.vq import VQ

__all__ = ["FSQ", "VQ", "Quantizer", "QuantizerOutput", "build_quantizer"]


def build_quantizer(config: VQConfig | FSQConfig) -> Quantizer:
    """Build the quantizer that a config describes."""
    return VQ(config) if isinstance(config, VQConfig) else FSQ(config)
