"""The health check of a container: `python -m upres.service.server.health` queries the server on this machine.

It imports nothing of the service, because it runs every half minute on the smallest machine. It reads the port and TLS from the
environment only, not from a TOML file.
"""

import os
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPException
from urllib.request import urlopen

SECONDS = 4.0


def check(environment: Mapping[str, str]) -> str | None:
    """Return the server's problem; None if it responds. The certificate is not verified, because it is for another host name."""
    secure = bool(environment.get("UPRES_TLS_CERTIFICATE"))
    port = environment.get("UPRES_HTTP_PORT", "8080")
    try:
        with urlopen(
            f"http{'s' if secure else ''}://127.0.0.1:{port}/healthz",
            timeout=SECONDS,
            context=ssl._create_unverified_context() if secure else None,
        ):
            return None
    except (OSError, HTTPException) as error:
        return (
            f"no server responds on port {port} ({error}); is `upres serve` running, and is UPRES_HTTP_PORT its port?"
        )


def main() -> None:
    """Exit with 0 if the server responds, otherwise print the problem and exit with 1."""
    sys.exit(check(os.environ))


if __name__ == "__main__":
    main()
