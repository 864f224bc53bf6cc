"""Messages about invalid settings, which name where each was set and, unless it may be secret, its value."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

PREFIX = "UPRES_"
MAX_VALUE = 80  # characters of a value that are shown


class Environment(EnvSettingsSource):
    """Settings from environment variables."""

    def decode_complex_value(self, *args: Any) -> Any:  # noqa: ANN401 - as in the base class
        """Decode JSON. Text that is not JSON is left to the validation, which reports all problems together."""
        with suppress(ValueError):
            return super().decode_complex_value(*args)
        return args[-1]


def invalid_settings(
    error: ValidationError,
    arguments: Collection[str],
    environment: Mapping[str, str],
    file: Path | None,
    secret: Collection[str],
) -> list[str]:
    """Return a message for each problem. arguments: names set by the caller. secret: names whose values are not shown."""
    variables = {name.upper(): name for name in environment}
    messages = []
    for problem in error.errors(include_url=False):
        name, *inner = map(str, problem["loc"])
        if name in arguments:
            where = name
        elif variable := variables.get(f"{PREFIX}{name.upper()}"):
            where = variable
        else:
            where = name if file is None else f"{file}: {name}"
        messages.append(f"{'.'.join((where, *inner))}: {_reason(problem, shown=name not in secret)}")
    return messages


def _reason(problem: Mapping[str, Any], *, shown: bool) -> str:
    if problem["type"] == "extra_forbidden":  # its value is not shown: the name may be that of a secret, mistyped
        return "is not a setting"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    value = repr(problem["input"])
    return f"{message}, got {value[:MAX_VALUE]}{'…' if len(value) > MAX_VALUE else ''}" if shown else message
