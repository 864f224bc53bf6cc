"""Options that several commands share, and groups of options, each declared once as a function that builds a value from them."""

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer

from upres.engine.core.errors import SettingsError
from upres.engine.decode.filters import PREFILTERS

Command = Callable[..., None]
TIME = re.compile(r"(?:(?:(\d{1,6}):)?(\d{1,6}):)?(\d{1,9}\.?\d{0,12}|\.\d{1,12})")


def check_names(names: Iterable[str]) -> None:
    """Raise SettingsError if a name of a source or target is empty."""
    if not all(name.strip() for name in names):
        raise SettingsError("a name is empty; an unset shell variable may be the cause")


def scale_error(scale: object) -> SettingsError:
    """Return the error for a scale that no network has."""
    return SettingsError(
        f"--scale must be 2, 3 or 4, got {scale}; for a larger scale, chain two models: --chain x4,x2 gives 8 times; "
        "for any other size, set a height: upres IN OUT --height 1080 resamples down to it"
    )


def parse_scale(text: str) -> int:
    """Parse a scale such as 2, x2 or 2x; raises SettingsError."""
    number = text.lower().removeprefix("x").removesuffix("x")
    if not number.isdecimal():
        raise scale_error(text)
    return int(number)


def parse_time(option: str, text: str) -> Fraction:
    """Parse a time in seconds from an option's text; raises SettingsError if it is neither seconds nor [h:]m:s."""
    match = TIME.fullmatch(text.strip())
    if match is not None:
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        if (match[2] is None or seconds < 60) and (match[1] is None or minutes < 60):
            return 3600 * hours + 60 * minutes + seconds
    raise SettingsError(
        f"{option} must be seconds, such as 90.5, or [h:]m:s, such as 1:30.5 or 0:01:30.5; got {text!r}"
    )


Crf = Annotated[int, typer.Option(min=0, max=51, help="Encoding quality: lower is better and gives larger files.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing target.")]
Prefilters = Annotated[
    list[str] | None,
    typer.Option("--prefilter", metavar="NAME", help=f"Filter before upscaling: {', '.join(PREFILTERS)}; repeatable."),
]
Tonemap = Annotated[bool, typer.Option("--tonemap", help="Convert high dynamic range to SDR.")]


def with_options(**makers: Callable[..., Any]) -> Callable[[Command], Command]:
    """Return a decorator that builds a command's parameters with functions, whose own parameters become the command's options.

    The options of a maker with a PANEL are listed under that heading in the help. Results that are context managers are entered
    before the command runs and exited when it ends.
    """

    def decorate(command: Command) -> Command:
        options = {name: _options(maker) for name, maker in makers.items()}
        own_parameters = [
            parameter for parameter in signature(command).parameters.values() if parameter.name not in makers
        ]

        def run(**values: Any) -> None:  # noqa: ANN401 - as the command's
            with ExitStack() as stack:
                for name, maker in makers.items():
                    value = maker(**{option.name: values.pop(option.name) for option in options[name]})
                    values[name] = stack.enter_context(value) if isinstance(value, AbstractContextManager) else value
                command(**values)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        _set_signature(run, [*own_parameters, *(option for name in makers for option in options[name])])
        return run

    return decorate


def _options(maker: Callable[..., Any]) -> list[Parameter]:
    options = list(signature(maker).parameters.values())
    for option in options:
        for info in getattr(option.annotation, "__metadata__", ()):
            info.rich_help_panel = getattr(maker, "PANEL", None)
    return options


def _set_signature(run: Command, parameters: list[Parameter]) -> None:
    """Set the signature and the annotations of a function; Typer reads both."""
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # the attribute that inspect documents
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
