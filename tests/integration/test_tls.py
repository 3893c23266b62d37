"""TLS with clients: who gets it, who must have it, who shows what; and that nothing else changes by it."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import psycopg
import pytest
from asn1crypto import pem
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from psycopg import errors

from middleware.sandbox import Sandbox
from tests.certificates import Certificates, signed
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

SSL_REQUEST: Final = b"\0\0\0\x08\x04\xd2\x16\x2f"
MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def serving(cluster: Sandbox, directory: Path, **settings: Any) -> Iterator[tuple[Endpoint, pointsman]]:
    instance = pointsman(cluster, directory, **settings)
    with instance as endpoint:
        yield endpoint._replace(host="localhost"), instance


@pytest.fixture(scope="module")
def endpoint_with_tls(
    cluster: Sandbox, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Endpoint, pointsman]]:
    settings = certificates.server_settings(
        client_tls_sslmode="prefer", client_tls_ca_file=certificates.path("ca.pem"), consistency="primary"
    )
    with serving(cluster, tmp_path_factory.mktemp("tls"), **settings) as both:
        yield both


def connect(endpoint: Endpoint, certificates: Certificates, sslmode: str, **keys: str) -> psycopg.Connection[Any]:
    if sslmode.startswith("verify"):
        keys.setdefault("sslrootcert", certificates.path("ca.pem"))
    conninfo = psycopg.conninfo.make_conninfo(
        endpoint.conninfo(), sslmode=sslmode, gssencmode="disable", **{"sslcert": "", "sslkey": "", **keys}
    )
    return psycopg.connect(conninfo, autocommit=True)


def one(client: psycopg.Connection[Any], sql: str) -> Any:
    row = client.execute(sql).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("ours", MODES)
def test_who_gets_tls(cluster: Sandbox, certificates: Certificates, tmp_path: Path, ours: str) -> None:
    settings = certificates.server_settings(client_tls_sslmode=ours)
    if ours.startswith("verify"):
        settings["client_tls_ca_file"] = certificates.path("ca.pem")
    own = {"sslcert": certificates.path("app.pem"), "sslkey": certificates.path("app.key")}
    offered, enforced = ours != "disable", ours in MODES[3:]
    with serving(cluster, tmp_path, **settings) as (endpoint, _):
        for theirs in MODES:
            refused = (theirs == "disable" and enforced) or (theirs in MODES[3:] and not offered)
            if refused:
                with pytest.raises(psycopg.OperationalError, match=r"requires TLS|does not support SSL"):
                    connect(endpoint, certificates, theirs, **own)
                continue
            with connect(endpoint, certificates, theirs, **own) as client:
                # "allow" tries it without first.
                encrypted = enforced if theirs == "allow" else offered and theirs != "disable"
                assert bool(client.pgconn.ssl_in_use) == encrypted, theirs
                assert one(client, "SELECT 1") == 1


@pytest.mark.parametrize("ours", ["verify-ca", "verify-full"])
def test_a_client_must_show_a_certificate_of_the_authority(
    cluster: Sandbox, certificates: Certificates, tmp_path: Path, ours: str
) -> None:
    settings = certificates.server_settings(client_tls_sslmode=ours, client_tls_ca_file=certificates.path("ca.pem"))
    with serving(cluster, tmp_path, **settings) as (endpoint, instance):
        for name in ("", "other-app"):
            keys = {"sslcert": certificates.path(f"{name}.pem"), "sslkey": certificates.path(f"{name}.key")}
            with pytest.raises(psycopg.OperationalError):
                connect(endpoint, certificates, "require", **(keys if name else {}))
        log = instance.log()
        assert "peer did not return a certificate" in log.lower().replace("_", " ")
        assert "Traceback" not in log


def test_a_client_that_verifies_finds_out_who_it_is_not(
    endpoint_with_tls: tuple[Endpoint, pointsman], certificates: Certificates
) -> None:
    endpoint, _ = endpoint_with_tls
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect(endpoint, certificates, "verify-ca", sslrootcert=certificates.path("other-ca.pem"))
    elsewhere = endpoint._replace(host="127.0.0.2")
    with pytest.raises(psycopg.OperationalError):
        connect(elsewhere, certificates, "verify-full")


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_results_copies_and_cancels_over_tls(
    endpoint_with_tls: tuple[Endpoint, pointsman], certificates: Certificates, negotiation: str
) -> None:
    endpoint, _ = endpoint_with_tls
    with connect(endpoint, certificates, "verify-full", sslnegotiation=negotiation) as client:
        assert client.pgconn.ssl_in_use
        assert one(client, "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300000) i").startswith("c4ca")
        rows = b"".join(b"%d\t%s\n" % (number, b"x" * 1000) for number in range(5000))
        client.execute("CREATE TEMP TABLE copied (a int, b text)")
        with client.cursor().copy("COPY copied FROM STDIN") as copy:
            copy.write(rows)
        with client.cursor().copy("COPY copied TO STDOUT") as copy:
            assert b"".join(bytes(part) for part in copy) == rows
        client.pgconn.send_query(b"SELECT pg_sleep(60)")
        client.cancel_safe()
        result = client.pgconn.get_result()
        assert result is not None
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        assert client.pgconn.get_result() is None


def test_asyncpg_and_psql(endpoint_with_tls: tuple[Endpoint, pointsman], certificates: Certificates) -> None:
    endpoint, _ = endpoint_with_tls
    trusted = ssl.create_default_context(cafile=certificates.path("ca.pem"))

    async def ask(**keys: Any) -> Any:
        client = await asyncpg.connect(endpoint.url(), **keys)
        try:
            return await client.fetchval("SELECT $1::int", 5)
        finally:
            await client.close()

    assert asyncio.run(ask(ssl=trusted)) == 5
    # Which PostgreSQL demands as well, and asyncpg does not set by itself.
    trusted.set_alpn_protocols(["postgresql"])
    assert asyncio.run(ask(ssl=trusted, direct_tls=True)) == 5
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(ask(ssl=ssl.create_default_context(cafile=certificates.path("other-ca.pem"))))
    done = subprocess.run(
        ["psql", "-XAtc", r"\conninfo", "-c", "SELECT 7", f"{endpoint.conninfo()} sslmode=verify-full"],
        env={**os.environ, "PGSSLROOTCERT": certificates.path("ca.pem")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "TLSv1.3" in done.stdout
    assert done.stdout.splitlines()[-1] == "7"


def _raw(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection(("127.0.0.1", endpoint.port), timeout=10)


def _rest(client: socket.socket) -> bytes:
    """What comes until the end."""
    got = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        while data := client.recv(4096):
            got += data
    return got


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
def test_direct_tls_needs_postgresqls_protocol_by_name(
    endpoint_with_tls: tuple[Endpoint, pointsman], protocols: list[str]
) -> None:
    endpoint, instance = endpoint_with_tls
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    with _raw(endpoint) as plain, context.wrap_socket(plain) as client:
        assert _rest(client) == b""
    eventually(lambda: "no ALPN" in instance.log())


def test_what_is_sent_before_the_handshake_is_refused(endpoint_with_tls: tuple[Endpoint, pointsman]) -> None:
    endpoint, _ = endpoint_with_tls
    with _raw(endpoint) as client:
        client.sendall(SSL_REQUEST + b"SELECT")
        assert b"received unencrypted data after SSL request" in _rest(client)


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01\x00\x05hello" * 3, b"\x16", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_handshake_that_fails_leaves_nothing_behind(
    endpoint_with_tls: tuple[Endpoint, pointsman], certificates: Certificates, rubbish: bytes
) -> None:
    endpoint, instance = endpoint_with_tls
    [worker] = endpoint.workers()
    before = worker.num_fds()
    for first in (b"", SSL_REQUEST):
        for _ in range(10):
            with _raw(endpoint) as client:
                client.sendall(first)
                if first:
                    assert client.recv(1) == b"S"
                client.sendall(rubbish)
                client.shutdown(socket.SHUT_WR)
                _rest(client)
    eventually(lambda: worker.num_fds() <= before)
    assert "Traceback" not in instance.log()
    with connect(endpoint, certificates, "require") as client:
        assert one(client, "SELECT 1") == 1


def _shown(endpoint: Endpoint) -> bytes | None:
    """The certificate that is shown to a new client."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with _raw(endpoint) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain) as client:
            return client.getpeercert(binary_form=True)


