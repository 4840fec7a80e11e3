"""Options that every command has, -q and -v, and completion of its options' values.

    app.command()(command(collect))
    log_from("environment")                           # SRFT_LOG, before the command's own word

SRFT_LOG is a level of loguru's (TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL); -q is WARNING, -v is DEBUG, and
both win over it. What is chosen is set in SRFT_LOG, so that the processes that a command starts are as loud.
"""

import functools
import inspect
import os
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer
from loguru import logger

from srft.env.errors import InputError
from srft.harness.commands.completion import completion

LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors alone.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Log details too; SRFT_LOG=LEVEL does the same.")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The command of a function: with -q and -v, and with completion of the values that its options take."""
    signature, hints = inspect.signature(function), typing.get_type_hints(function, include_extras=True)
    for name in signature.parameters:
        _complete(typing.get_args(hints[name])[1:])

    @functools.wraps(function)
    def run(*, quiet: bool, verbose: bool, **given: Any) -> None:
        if quiet and verbose:
            raise InputError("--quiet and --verbose exclude each other; give one of them")
        if quiet or verbose:
            log_from("quiet" if quiet else "verbose")
        function(**given)

    own = [parameter.replace(annotation=hints[name]) for name, parameter in signature.parameters.items()]
    added = {"quiet": QuietOption, "verbose": VerboseOption}
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in added.items()]
    run.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    run.__annotations__ = hints | added
    return run


def _complete(marks: tuple[Any, ...]) -> None:
    """Have typer complete an option, or an argument, that says nothing of it itself."""
    for mark in marks:
        # In `Annotated`, the first name that an option is given takes the place of its default.
        names = (mark.default, *(mark.param_decls or ()), mark.metavar)
        known = [found for name in names if isinstance(name, str) and (found := completion(name))]
        if known and mark.autocompletion is None:
            mark.autocompletion = known[0]


def log_from(source: Literal["environment", "quiet", "verbose"]) -> None:
    """Log to stderr from that level on. Raises InputError for a level that there is none of."""
    asked = {"quiet": "WARNING", "verbose": "DEBUG"}.get(source) or os.environ.get("SRFT_LOG") or "INFO"
    level = asked.upper()
    logger.remove()
    logger.add(
        _write_line,
        colorize=sys.stderr.isatty(),
        format="<dim>{time:HH:mm:ss}</dim> <level>{message}</level>",
        level=level if level in LEVELS else "INFO",
    )
    if level not in LEVELS:
        raise InputError(f"SRFT_LOG={asked}: expected one of {', '.join(LEVELS)}")
    os.environ["SRFT_LOG"] = level


def _write_line(line: str) -> None:
    """To what sys.stderr is now: a progress display puts a stream of its own in its place, which writes above it."""
    sys.stderr.write(line)
