"""What is made of certificates and keys: read once, judged as PostgreSQL judges them, and known by the right hash."""

import contextlib
import datetime as dt
import hashlib
import os
import ssl
from pathlib import Path
from typing import Final

import pytest
from asn1crypto import pem
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from middleware.config import TlsMaterial, TlsSettings, build_settings
from middleware.config.tls import (
    ClientTls,
    TlsError,
    end_point_of,
    material_of,
    mistakes,
    not_after_of,
    server_context,
)
from tests.certificates import Certificates, signed

EC: Final = ec.generate_private_key(ec.SECP256R1())
RSA: Final = rsa.generate_private_key(65537, 2048)
PSS: Final = padding.PSS(padding.MGF1(hashes.SHA512()), padding.PSS.DIGEST_LENGTH)


@pytest.mark.parametrize(
    ("der", "hash_name"),
    [
        (signed(EC, hashes.SHA256()), "sha256"),
        (signed(EC, hashes.SHA384()), "sha384"),
        (signed(RSA, hashes.SHA512()), "sha512"),
        (signed(RSA, hashes.SHA512(), PSS), "sha512"),
        # As OpenSSL's X509_get_signature_info() tells PostgreSQL and libpq: these have none.
        (signed(ed25519.Ed25519PrivateKey.generate(), None), ""),
        (signed(ed448.Ed448PrivateKey.generate(), None), ""),
    ],
    ids=["ecdsa-sha256", "ecdsa-sha384", "rsa-sha512", "rsa-pss-sha512", "ed25519", "ed448"],
)
def test_the_hash_that_a_channel_is_bound_to(der: bytes, hash_name: str) -> None:
    assert end_point_of(der) == (hashlib.new(hash_name, der).digest() if hash_name else b"")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_files_are_read_once(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(certificates.path("server.key")).read_bytes())
    with both.open("ab") as file:
        file.write(Path(certificates.path("server.pem")).read_bytes())
    both.chmod(0o600)
    material = material_of(TlsSettings("require", str(both), ca_file=certificates.path("ca.pem")))
    both.unlink()
    before = len(os.listdir("/proc/self/fd"))
    tls = ClientTls(material)
    assert tls.context.verify_mode == ssl.CERT_OPTIONAL
    assert len(os.listdir("/proc/self/fd")) == before
    # The key stands first, and it is the certificate that is shown.
    der = next(bytes(der) for kind, _, der in pem.unarmor(material.certificate, multiple=True) if kind == "CERTIFICATE")
    assert tls._end_point == end_point_of(der)
    assert "PRIVATE" not in repr(material)


def test_the_first_to_expire_of_what_is_shown_counts(certificates: Certificates, tmp_path: Path) -> None:
    soon = dt.datetime(2100, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    certificates.issue("renewed", "localhost", not_after=soon)
    parts = [Path(certificates.path(name)).read_bytes() for name in ("renewed.key", "ca.pem", "renewed.pem")]
    assert not_after_of(TlsMaterial("require", parts[2])) == soon.timestamp()
    later = not_after_of(TlsMaterial("require", parts[1]))
    assert later is not None
    assert not_after_of(TlsMaterial("require", b"".join(parts))) == min(later, soon.timestamp())
    assert not_after_of(TlsMaterial()) is None
    # It has been found good by OpenSSL, whose reading is another.
    broken = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"
    assert not_after_of(TlsMaterial("require", parts[2] + broken)) is None


def test_what_cannot_be_used(certificates: Certificates, tmp_path: Path) -> None:
    server, key = certificates.path("server.pem"), certificates.path("server.key")
    locked, empty, opened = tmp_path / "locked", tmp_path / "empty", tmp_path / "opened"
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    empty.touch()
    opened.write_bytes(Path(key).read_bytes())
    locked.chmod(0o600)
    empty.chmod(0o600)
    opened.chmod(0o640 if os.getuid() else 0o644)
    for files, mistake in (
        ((server, str(locked)), ("key_file", "cannot be used: it has a passphrase")),
        ((server, str(empty)), ("key_file", "cannot be used: it is empty")),
        ((server, str(opened)), ("key_file", "cannot be used: others than its owner may read it (chmod 0600)")),
        ((server, certificates.path("app.key")), ("key_file", "cannot be used: key values mismatch")),
        ((str(tmp_path / "none"), key), ("cert_file", "cannot be used: no such file or directory")),
        ((server, key, str(empty)), ("ca_file", "cannot be used: it is empty")),
        ((server, key, key), ("ca_file", "cannot be used: no certificate or crl found")),
    ):
        assert list(mistakes(TlsSettings("require", *files), server_side=True)) == [mistake]
    with pytest.raises(TlsError):
        server_context(TlsMaterial("require", b"nonsense", b"nonsense"))


@pytest.mark.parametrize(("least", "fails"), [("TLSv1.2", False), ("TLSv1.3", True)])
def test_server_tls_min_protocol(certificates: Certificates, least: str, fails: bool) -> None:
    """A node that knows no more than TLS 1.2."""
    tables = {"health_check": {"user": "monitor", "password": "secret"}, "users": {"app": {"password": "secret"}}}
    settings = build_settings(
        {
            **tables,
            "nodes": {"db1": {"host": "localhost", "port": 1}},
            "server_tls_sslmode": "verify-full",
            "server_tls_ca_file": certificates.path("ca.pem"),
            "server_tls_min_protocol": least,
        }
    )
    node_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    node_context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
    node_context.maximum_version = ssl.TLSVersion.TLSv1_2
    ours = server_context(material_of(settings.server_tls()))
    assert ours is not None
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(back, there, server_hostname="localhost")
    node = node_context.wrap_bio(there, back, server_side=True)

    def shake_hands() -> None:
        for _ in range(3):
            for end in (client, node):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()

    if fails:
        with pytest.raises(ssl.SSLError):
            shake_hands()
    else:
        shake_hands()
        assert client.version() == "TLSv1.2"
