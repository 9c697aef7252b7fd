"""Where a run's numbers and pictures go besides its own directory: TensorBoard, and the trackers that users ask for."""

import struct
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from vistok.engine.config import ExecutionConfig
from vistok.errors import UserError

PROJECT = "vistok"


class Board(Protocol):
    """What a place for numbers and pictures must take; `kind` is "train" or "validation"."""

    def numbers(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Take the numbers of a row."""
        ...

    def picture(self, name: str, step: int, png: Path) -> None:
        """Take a sheet of pictures."""
        ...

    def close(self) -> None:
        """Write whatever is left to write."""
        ...


def open_boards(execution: ExecutionConfig, run: Path, step: int) -> list[Board]:
    """Return the boards that a config asks for, for a run that goes on after this step.

    Raises UserError if a tracker is not installed, or cannot begin.
    """
    boards: list[Board] = [TensorBoard(run / "tensorboard", step)] if execution.tensorboard else []
    return [*boards, Tracker(execution.logger, run)] if execution.logger else boards


class TensorBoard:
    """Event files that `tensorboard --logdir` reads; numbers of steps that are done again replace the former ones."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def numbers(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Take the numbers of a row."""
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def picture(self, name: str, step: int, png: Path) -> None:
        """Take a sheet of pictures, as it lies in its file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = png.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of the PNG's header
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Tracker:
    """trackio or W&B, which share an interface; the run has its directory's name there, in the project `vistok`."""

    def __init__(self, module: str, run: Path) -> None:
        try:
            self._tracker: Any = import_module(module)
        except ImportError:
            raise UserError(
                f"execution.logger {module!r} is not installed: pip install 'vistok[{module}]', or leave execution.logger null"
            ) from None
        named = {"id": run.name} if module == "wandb" else {}
        try:
            self._tracker.init(project=PROJECT, name=run.name, resume="allow", **named)
        except Exception as error:
            raise UserError(
                f"execution.logger {module!r} cannot begin ({str(error).splitlines()[0] if str(error) else error!r}); see its "
                "documentation, or leave execution.logger null"
            ) from error

    def numbers(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Take the numbers of a row."""
        self._tracker.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def picture(self, name: str, step: int, png: Path) -> None:
        """Take a sheet of pictures."""
        self._tracker.log({name: self._tracker.Image(str(png))}, step=step)

    def close(self) -> None:
        """End the run there."""
        self._tracker.finish()


def picture_name(png: Path) -> str:
    """Return what a sheet shows: its file's name without the step."""
    return png.stem.rpartition("-")[0]


def sheets_of(step: int, samples: Path) -> Sequence[Path]:
    """Return the sheets that a validation made."""
    return sorted(samples.glob(f"*-{step:08d}.png"))
