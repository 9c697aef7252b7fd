"""Answers only what comes from this machine's own browser: no other site's pages, no name that was made to point here."""

from typing import Any
from urllib.parse import urlsplit

HOSTS = ("127.0.0.1", "localhost", "::1")


class Loopback:
    """Refuses requests whose Host, or whose Origin if they have one, is not the loopback interface."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer it with 403."""
        if scope["type"] in ("http", "websocket") and not is_ours(dict(scope["headers"])):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"vistok app answers on this machine only"})
            return
        await self.app(scope, receive, send)


def is_ours(headers: dict[bytes, bytes]) -> bool:
    """Whether a request's headers name the loopback interface."""
    origin = headers.get(b"origin")
    named = [f"//{headers.get(b'host', b'').decode('latin-1')}", *([origin.decode("latin-1")] if origin else [])]
    return all(_host(name) in HOSTS for name in named)


def _host(name: str) -> str | None:
    try:
        return urlsplit(name).hostname
    except ValueError:
        return None
