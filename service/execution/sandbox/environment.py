"""The environment variables of processes that open untrusted media, without secrets of the server or its result store."""

import os

SECRETS = ("UPRES_", "AWS_", "AZURE_", "GOOGLE_", "OTEL_")  # prefixes of variables that may contain secrets
RUNTIME = "UPRES_RUNTIME"  # the runtime of a worker's models
QUALITY = "UPRES_QUALITY"  # the numeric quality of a worker's models
FOR_ENGINE = ("UPRES_CACHE", "UPRES_RANDOM_WEIGHTS")  # variables that the engine reads, which are not secret


def environment() -> dict[str, str]:
    """Return this process's environment without variables that may contain secrets."""
    return {name: value for name, value in os.environ.items() if name in FOR_ENGINE or not name.startswith(SECRETS)}