def test_certificates_are_read_again(cluster: Sandbox, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with (
        serving(cluster, tmp_path, **certificates.server_settings(client_tls_sslmode="require")) as (endpoint, it),
        connect(endpoint, certificates, "verify-full") as client,
    ):
        before = _shown(endpoint)
        certificates.issue("server", "localhost")
        endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: _shown(endpoint) != before)
        assert one(client, "SELECT 1") == 1
        after = _shown(endpoint)
        Path(certificates.path("server.pem")).write_text("not a certificate")
        endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: "not reloaded" in it.log())
        assert "client_tls_cert_file: cannot be used" in it.log()
        assert _shown(endpoint) == after
        assert one(client, "SELECT 1") == 1


def test_a_worker_begins_with_what_was_found_good(cluster: Sandbox, tmp_path: Path) -> None:
    """However the files are, while they are being replaced."""
    certificates = Certificates(tmp_path)
    with serving(cluster, tmp_path, **certificates.server_settings(client_tls_sslmode="require"), workers=1) as (
        endpoint,
        it,
    ):
        before = _shown(endpoint)
        certificates.issue("next", "localhost")
        Path(certificates.path("server.pem")).write_bytes(Path(certificates.path("next.pem")).read_bytes())
        (worker,) = endpoint.workers()
        worker.kill()
        eventually(lambda: it.log().count("worker ready") == 2)
        assert _shown(endpoint) == before
        endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: "client_tls_key_file: cannot be used: key values mismatch" in it.log())
        Path(certificates.path("server.key")).write_bytes(Path(certificates.path("next.key")).read_bytes())
        endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: _shown(endpoint) != before)
        assert it.log().count("worker died") == 1


