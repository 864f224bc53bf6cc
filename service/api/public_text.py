"""Messages as strangers may read them: bounded, and without the server's own paths."""

import re

# Two names or more; not what follows a URL's scheme.
PATH = re.compile(r"(?<![\w:/.~])~?/(?:[^\s/:;,()'\"]+/)+[^\s/:;,()'\"]*")


def public(text: str, most_bytes: int = 1000) -> str:
    """Cut a text to a number of UTF-8 bytes, with every absolute path in it replaced by an ellipsis.

    Half a surrogate pair, which JSON can say and UTF-8 cannot, becomes a question mark.
    """
    data = PATH.sub("…", text[: 4 * most_bytes]).encode(errors="replace")
    return data.decode() if len(data) <= most_bytes else data[: most_bytes - 3].decode(errors="ignore") + "…"
