"""Which generators a shortcut can be made from: what it asks of a teacher that the teacher has never learned is refused by name."""

from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig, ShortenedConfig
from vistok.origin import ShortcutOf
from vistok.shortcut.config import SAMPLERS, SHORTCUTS, ShortcutConfig


def require_teacher(shortcut: ShortcutConfig, teacher: FlowConfig, made: ShortcutOf | None, path: str) -> None:
    """Raise UserError if a shortcut cannot be made from a generator. `made`: how that one was shortened itself; `path`: for messages."""
    if made is not None:
        _require_flow(shortcut, made, teacher.shortened, path)
    if teacher.shortened is not None and SHORTCUTS[shortcut.kind].plain:
        raise UserError(
            f"--teacher {path}: guidance is inside this generator already, at scales {_range(teacher.shortened.scales)}; halve its steps with a "
            f"recipe such as fashion_progressive, or start {shortcut.kind!r} from {_origin(made)}"
        )
    if teacher.predicts == "noise" and SHORTCUTS[shortcut.kind].begins_alone:
        raise UserError(
            f"--teacher {path}: it predicts noise, which says nothing of the data where a single call starts; move it to velocities first, and "
            "shorten the result: vistok shorten fashion_adaptation --teacher RUN"
        )
    for scale in shortcut.asked_at(teacher):
        _require_guidance(shortcut, teacher, scale, path)


def _require_flow(shortcut: ShortcutConfig, made: ShortcutOf, network: ShortenedConfig | None, path: str) -> None:
    """Raise UserError for a teacher that follows no flow any more, unless it is halved further."""
    known = SHORTCUTS.get(made.kind)
    if (known is not None and known.follows) or (network is not None and shortcut.continues(made.kind, network)):
        return
    further = ""
    if made.kind == "progressive" and network is not None and shortcut.kind == "progressive" and network.steps > 1:
        sampler = next((name for name, solver in SAMPLERS.items() if solver == network.solver), "deterministic")
        further = (
            f"; to halve it further, --set shortcut.from_steps={network.steps}, a smaller shortcut.to_steps, and "
            f"--set 'shortcut.sampler=\"{sampler}\"'"
        )
    if shortcut.kind == "score" and made.path:
        further = "; to begin with its weights, add --init-from and this one"
    raise UserError(
        f"--teacher {path}: made by {made.kind!r} for {made.calls} call{'s' if made.calls > 1 else ''}, it no longer follows the flow from noise "
        f"to data that {shortcut.kind!r} needs; start from {_origin(made)}{further}"
    )


def _require_guidance(shortcut: ShortcutConfig, teacher: FlowConfig, scale: float, path: str) -> None:
    """Raise UserError for a guidance scale that a teacher cannot give."""
    chosen = "guidance_scale" in type(shortcut).model_fields
    if teacher.shortened is not None:
        low, high = teacher.shortened.scales
        if not low <= scale <= high:
            instead = (
                f"--set shortcut.guidance_scale={min(max(scale, low), high):g}" if chosen else "take another teacher"
            )
            raise UserError(
                f"--teacher {path}: guidance is inside this generator, at scales {_range((low, high))}, but it would be asked for {scale:g}; "
                f"{instead}"
            )
    elif scale != 1.0 and teacher.label_dropout == 0:
        without = "shortcut.guidance_scale=1" if chosen else ""
        raise UserError(
            f"--teacher {path}: it was trained without label dropout, so it cannot be guided at scale {scale:g}; train one with --set "
            f"generator.label_dropout=0.1, or {f'--set {without}' if without else 'take a recipe without guidance, such as fashion_progressive'}"
        )


def _range(scales: tuple[float, float]) -> str:
    low, high = scales
    return f"{low:g}" if low == high else f"from {low:g} to {high:g}"


def _origin(made: ShortcutOf | None) -> str:
    """Return words for the generator that a shortened one was made from, or for one of its kind."""
    return (
        f"its own teacher, {made.path}"
        if made is not None and made.path
        else "a flow generator, such as a run of fashion_flow"
    )
