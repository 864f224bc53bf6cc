"""A request for an upscale as it comes over HTTP: fields of a form, or JSON, to a spec, naming everything that is wrong."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from upres.service.domain.errors import InvalidError
from upres.service.domain.spec import Spec

NUMBERS = {"scale": int, "crf": int, "segment_seconds": float}
WORDS = ("content", "codec", "preset", "webhook_url")
UPLOAD_SECONDS = 600
TRUE = ("1", "true", "on", "yes")

Problems = dict[str, list[str]]


async def fields(request: Request) -> FormData:
    """The fields of a request, whichever of the three encodings it has; InvalidError where it has none of them."""
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            if request.headers.get("content-type", "").startswith("application/json"):
                return FormData(_json(await request.body()))
            return await request.form(max_files=4, max_fields=64)
    except TimeoutError as error:
        raise InvalidError({"video": [f"The upload must come within {UPLOAD_SECONDS} seconds."]}) from error


def spec_of(form: Mapping[str, Any]) -> tuple[Spec, Problems]:
    """What is asked for; and for each field that cannot be understood, why. Empty text means absent.

    Space around text is passed over, but not in a secret, of which every character counts.
    """
    given: dict[str, Any] = {}
    problems: Problems = {}
    texts = {name: value.strip() for name, value in form.items() if isinstance(value, str) and value.strip()}
    for name, kind in NUMBERS.items():
        if name in texts:
            try:
                given[name] = kind(texts[name])
            except ValueError:
                what = "an integer" if kind is int else "a number"
                problems[name] = [f"The {name.replace('_', ' ')} must be {what}."]
    given |= {name: texts[name] for name in WORDS if name in texts}
    if "webhook_secret" in texts:
        given["webhook_secret"] = form["webhook_secret"]
    if "model" not in texts:
        problems["model"] = ["The model field is required."]
    prefilters = tuple(name.strip() for name in texts.get("prefilters", "").split(",") if name.strip())
    split = texts.get("split", "").lower() in TRUE
    return Spec(texts.get("model", ""), prefilters=prefilters, split=split, **given), problems


def number(form: Mapping[str, Any], name: str, problems: Problems) -> float | None:
    """A positive number of a form, None where it is absent; otherwise a problem."""
    text = form.get(name)
    if text is None or not str(text).strip():
        return None
    try:
        value = float(str(text))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        problems[name] = [f"The {name} must be a positive number."]
        return None
    return value


def fingerprint(spec: Spec, file: UploadFile) -> str:
    """What an idempotency key stands for: the settings and the file's bytes. Reads the file from its beginning."""
    file.file.seek(0)
    digest = hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode())
    while chunk := file.file.read(1 << 20):
        digest.update(chunk)
    file.file.seek(0)
    return digest.hexdigest()


def _json(body: bytes) -> dict[str, str]:
    try:
        values = json.loads(body)
        json.dumps(values, ensure_ascii=False).encode()  # text that is no Unicode cannot be told back
    except (ValueError, RecursionError) as error:
        raise InvalidError({"body": ["The body must be a form or JSON."]}) from error
    if not isinstance(values, dict):
        raise InvalidError({"body": ["The body must be a JSON object."]})
    return {str(name): str(value) for name, value in values.items() if value is not None}
