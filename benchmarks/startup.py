"""`vistok --help` against a bare Python that imports typer and rich."""

import subprocess
import sys
from pathlib import Path

from common import alternate, arguments, entry, median, save


def main() -> None:
    options = arguments(__doc__)
    vistok = Path(sys.executable).parent / "vistok"

    def run(*command: str) -> None:
        subprocess.run(command, capture_output=True, check=True)

    bare = (sys.executable, "-c", "import typer, rich.console, rich.panel, rich.table, rich.markdown")
    seconds = alternate(max(15, options.repeats), ours=lambda: run(str(vistok), "--help"), peer=lambda: run(*bare))
    slow = "import sys, vistok.cli; print('torch' in sys.modules, 'numpy' in sys.modules)"
    early = subprocess.run([sys.executable, "-c", slow], capture_output=True, text=True, check=True).stdout.split()
    results = [
        entry("vistok --help against importing typer and rich", median(seconds["ours"]) * 1e3,
              median(seconds["peer"]) * 1e3, "ms", 0.5),
        entry("heavy modules imported by the command line", float(early.count("True")), None, "modules", 0.0),
    ]  # fmt: skip
    save("startup", results, "Start-up")


if __name__ == "__main__":
    main()
