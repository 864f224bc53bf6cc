"""Request forms as Pydantic models, and the route class that reads them: multipart, URL-encoded or JSON, within limits.

A value of the wrong type does not abort the validation. It becomes a Problem in its field, so that one response can list it
together with the problems that `domain.checks` finds.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Annotated, Any

from fastapi import UploadFile as FastAPIUploadFile
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, ValidationError, WithJsonSchema, WrapValidator
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from upres.service.domain.errors import InvalidError, TooLargeError
from upres.service.domain.spec import Spec

UPLOAD_SECONDS = 600
JSON_BYTES = 1 << 18  # parsed in one step in the event loop
FIELD_BYTES = 1 << 16
FIELDS, FILES = 64, 4
SPEC_FIELDS = (
    "scale",
    "content",
    "codec",
    "preset",
    "crf",
    "segment_seconds",
    "split",
    "webhook_url",
    "webhook_secret",
)

Problems = dict[str, list[str]]


class Problem(str):
    """The description of what a field's value must be, in place of an invalid value."""


def _or_problem(kind: str) -> WrapValidator:
    def validate(value: object, handler: Callable[[object], object]) -> object:
        try:
            return handler(value)
        except ValidationError:
            return Problem(f"must be {kind}")

    return WrapValidator(validate)


def _names(value: object) -> object:
    """Split a list of names, given as comma-separated text, as repeated fields, or as a JSON array."""
    parts = value if isinstance(value, list) else [value]
    return [name.strip() for part in parts for name in str(part).split(",") if name.strip()]


Text = Annotated[str | None, BeforeValidator(lambda value: value.strip() or None if isinstance(value, str) else value)]
Word = Annotated[Text, _or_problem("text")]
Secret = Annotated[str | None, _or_problem("text")]  # not stripped: every character counts
Integer = Annotated[int | None, _or_problem("an integer")]
Number = Annotated[FiniteFloat | None, _or_problem("a number")]
Flag = Annotated[bool, _or_problem("true or false")]
Names = Annotated[list[str], BeforeValidator(_names)]
File = Annotated[
    FastAPIUploadFile | None, _or_problem("a file"), WithJsonSchema({"type": "string", "format": "binary"})
]


class UpscaleForm(BaseModel):
    """A video to be upscaled. The hosted API knows only `video`, `model` and, for models with several scales, `scale`.

    models: several models, applied one after the other, instead of `model`, which may be the first of them.
    """

    model_config = ConfigDict(json_schema_extra={"required": ["video", "model"]}, protected_namespaces=())

    video: File = None
    model: Word = None
    models: Names = []
    scale: Integer = None
    content: Word = None
    prefilters: Names = []
    codec: Word = None
    crf: Integer = None
    preset: Word = None
    segment_seconds: Number = None
    split: Flag = False
    webhook_url: Word = None
    webhook_secret: Secret = None

    def problems(self) -> Problems:
        """Return the problems of fields that are missing or of the wrong type."""
        wrong = {name: value for name, value in self if isinstance(value, Problem)}
        problems = {name: [f"The {name.replace('_', ' ')} {value}."] for name, value in wrong.items()}
        if self.model is None and not self.models:
            problems["model"] = ["The model field is required."]
        return problems

    def spec(self) -> Spec:
        """Return the spec, with defaults for absent or invalid fields."""
        values = {name: value for name, value in self if name in SPEC_FIELDS and not isinstance(value, Problem)}
        present = {name: value for name, value in values.items() if value is not None}
        if not present.get("webhook_secret", "").strip():
            present.pop("webhook_secret", None)
        model = next(iter(self.models), "") if self.model is None or isinstance(self.model, Problem) else self.model
        return Spec(model, tuple(self.models), prefilters=tuple(self.prefilters), **present)


class PriceForm(UpscaleForm):
    """An upscale to be estimated, given by a video or by its properties. duration: seconds."""

    model_config = ConfigDict(json_schema_extra={"required": ["model"]}, protected_namespaces=())

    width: Integer = None
    height: Integer = None
    duration: Number = None


class ChannelForm(BaseModel):
    """A subscription of one connection to a channel of the progress socket."""

    model_config = ConfigDict(json_schema_extra={"required": ["socket_id", "channel_name"]})

    socket_id: Annotated[str | None, _or_problem("text")] = None
    channel_name: Annotated[str | None, _or_problem("text")] = None


class FormRequest(Request):
    """A request whose form was read already."""

    def __init__(self, request: Request, fields: FormData) -> None:
        super().__init__(request.scope, request.receive)
        self._fields = fields

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]  # noqa: ANN401 - FastAPI awaits it
        """Return the form; FastAPI's own limits do not apply to it."""
        return self._fields


class FormRoute(APIRoute):
    """A route that also accepts JSON as a form, and rejects forms that are malformed, too large, or too slow."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that reads the form before FastAPI does."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(FormRequest(request, await _fields(request)))

        return read


def fingerprint(spec: Spec, file: UploadFile) -> str:
    """Hash what an idempotency key identifies: the settings and the file's bytes. Reads the file from its beginning."""
    file.file.seek(0)
    digest = hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode())
    while chunk := file.file.read(1 << 20):
        digest.update(chunk)
    file.file.seek(0)
    return digest.hexdigest()


async def _fields(request: Request) -> FormData:
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            if request.headers.get("content-type", "").startswith("application/json"):
                return FormData(list(_items(_json(await _body(request)))))
            return await request.form(max_files=FILES, max_fields=FIELDS, max_part_size=FIELD_BYTES)
    except TimeoutError as error:
        raise InvalidError({"video": [f"The upload must finish within {UPLOAD_SECONDS} seconds."]}) from error
    except HTTPException as error:  # Starlette's error for a form that cannot be parsed
        raise InvalidError({"body": [f"The form cannot be read: {error.detail}"]}) from error


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BYTES:
            raise TooLargeError(f"A JSON body must not be larger than {JSON_BYTES} bytes.")
    return bytes(body)


def _json(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidError({"body": ["The body must be a form or JSON."]}) from error
    if not isinstance(values, dict):
        raise InvalidError({"body": ["The body must be a JSON object."]})
    return values


def _items(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Flatten a JSON object into form fields: an array is a repeated field, null is absent."""
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                yield name, item
