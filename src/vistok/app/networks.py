"""Networks that stay in memory between two clicks: the last few that were used."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

KEPT = 4


class Networks:
    """Loads generators and tokenizers, and keeps the last few; a file that changed is loaded again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Path, float], Any] = OrderedDict()

    def generator(self, path: Path) -> Any:
        """Return a generator in evaluation mode. Raises UserError where `vistok sample` does."""
        from vistok.runs.load import load_generator

        return self._loaded("generator", path, load_generator)

    def decoder(self, path: Path) -> Any:
        """Return the tokenizer that decodes what the generator at a path writes. Raises UserError if it is gone."""
        from vistok.runs.load import load_tokenizer_of

        return self._loaded("decoder", path, lambda _: load_tokenizer_of(self.generator(path)))

    def tokenizer(self, path: Path) -> Any:
        """Return a tokenizer in evaluation mode. Raises UserError where `vistok reconstruct` does."""
        from vistok.runs.load import load_tokenizer

        return self._loaded("tokenizer", path, load_tokenizer)

    def _loaded(self, kind: str, path: Path, load: Any) -> Any:
        from vistok.runs.load import weights_file

        file = weights_file(path)
        key = (kind, file.resolve(), file.stat().st_mtime)
        if key not in self._kept:
            self._kept[key] = load(path)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
