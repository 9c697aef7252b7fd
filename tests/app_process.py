"""The app in a process of its own, as a user starts it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_app(folder: Path, **options: Path) -> Iterator[str]:
    """Start `vistok app` in a folder and yield its address; it is stopped as Ctrl-C does, and must have cleaned up.

    Temporary files go to `folder/tmp`, what it prints to `folder/app.log`.
    """
    (folder / "tmp").mkdir()
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"}
    with open(folder / "app.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vistok", "app", "--no-open", *words], cwd=folder, stdout=log, stderr=log, env=environment
        )  # fmt: skip
    try:
        yield _address(process, folder / "app.log")
    finally:
        process.terminate()
        code = process.wait(timeout=150)
    said = (folder / "app.log").read_text()
    assert code == 0 and said.rstrip().endswith("closed") and "Traceback" not in said, said
    assert not list((folder / "tmp").glob("vistok-app-*"))


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"vistok app: (http://127\.0\.0\.1:\d+/)", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"the app did not open: {log.read_text()}")
