"""The file of weights that a run's path, or a file's, stands for."""

from pathlib import Path

from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.files import is_locked
from vistok.runs.wrong_file import require_run


def weights_file(path: str | Path, weights: str | None = None) -> Path:
    """Return the weights file of a run directory (None: the EMA weights), or `path` itself if it is a file.

    Raises UserError if nothing is there, or a run that is unfinished or lacks these weights.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: neither a run directory nor a weights file")
    require_run(path)
    run = RunDir(path)
    run.read_config()
    if not run.finished:
        if is_locked(path / "lock"):
            raise UserError(f"run {path} is being trained by another process; wait until that has ended")
        raise UserError(
            f"run {path} is not finished; repeat the command that trains it, which continues where it stopped"
        )
    weights = weights or "ema"
    file = run.export(weights)
    if not file.is_file():
        other = "raw" if weights == "ema" else "ema"
        has = f"it has {other} weights" if run.export(other).is_file() else "its weights are gone"
        raise UserError(f"run {path} is finished but has no {weights} weights (no {file.relative_to(path)}); {has}")
    return file
