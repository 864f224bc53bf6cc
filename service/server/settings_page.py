"""A Markdown page of all settings, generated from their definitions: `upres serve --list-settings`."""

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.filesize import decimal

from upres.engine.core.text import number

from .settings import Settings

INTRODUCTION = """# Settings

`upres serve` reads settings from a TOML file (`--config upres.toml`) and from the environment, which takes precedence:
`slots = 2` in the file is `UPRES_SLOTS=2` in the environment. Sizes are in bytes, times in seconds. Lists and tables in the
environment are JSON: `UPRES_CORS_ORIGINS='["https://app.example"]'`, `UPRES_CLIP_SECONDS='{"RealESRGAN_Vid_x4": 60}'`.
If settings are out of range, or unknown in the file, the server does not start and one message names all of them. It also
warns about variables whose name is close to that of a setting. Tracing is configured with the standard OpenTelemetry variables
([Observability](observability.md)).

`upres serve --list-settings` prints this page.

| setting | default | description |
|---|---|---|
"""
LARGE = 1 << 20


def page() -> str:
    """Return the page."""
    rows = (
        f"| `{name}` | {_default(name, field)} | {_describe(field)} |\n"
        for name, field in Settings.model_fields.items()
    )
    return INTRODUCTION + "".join(rows)


def _default(name: str, field: FieldInfo) -> str:
    if name == "state":
        return "`upres` in the user's data folder"  # differs from machine to machine
    value: Any = field.default_factory() if field.default is PydanticUndefined else field.default  # type: ignore[misc, call-arg]
    if value is None or value == [] or value == {}:
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if name.endswith("_bytes") and value >= LARGE:
        return f"`{value}` ({decimal(value)})"
    return f"`{number(value)}`" if isinstance(value, float) else f"`{value}`"


def _describe(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")
