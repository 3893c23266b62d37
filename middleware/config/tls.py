"""TLS contexts, made of the files and words of the settings, and what there is to know of a connection that has one.

Files are read once, together, into TlsMaterial: what was found good is what is used, in every process, whatever
becomes of the files. A reload makes new contexts, for the connections that come after it. ALPN is PostgreSQL's own
name, which direct negotiation demands ("SSL Session Encryption").
"""

import contextlib
import hashlib
import os
import ssl
import stat
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from asn1crypto import pem, x509

from middleware.config.worker import TlsMaterial, TlsSettings

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
    """The hash of our own certificate: SCRAM's channel binding of type tls-server-end-point; empty for none."""
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

    def __init__(self, material: TlsMaterial) -> None:
        """Raises TlsError."""
        self.sslmode: Final = material.sslmode
        context = _context(ssl.PROTOCOL_TLS_SERVER, material)
        if material.sslmode in VERIFYING:
            context.verify_mode = ssl.CERT_REQUIRED
        elif material.authorities:
            context.verify_mode = ssl.CERT_OPTIONAL
        self.context: Final = context
        self._end_point: Final = end_point_of(_first_certificate(material.certificate))

    def encryption(self, transport: Any) -> Encryption:
        """What is known of a connection after its handshake."""
        cipher, version, bits = transport.get_extra_info("cipher")
        subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
        names = [(_ATTRIBUTES.get(name, name), value) for part in subject for name, value in part]
        common_name = next((value for name, value in reversed(names) if name == "CN"), "")
        # Most specific first, as PostgreSQL shows and maps it.
        distinguished = ",".join(f"{name}={value}" for name, value in reversed(names))
        return Encryption(version, cipher, bits, self._end_point, common_name, distinguished)


def client_tls_of(material: TlsMaterial) -> ClientTls | None:
    """None for no TLS. Raises TlsError."""
    return None if material.sslmode == "disable" else ClientTls(material)


def server_context(material: TlsMaterial) -> ssl.SSLContext | None:
    """What connections to nodes need; None for no TLS. Raises TlsError."""
    if material.sslmode == "disable":
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT, material)
    context.check_hostname = material.sslmode == "verify-full"
    # As libpq: a file that says who is trusted is not given to be passed over.
    verifies = material.sslmode in VERIFYING or (material.sslmode == "require" and bool(material.authorities))
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    if verifies and not material.authorities:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def asyncpg_tls(material: TlsMaterial) -> ssl.SSLContext | str | bool:
    """What asyncpg takes for the same. Raises TlsError."""
    if material.sslmode in ("allow", "prefer"):
        # With a context it would not go on without TLS.
        return material.sslmode
    return server_context(material) or False


def material_of(settings: TlsSettings) -> TlsMaterial:
    """Read the files. Raises TlsError."""
    if settings.sslmode == "disable":
        return TlsMaterial()
    certificate = _read("cert_file", settings.cert_file)
    key_file = settings.key_file or settings.cert_file
    key = _read("key_file", key_file, secret=True)
    authorities = _read("ca_file", settings.ca_file)
    return TlsMaterial(settings.sslmode, certificate, key, authorities, settings.min_protocol, settings.direct)


def end_point_of(der: bytes) -> bytes:
    """The hash for tls-server-end-point: by the hash of the certificate's signature, SHA-256 where that is weak.

    Empty where it has none: for Ed25519 and Ed448, RFC 5929 leaves the binding undefined, and OpenSSL tells PostgreSQL
    and libpq of no digest. No channel binding is offered then; what libpq would do with the offer is to fail.
    """
    signature = x509.Certificate.load(der)["signature_algorithm"]
    if signature["algorithm"].native in ("ed25519", "ed448"):
        return b""
    try:
        name = signature.hash_algo
        return hashlib.new("sha256" if name in ("md5", "sha1") else name, der).digest()
    except ValueError:
        return b""


def not_after_of(material: TlsMaterial) -> float | None:
    """When the first of the certificates that are shown expires, since 1970; None for none, or where none says."""
    moments = []
    try:
        for kind, _, der in pem.unarmor(material.certificate, multiple=True) if material.certificate else ():
            if kind.endswith("CERTIFICATE"):
                # What OpenSSL has read may still be written in a way that is not DER.
                moments.append(x509.Certificate.load(der).not_valid_after.timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
    return min(moments, default=None)


def _first_certificate(text: bytes) -> bytes:
    """The one that is shown; its key may stand before it."""
    try:
        return next(bytes(der) for kind, _, der in pem.unarmor(text, multiple=True) if kind.endswith("CERTIFICATE"))
    except (StopIteration, ValueError):
        raise TlsError("cert_file", "cannot be used: no certificate can be found in it") from None


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
        material = material_of(settings)
        if server_side:
            client_tls_of(material)
        else:
            server_context(material)
    except TlsError as error:
        yield error.key, str(error)


def _context(protocol: int, material: TlsMaterial) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = _VERSIONS[material.min_protocol]
    context.set_alpn_protocols([ALPN])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if material.certificate:
        try:
            with _as_file(material.certificate) as certificate, _as_file(material.key) as key:
                context.load_cert_chain(certificate, key, _passphrase)
        except OSError as error:
            name = "key_file" if isinstance(error, ssl.SSLError) and "KEY" in (error.reason or "") else "cert_file"
            raise TlsError(name, f"cannot be used: {_why(error)}") from None
    if material.authorities:
        try:
            with _as_file(material.authorities) as authorities:
                context.load_verify_locations(authorities)
        except OSError as error:
            raise TlsError("ca_file", f"cannot be used: {_why(error)}") from None
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path where OpenSSL finds it: the ssl module takes keys from files alone.

    The file is in memory and has no name but this one, which other users may not open; it is gone with the block.
    """
    fd = os.memfd_create("tls")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.fchmod(fd, 0o600)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _passphrase() -> str:
    # Else OpenSSL asks for it on the terminal, and everything waits for the answer.
    raise TlsError("key_file", "cannot be used: it has a passphrase")


def _read(setting: str, path: str, *, secret: bool = False) -> bytes:
    """A file's content; none where none is named. As PostgreSQL, a key that others may read is refused."""
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            allowed = stat.S_IRWXU | (stat.S_IRGRP if status.st_uid == 0 else 0)
            if secret and stat.S_IMODE(status.st_mode) & ~allowed:
                raise TlsError(setting, "cannot be used: others than its owner may read it (chmod 0600)")
            content = file.read()
    except OSError as error:
        raise TlsError(setting, f"cannot be used: {_why(error)}") from None
    if not content:
        raise TlsError(setting, "cannot be used: it is empty")
    return content


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return (error.strerror or str(error)).lower()
