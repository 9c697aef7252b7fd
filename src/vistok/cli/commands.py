"""What all commands have in common: -h, --quiet, completion, help without Python's names, and advice on unknown options."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import ArgumentInfo, OptionInfo

from vistok.cli.completion import COMPLETED
from vistok.cli.quiet import hushed
from vistok.cli.unknown_options import advised, refuse_recipe

# How help names the values of options.
VALUES = {bool: "", Path: "PATH", str: "TEXT", int: "INTEGER", float: "NUMBER"}
# Help lists commands as they are first needed.
ORDER = (
    "start", "train", "shorten", "sample", "reconstruct", "evaluate", "compare", "runs", "show", "app", "recipes", "cache",
    "diagnose", "study", "advise", "import", "export", "demo",
)  # fmt: skip
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; results and warnings are still printed.")]


class Command(TyperCommand):
    """A command whose help names no Python types, and which says what to type instead of an option it does not have."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            if parameter.param_type_name == "argument":  # its name and its help say what it is
                parameter.display_type_rich = lambda ctx: None  # type: ignore[attr-defined]

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option -h, as a flag."""
        return _flag(super().get_help_option(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; the error on an unknown option says what to type instead."""
        with advised(ctx, list(args)):  # parsing empties the list
            return super().parse_args(ctx, args)


class Group(TyperGroup):
    """A group of commands."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option -h, as a flag."""
        return _flag(super().get_help_option(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the part of the command line before the command's name."""
        with advised(ctx, list(args)):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command by its name; a recipe in its place is answered with what to type."""
        refuse_recipe(ctx, args)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of `ORDER`, then as they were registered."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's own options, all of them flags."""
        return [_flag(option) for option in super().get_params(ctx)]


def _flag(option: Any) -> Any:
    if option is not None:
        option.metavar = ""
    return option


class App(typer.Typer):
    """A group whose commands are of the class above."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            cls=Group, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}, **options
        )

    def command(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """Register a function as a command, and give it --quiet."""
        register = super().command(*arguments, **{"cls": Command, **options})

        def decorate(function: Any) -> Any:
            register(_dressed(function))
            return function

        return decorate


def _dressed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command's function with --quiet, completion, and readable names in help."""

    @wraps(function)
    def quietly(*arguments: Any, quiet: bool = False, **options: Any) -> Any:
        with hushed(quiet):
            return function(*arguments, **options)

    hints = {**get_type_hints(function, include_extras=True), "quiet": Quiet}
    parameters = [
        parameter.replace(annotation=_described(name, hints[name]))
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    quiet = inspect.Parameter(
        "quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_described("quiet", Quiet)
    )
    quietly.__signature__ = inspect.Signature([*parameters, quiet])  # type: ignore[attr-defined]
    quietly.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, quiet]}
    return quietly


def _described(name: str, hint: Any) -> Any:
    """Return a parameter's annotation with the name of its value for help, and what Tab offers."""
    if get_origin(hint) is not Annotated:
        return hint
    kind, info, *more = get_args(hint)
    if not isinstance(info, ArgumentInfo | OptionInfo):
        return hint
    if info.metavar is None:
        info.metavar = name.upper() if isinstance(info, ArgumentInfo) else _value(kind)
    info.autocompletion = info.autocompletion or COMPLETED.get(name)
    return Annotated[kind, info, *more]


def _value(kind: Any) -> str | None:
    """Return how help names an option's value: PATH for Path | None and for list[Path]."""
    if parts := get_args(kind):
        return next((word for part in parts if (word := _value(part)) is not None), None)
    return VALUES.get(kind)
