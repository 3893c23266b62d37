"""Certificates for tests: an authority, what it has signed, and another authority that nobody trusts."""

import datetime as dt
from pathlib import Path
from typing import Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def signed(key: Key, algorithm: hashes.HashAlgorithm | None, rsa_padding: padding.PSS | None = None) -> bytes:
    """A certificate for localhost that has signed itself, in DER."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    made = builder.sign(key, algorithm, rsa_padding=rsa_padding)  # type: ignore[arg-type]
    return made.public_bytes(serialization.Encoding.DER)


class Certificates:
    """Files in a directory: ca.pem, server.pem, server.key, NAME.pem, NAME.key, and those of another authority."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self._authorities = {"": trustme.CA(organization_name="Ours"), "other-": trustme.CA()}
        for prefix, authority in self._authorities.items():
            authority.cert_pem.write_to_path(self.path(f"{prefix}ca.pem"))
            self.issue(f"{prefix}server", "localhost", "127.0.0.1", "::1", authority=prefix)
            self.issue(f"{prefix}app", "app", name="app", authority=prefix)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def issue(
        self,
        file: str,
        *hosts: str,
        name: str | None = None,
        authority: str = "",
        not_after: dt.datetime | None = None,
    ) -> None:
        """A certificate and its key, in `file`.pem and `file`.key."""
        issued = self._authorities[authority].issue_cert(*hosts, common_name=name, not_after=not_after)
        key = Path(self.path(f"{file}.key"))
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        certificate = Path(self.path(f"{file}.pem"))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def server_settings(self, prefix: str = "", **more: str) -> dict[str, str]:
        """The settings for TLS with clients."""
        return {
            "client_tls_cert_file": self.path(f"{prefix}server.pem"),
            "client_tls_key_file": self.path(f"{prefix}server.key"),
            **more,
        }
