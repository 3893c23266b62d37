"""TLS contexts, made of the files and words of the settings, and what there is to know of a connection that has one.

Files are read when a context is made, and never again: a reload makes a new context, for the connections that come
after it. ALPN is PostgreSQL's own name, which direct negotiation demands ("SSL Session Encryption").
"""

import hashlib
import os
import ssl
import stat
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from asn1crypto import pem, x509

from middleware.config.worker import TlsSettings

ALPN: Final = "postgresql"

VERIFYING: Final = ("verify-ca", "verify-full")
ENFORCING: Final = ("require", *VERIFYING)
"""The sslmodes that let nobody in without TLS."""
_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_ATTRIBUTES: Final = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "domainComponent": "DC",
    "userId": "UID",
    "emailAddress": "emailAddress",
}


class Encryption(NamedTuple):
    """TLS with a client, once its handshake is done."""

    version: str
    """"TLSv1.3", .."""
    cipher: str
    bits: int
    server_end_point: bytes
    """The hash of our own certificate: SCRAM's channel binding of type tls-server-end-point (RFC 5929)."""
    common_name: str
    """Of the client's certificate, which was verified; "" for none."""
    distinguished_name: str
    """The same, as RFC 4514 writes it."""


class TlsError(Exception):
    """A file cannot be used. `key` is the end of the setting's name that names it, such as "cert_file"."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


class ClientTls:
    """What clients' handshakes need, of one reading of the files."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises TlsError."""
        self.sslmode: Final = settings.sslmode
        context = _context(ssl.PROTOCOL_TLS_SERVER, settings)
        if settings.sslmode in VERIFYING:
            context.verify_mode = ssl.CERT_REQUIRED
        elif settings.ca_file:
            context.verify_mode = ssl.CERT_OPTIONAL
        self.context: Final = context
        self._end_point: Final = end_point_of(_certificate(settings.cert_file))

    def encryption(self, transport: Any) -> Encryption:
        """What is known of a connection after its handshake."""
        cipher, version, bits = transport.get_extra_info("cipher")
        subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
        names = [(_ATTRIBUTES.get(name, name), value) for part in subject for name, value in part]
        common_name = next((value for name, value in reversed(names) if name == "CN"), "")
        # Most specific first, as PostgreSQL shows and maps it.
        distinguished = ",".join(f"{name}={value}" for name, value in reversed(names))
        return Encryption(version, cipher, bits, self._end_point, common_name, distinguished)


def server_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """What connections to nodes need; None for no TLS. Raises TlsError."""
    if settings.sslmode == "disable":
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT, settings)
    context.check_hostname = settings.sslmode == "verify-full"
    # As libpq: a file that says who is trusted is not given to be passed over.
    verifies = settings.sslmode in VERIFYING or (settings.sslmode == "require" and bool(settings.ca_file))
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    if verifies and not settings.ca_file:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def asyncpg_tls(settings: TlsSettings) -> ssl.SSLContext | str | bool:
    """What asyncpg takes for the same. Raises TlsError."""
    if settings.sslmode in ("allow", "prefer"):
        # With a context it would not go on without TLS.
        return settings.sslmode
    return server_context(settings) or False


def end_point_of(der: bytes) -> bytes:
    """The hash for tls-server-end-point: by the hash of the certificate's signature, SHA-256 where that is weak."""
    try:
        name = x509.Certificate.load(der)["signature_algorithm"].hash_algo
    except ValueError:
        # Ed25519 and its like have no hash of their own: RFC 5929 leaves them undefined, OpenSSL's users take SHA-256.
        name = "sha256"
    return hashlib.new("sha256" if name in ("md5", "sha1") else name, der).digest()


def _certificate(file: str) -> bytes:
    """The first one of a file."""
    with open(file, "rb") as opened:
        _, _, der = next(iter(pem.unarmor(opened.read(), multiple=True)))
    return bytes(der)


def mistakes(settings: TlsSettings, *, server_side: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with the settings of one side: the end of a setting's name, and why."""
    if settings.sslmode == "disable":
        return
    if server_side and not settings.cert_file:
        yield "cert_file", f'missing: client_tls_sslmode "{settings.sslmode}" needs one'
        return
    if server_side and settings.sslmode in VERIFYING and not settings.ca_file:
        yield "ca_file", f'missing: client_tls_sslmode "{settings.sslmode}" needs one'
        return
    if settings.direct and settings.sslmode not in ENFORCING:
        yield "negotiation", '"direct" is not allowed with an sslmode below "require": it cannot fall back'
    try:
        if server_side:
            ClientTls(settings)
        else:
            server_context(settings)
    except TlsError as error:
        yield error.key, str(error)


def _context(protocol: int, settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = _VERSIONS[settings.min_protocol]
    context.set_alpn_protocols([ALPN])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if settings.cert_file:
        key_file = settings.key_file or settings.cert_file
        _check_key(key_file)
        try:
            context.load_cert_chain(settings.cert_file, key_file)
        except OSError as error:
            key = "key_file" if isinstance(error, ssl.SSLError) and "KEY" in (error.reason or "") else "cert_file"
            raise TlsError(key, f"cannot be used: {_why(error)}") from None
    if settings.ca_file:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as error:
            raise TlsError("ca_file", f"cannot be used: {_why(error)}") from None
    return context


def _check_key(path: str) -> None:
    """As PostgreSQL: a key that others may read is refused."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise TlsError("key_file", f"cannot be used: {_why(error)}") from None
    allowed = stat.S_IRWXU | (stat.S_IRGRP if status.st_uid == 0 else 0)
    if stat.S_IMODE(status.st_mode) & ~allowed:
        raise TlsError("key_file", "cannot be used: others than its owner may read it (chmod 0600)")


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return (error.strerror or str(error)).lower()
