"""The ids of jobs: UUIDs in their usual form."""

import uuid

from .errors import InvalidError


def new_id() -> str:
    """Make a request_id."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Report whether this is a UUID in lower case with hyphens, as a request_id is."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def checked_id(text: str) -> str:
    """Give the request_id back if it is a UUID; raise InvalidError otherwise, for it becomes the name of a folder."""
    if is_id(text):
        return text
    raise InvalidError({"request_id": ["The request_id must be a UUID in lower case with hyphens."]})
