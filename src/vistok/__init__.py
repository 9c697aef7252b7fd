"""vistok: image tokenizers, the generators that model their tokens, and the trade-off between them.

`train` makes a run of images; `run` and `runs` find runs; `score` and `compare` judge them, or any network; `tokens` are a
run's latents as a data set. `load_tokenizer` and `load_generator` give the networks of a run, a file or a shipped name,
`from_pretrained` a repository of the Hugging Face Hub, which `push_to_hub` writes. docs/python.md shows each of them. They
are imported on first use, so that `import vistok` costs nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vistok.engine.spinning import bound_spinning

__version__ = "0.1.0"
_PLACES = {
    "compare": "vistok.python.compare",
    "from_pretrained": "vistok.interop.hub",
    "load_generator": "vistok.python.networks",
    "load_tokenizer": "vistok.python.networks",
    "push_to_hub": "vistok.interop.hub",
    "run": "vistok.python.finding",
    "runs": "vistok.python.listing",
    "score": "vistok.python.score",
    "tokens": "vistok.python.tokens",
    "train": "vistok.python.train",
}
__all__ = [
    "compare",
    "from_pretrained",
    "load_generator",
    "load_tokenizer",
    "push_to_hub",
    "run",
    "runs",
    "score",
    "tokens",
    "train",
]

if TYPE_CHECKING:
    from vistok.interop.hub import from_pretrained, push_to_hub
    from vistok.python.compare import compare
    from vistok.python.finding import run
    from vistok.python.listing import runs
    from vistok.python.networks import load_generator, load_tokenizer
    from vistok.python.score import score
    from vistok.python.tokens import tokens
    from vistok.python.train import train


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        if "torch" not in sys.modules:  # as the command line does: OpenMP reads it once, when torch is loaded
            bound_spinning()
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'vistok' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
