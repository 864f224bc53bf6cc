"""The health check of a container: `python -m upres.service.server.health` asks the server on this machine.

Imports nothing of the service, since it runs every half minute on the smallest box. It knows the port and TLS from the
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
    """Find what is wrong with the server; None where it answers. The certificate is not checked: it names another host."""
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
        return f"no server lives on port {port} ({error}); is `upres serve` running, and UPRES_HTTP_PORT its port?"


def main() -> None:
    """Exit with 0 where the server lives, else say why not and exit with 1."""
    sys.exit(check(os.environ))


if __name__ == "__main__":
    main()