def test_a_certificate_whose_signature_has_no_hash(cluster: Sandbox, tmp_path: Path) -> None:
    """No channel can be bound to it: none is offered, and who does not insist comes in."""
    certificates = Certificates(tmp_path)
    key = ed25519.Ed25519PrivateKey.generate()
    Path(certificates.path("server.pem")).write_bytes(pem.armor("CERTIFICATE", signed(key, None)))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    Path(certificates.path("server.key")).write_bytes(key.private_bytes(*form))
    with serving(cluster, tmp_path, **certificates.server_settings(client_tls_sslmode="require")) as (endpoint, it):
        with connect(endpoint, certificates, "require") as client:
            assert one(client, "SELECT 1") == 1
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            connect(endpoint, certificates, "require", channel_binding="require")
        assert "Traceback" not in it.log()


def test_client_tls_min_protocol(cluster: Sandbox, certificates: Certificates, tmp_path: Path) -> None:
    for least, older_may in (("TLSv1.2", True), ("TLSv1.3", False)):
        settings = certificates.server_settings(client_tls_sslmode="require", client_tls_min_protocol=least)
        with serving(cluster, tmp_path, **settings) as (endpoint, it):
            with connect(endpoint, certificates, "require") as client:
                assert one(client, "SELECT 1") == 1
            older = {"ssl_min_protocol_version": "TLSv1.2", "ssl_max_protocol_version": "TLSv1.2"}
            if older_may:
                connect(endpoint, certificates, "require", **older).close()
            else:
                with pytest.raises(psycopg.OperationalError):
                    connect(endpoint, certificates, "require", **older)
                eventually(lambda: "UNSUPPORTED_PROTOCOL" in it.log())


def test_a_unix_socket_needs_no_tls(cluster: Sandbox, certificates: Certificates, tmp_path: Path) -> None:
    settings = certificates.server_settings(client_tls_sslmode="require", unix_socket_dir=str(tmp_path))
    with serving(cluster, tmp_path, **settings) as (endpoint, _):
        with connect(endpoint._replace(host=str(tmp_path)), certificates, "prefer") as client:
            assert one(client, "SELECT 1") == 1
        with pytest.raises((psycopg.OperationalError, errors.InvalidAuthorizationSpecification)):
            connect(endpoint, certificates, "disable")
