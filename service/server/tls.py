"""The certificate of both endpoints, checked by both before either listens."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from upres.engine.core.errors import SettingsError


def grpc_credentials(certificate: Path | None, key: Path | None) -> grpc.ServerCredentials | None:
    """Read the certificate; None without one. SettingsError where either endpoint does not take it."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError("tls_certificate and tls_key go together; one of them is missing")
    try:
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, _no_password)
    except ssl.SSLError as error:
        raise SettingsError(f"tls_certificate and tls_key are not taken by HTTP: {error.reason or error}") from error
    except OSError as error:
        raise SettingsError(f"{error.filename}: cannot be read for TLS ({error.strerror})") from error
    if not _grpc_takes(credentials):
        raise SettingsError(
            "tls_certificate and tls_key are not taken by gRPC; it takes PEM with RSA or an elliptic curve of NIST"
        )
    return credentials


def _no_password() -> str:
    """Refuse a key that is encrypted, for which OpenSSL would otherwise ask the terminal."""
    raise SettingsError("tls_key is encrypted; decrypt it first: openssl pkey -in KEY -out PLAIN_KEY")


def _grpc_takes(credentials: grpc.ServerCredentials) -> bool:
    """Report whether gRPC can listen with a certificate: any free port will do, so that nothing else can be wrong."""
    server = grpc.server(ThreadPoolExecutor(1))
    try:
        return server.add_secure_port("127.0.0.1:0", credentials) > 0
    except RuntimeError:
        return False
    finally:
        server.stop(None)
