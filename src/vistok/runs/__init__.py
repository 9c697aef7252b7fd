"""Runs: their configs, plans, directories, weights and health.

The package can be called, as `vistok.runs()` lists runs for a notebook; see `vistok.python.listing`.
"""

import sys
from types import ModuleType
from typing import Any


class _Runs(ModuleType):
    """The package, which has the name of a public function: importing any part of it would hide the function."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        from vistok.config import load_named

        return load_named("vistok.python.listing:runs")(*arguments, **named)


sys.modules[__name__].__class__ = _Runs
