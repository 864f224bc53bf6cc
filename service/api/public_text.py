"""Messages for clients: limited in length, and without paths of the server."""

import re

# At least two path components, and not the part after a URL's scheme.
PATH = re.compile(r"(?<![\w:/.~])~?/(?:[^\s/:;,()'\"]+/)+[^\s/:;,()'\"]*")


def public(text: str, most_bytes: int = 1000) -> str:
    """Cut a text to a number of UTF-8 bytes, with every absolute path replaced by an ellipsis.

    A lone surrogate, which JSON can contain but UTF-8 cannot, becomes a question mark.
    """
    data = PATH.sub("…", text[: 4 * most_bytes]).encode(errors="replace")
    return data.decode() if len(data) <= most_bytes else data[: most_bytes - 3].decode(errors="ignore") + "…"
