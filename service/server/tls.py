"""The TLS certificate of both endpoints, validated for both before either listens."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from upres.engine.core.errors import SettingsError


def grpc_credentials(certificate: Path | None, key: Path | None) -> grpc.ServerCredentials | None:
    """Read the certificate; None without one. SettingsError if either endpoint cannot use it."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError("tls_certificate and tls_key must be set together; one of them is missing")
    try:
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, _no_password)
    except ssl.SSLError as error:
        raise SettingsError(f"HTTP cannot use tls_certificate and tls_key: {error.reason or error}") from error
    except OSError as error:
        raise SettingsError(f"{error.filename}: cannot be read for TLS ({error.strerror})") from error
    if not _grpc_accepts(credentials):
        raise SettingsError(
            "gRPC cannot use tls_certificate and tls_key; it needs PEM with RSA or a NIST elliptic curve"
        )
    return credentials


def _no_password() -> str:
    """Reject an encrypted key, for which OpenSSL would otherwise prompt on the terminal."""
    raise SettingsError("tls_key is encrypted; decrypt it first: openssl pkey -in KEY -out PLAIN_KEY")


def _grpc_accepts(credentials: grpc.ServerCredentials) -> bool:
    """Return whether gRPC can listen with a certificate; it uses any free port, so that nothing else can fail."""
    server = grpc.server(ThreadPoolExecutor(1))
    try:
        return server.add_secure_port("127.0.0.1:0", credentials) > 0
    except RuntimeError:
        return False
    finally:
        server.stop(None)
