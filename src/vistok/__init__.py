"""vistok: image tokenizers, the generators that model their tokens, and the trade-off between them.

`load_tokenizer` and `load_generator` read a run directory or an exported file, `from_pretrained` a repository of the
Hugging Face Hub, which `push_to_hub` writes. They are imported on first use, so that `import vistok` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
_PLACES = {
    "from_pretrained": "vistok.interop.hub",
    "load_generator": "vistok.runs.load",
    "load_tokenizer": "vistok.runs.load",
    "push_to_hub": "vistok.interop.hub",
}
__all__ = ["from_pretrained", "load_generator", "load_tokenizer", "push_to_hub"]

if TYPE_CHECKING:
    from vistok.interop.hub import from_pretrained, push_to_hub
    from vistok.runs.load import load_generator, load_tokenizer


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'vistok' has no attribute {name!r}; it offers {', '.join(__all__)}")
