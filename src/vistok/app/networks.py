"""Networks that stay in memory between two clicks: the last few that were used."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from vistok.files import stamp_of

KEPT = 4


class Networks:
    """Loads generators and tokenizers, and keeps the last few; a file that changed is loaded again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def generator(self, path: Path) -> Any:
        """Return a generator in evaluation mode. Raises UserError where `vistok sample` does."""
        from vistok.runs.load import load_generator

        return self._loaded("generator", path, load_generator)

    def decoder(self, path: Path) -> Any:
        """Return the tokenizer that decodes what the generator at a path writes. Raises UserError if it is gone."""
        from vistok.runs.load import load_tokenizer_of

        generator = self.generator(path)
        own = Path(generator.info.tokenizer.path)
        return self._loaded("decoder", path, lambda _: load_tokenizer_of(generator), *([own] if own.exists() else []))

    def tokenizer(self, path: Path) -> Any:
        """Return a tokenizer in evaluation mode. Raises UserError where `vistok reconstruct` does."""
        from vistok.runs.load import load_tokenizer

        return self._loaded("tokenizer", path, load_tokenizer)

    def _loaded(self, kind: str, path: Path, load: Any, *others: Path) -> Any:
        """Return what `load` makes of a path, anew if its file, or one of those that it depends on, has changed."""
        from vistok.runs.load import weights_file

        files = [weights_file(each) for each in (path, *others)]
        key = (kind, *((file.resolve(), stamp_of(file)) for file in files))
        if key not in self._kept:
            self._kept[key] = load(path)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
