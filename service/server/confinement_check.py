"""What a server says where its system cannot cut off the processes that open strangers' media."""

import ipaddress
import logging

from upres.engine.core.errors import SettingsError
from upres.service.execution.sandbox.confinement import Confinement

NETWORK = (
    "this system does not cut processes that open strangers' media off from the network; "
    "it takes Linux with seccomp on x86-64 or ARM64, or with user namespaces"
)
FILES = "this system does not keep processes that open strangers' media from the server's files; it takes Linux 5.13 with Landlock"

logger = logging.getLogger(__name__)


def check_confinement(confinement: Confinement, host: str, *, allow_unconfined: bool) -> None:
    """Warn of what the system cannot do. SettingsError where a server on other than loopback has no way to cut off the network."""
    if not confinement.network:
        if not allow_unconfined and not is_loopback(host):
            raise SettingsError(f"{NETWORK}; listen on 127.0.0.1, or set UPRES_ALLOW_UNCONFINED=true to serve without")
        logger.warning(NETWORK)
    if not confinement.files:
        logger.warning(FILES)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
