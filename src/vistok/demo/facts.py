"""Access to a demo's results, which are nested dictionaries."""

from typing import Any


def dig(value: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path; None if it was not scored at this size of the demo."""
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value
