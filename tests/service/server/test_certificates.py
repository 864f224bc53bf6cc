"""A certificate that either endpoint cannot use is rejected before the server starts, with the reason."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from upres.engine.core.errors import SettingsError
from upres.service.server.tls import grpc_credentials

KEYS = {
    "good": lambda: ec.generate_private_key(ec.SECP256R1()),
    "small": lambda: rsa.generate_private_key(65537, 1024),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def write(folder, kind, *, password=None):
    key = KEYS[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).serial_number(1)
    certificate = builder.sign(key, None if kind == "ed25519" else hashes.SHA256())
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    paths = folder / f"{kind}.pem", folder / f"{kind}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(private)
    return paths


def test_a_good_one_is_taken_and_none_is_none(tmp_path):
    assert grpc_credentials(*write(tmp_path, "good")) is not None
    assert grpc_credentials(None, None) is None


def test_what_is_wrong_is_said(tmp_path):
    good, other = write(tmp_path, "good"), write(tmp_path, "small")
    encrypted = write(tmp_path, "ed25519", password=b"secret")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no PEM")
    for certificate, key, problem in (
        (good[0], None, "must be set together"),
        (good[0], other[1], "HTTP cannot use"),
        (nonsense, good[1], "HTTP cannot use"),
        (good[0], tmp_path / "missing", "missing: cannot be read"),
        (encrypted[0], encrypted[1], "is encrypted; decrypt it first"),
    ):
        with pytest.raises(SettingsError, match=problem):
            grpc_credentials(certificate, key)


@pytest.mark.parametrize("kind", ["small", "brainpool", "ed25519"])
def test_one_that_an_endpoint_may_not_take_is_either_taken_by_both_or_refused(tmp_path, kind):
    try:
        assert grpc_credentials(*write(tmp_path, kind)) is not None
    except SettingsError as error:
        assert "cannot use" in str(error)
