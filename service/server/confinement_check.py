"""Warnings and errors if the system cannot confine the processes that open untrusted media."""

import ipaddress
import logging

from upres.engine.core.errors import SettingsError
from upres.service.execution.sandbox.confinement import Confinement

NETWORK = (
    "this system cannot cut processes that open untrusted media off from the network; "
    "this needs Linux with seccomp on x86-64 or ARM64, or with user namespaces"
)
FILES = "this system cannot keep processes that open untrusted media from the server's files; this needs Linux 5.13 with Landlock"

logger = logging.getLogger(__name__)


def check_confinement(confinement: Confinement, host: str, *, allow_unconfined: bool) -> None:
    """Warn about missing confinement. SettingsError if the network cannot be cut off and the server listens beyond loopback."""
    if not confinement.network:
        if not allow_unconfined and not is_loopback(host):
            raise SettingsError(
                f"{NETWORK}; listen on 127.0.0.1, or set UPRES_ALLOW_UNCONFINED=true to serve without it"
            )
        logger.warning(NETWORK)
    if not confinement.files:
        logger.warning(FILES)


def is_loopback(host: str) -> bool:
    """Return whether a host to listen on is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
