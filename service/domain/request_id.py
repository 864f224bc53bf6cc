"""Job ids: UUIDs in canonical form."""

import uuid

from .errors import InvalidError


def new_id() -> str:
    """Create a request_id."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Report whether a text is a UUID in lower case with hyphens."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def checked_id(text: str) -> str:
    """Return the request_id if it is a UUID; raise InvalidError otherwise, as it becomes the name of a folder."""
    if is_id(text):
        return text
    raise InvalidError({"request_id": ["The request_id must be a UUID in lower case with hyphens."]})
