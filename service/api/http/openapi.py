"""What the served OpenAPI says of requests that are read by hand. Facts of the contract, no behaviour."""

from typing import Any


def _query(name: str, kind: str = "string", *, needed: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": needed, "schema": {"type": kind}}


BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["video", "model"],
                "properties": {
                    "video": {"type": "string", "format": "binary"},
                    "model": {"type": "string"},
                    "scale": {"type": "integer"},
                    "content": {"type": "string"},
                    "prefilters": {"type": "string", "description": "names, comma between"},
                    "split": {"type": "boolean"},
                    "webhook_url": {"type": "string", "format": "uri"},
                    "webhook_secret": {"type": "string", "minLength": 32, "maxLength": 255},
                },
            }
        }
    },
}

CHANNEL = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {
                "schema": {
                    "type": "object",
                    "required": ["socket_id", "channel_name"],
                    "properties": {"socket_id": {"type": "string"}, "channel_name": {"type": "string"}},
                }
            }
            for kind in ("application/json", "application/x-www-form-urlencoded")
        },
    }
}
UPSCALE = {"requestBody": BODY}
PAGED = {"parameters": [_query("limit", "integer"), _query("page", "integer"), _query("filter[inference_types]")]}
SIGNED = {"parameters": [_query("expires", "integer", needed=True), _query("signature", needed=True)]}
