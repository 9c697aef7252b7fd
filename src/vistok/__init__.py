"""vistok: image tokenizers, the generators that model their tokens, and the trade-off between them.

`load_tokenizer` and `load_generator` read a run directory or an exported file; they are
imported on first use, so that `import vistok` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load_generator", "load_tokenizer"]

if TYPE_CHECKING:
    from vistok.tasks.load import load_generator, load_tokenizer


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("vistok.tasks.load"), name)
    raise AttributeError(f"module 'vistok' has no attribute {name!r}; it offers {', '.join(__all__)}")
