"""Open the app on this machine, and close it again without leaving anything behind."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vistok.app.place import Place
from vistok.app.queue import Queue
from vistok.errors import UserError
from vistok.files import owned

LOOPBACK = "127.0.0.1"
LARGEST_FILE = "100mb"  # that may be dropped into the page


@contextmanager
def opened(place: Place, port: int | None = None) -> Iterator[str]:
    """Serve the app while the block runs, and yield its address.

    It answers on the loopback interface alone, sends nothing anywhere, and keeps what is dropped into it in a temporary
    folder. When the block ends, a training that it has started saves and stops. Raises UserError if another app works on the
    same folder of runs.
    """
    queue = Queue(place.runs)
    with _alone(queue.folder), tempfile.TemporaryDirectory(prefix="vistok-app-") as folder:
        _keep_to_itself(Path(folder))
        from vistok.app.window import window

        blocks = window(place, queue)
        queue.start()
        try:
            yield _launch(blocks, port)
        finally:
            queue.close()
            blocks.close(verbose=False)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with ExitStack() as owning:
        try:
            owning.enter_context(owned(folder))
        except UserError:
            raise UserError(
                f"another vistok app works on the runs in {folder.parent}; use that one, or close it, or choose another folder "
                "with --runs"
            ) from None
        yield


def _keep_to_itself(folder: Path) -> None:
    """Settings that Gradio reads when it is imported: no statistics, no sharing, uploads in our folder."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SHARE": "False",
        "GRADIO_TEMP_DIR": str(folder),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _launch(blocks: Any, port: int | None) -> str:
    from starlette.middleware import Middleware

    from vistok.app.loopback import Loopback
    from vistok.app.style import head, theme

    try:
        _, address, _ = blocks.launch(
            server_name=LOOPBACK, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
            ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False, footer_links=[], allowed_paths=[],
            max_file_size=LARGEST_FILE, theme=theme(), head=head(), app_kwargs={"middleware": [Middleware(Loopback)]},
        )  # fmt: skip
    except OSError as error:
        if error.errno is not None:
            raise
        raise UserError(
            f"no free port {f'at {port}' if port else 'from 7860 on'}; name another one with --port"
        ) from None
    return str(address)


def serve(place: Place, port: int | None, told: Callable[[str], None]) -> None:
    """Serve the app until the program is asked to stop; `told` gets the address."""
    with opened(place, port) as address:
        told(address)
        threading.Event().wait()
