"""The environment variables of processes that open strangers' media: no secret of the server's, or of its result store."""

import os

SECRETS = ("UPRES_", "AWS_", "AZURE_", "GOOGLE_", "OTEL_")  # prefixes of variables that hold some
RUNTIME = "UPRES_RUNTIME"  # what a worker runs its models on
QUALITY = "UPRES_QUALITY"  # at which quality
FOR_ENGINE = ("UPRES_CACHE", "UPRES_RANDOM_WEIGHTS")  # what the engine itself reads: no secrets


def environment() -> dict[str, str]:
    """Return this process's variables without those that may hold secrets."""
    return {name: value for name, value in os.environ.items() if name in FOR_ENGINE or not name.startswith(SECRETS)}
