"""What a worker does with certificates and keys that it is told of: it uses them, or keeps those it has."""

import contextlib
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from healthcheck.topology import Topology
from middleware.auth import Access
from middleware.cache.versions import bytes_for
from middleware.config import TlsMaterial, TlsSettings, build_settings
from middleware.config.tls import material_of
from middleware.control import Configure, Down, Ready, SetAccess, SetTls, SetTopology
from middleware.framing import FrameReader, encode
from middleware.relay.shared import SHARED_BYTES
from middleware.supervisor.workers import WORKER_COMMAND
from tests.certificates import Certificates
from tests.waiting import eventually

SETTINGS = build_settings(
    {
        "health_check": {"user": "monitor", "password": "secret"},
        "nodes": {"db1": {"host": "127.0.0.1", "port": 1}},
        "users": {"app": {"password": "secret"}},
    }
)
BROKEN = TlsMaterial("require", b"nonsense", b"nonsense")


def shown(port: int) -> bytes | None:
    """The certificate that a client sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as client:
        return client.getpeercert(binary_form=True)


@contextlib.contextmanager
def working(output: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, int]]:
    """A worker's process that is configured, our end of its channel, and the port where it will listen."""
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    with ours, tempfile.TemporaryFile() as shared, tempfile.TemporaryFile() as versions, output.open("wb") as log:
        with theirs, listener:
            port = listener.getsockname()[1]
            shared.truncate(SHARED_BYTES)
            versions.truncate(bytes_for(1))
            inherited = theirs.fileno(), listener.fileno(), shared.fileno(), versions.fileno()
            process = subprocess.Popen([*WORKER_COMMAND, str(inherited[0])], pass_fds=inherited, stdout=log, stderr=log)
        ours.settimeout(30)
        try:
            settings = SETTINGS.worker_settings()
            tell(ours, Configure(0, 1, settings, inherited[1:2], 0, *inherited[2:]), SetAccess(Access()))
            yield process, ours, port
        finally:
            process.kill()
            process.wait()


def tell(channel: socket.socket, *messages: Down) -> None:
    channel.sendall(b"".join(map(encode, messages)))


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    certificates.issue("next", "localhost")
    first, second = (
        material_of(TlsSettings("require", certificates.path(f"{name}.pem"), certificates.path(f"{name}.key")))
        for name in ("server", "next")
    )
    log = tmp_path / "log"
    with working(log) as (process, channel, port):
        tell(channel, SetTls(first, TlsMaterial()), SetTopology(Topology()))
        reader = FrameReader()
        while Ready(0) not in reader.feed(channel.recv(1000)):
            pass
        before = shown(port)
        for count, wrong in enumerate((SetTls(BROKEN, TlsMaterial()), SetTls(second, BROKEN)), 1):
            tell(channel, wrong)
            eventually(lambda count=count: log.read_text().count("the old ones stay") == count)  # type: ignore[misc]
            assert shown(port) == before
        tell(channel, SetTls(second, TlsMaterial()))
        eventually(lambda: shown(port) != before)
        assert process.poll() is None
    assert "Traceback" not in log.read_text()


def test_without_any_nobody_is_taken(tmp_path: Path) -> None:
    """A worker that fell back to none would let in without TLS whom the settings let in by TLS alone."""
    with working(tmp_path / "log") as (process, channel, _):
        tell(channel, SetTls(BROKEN, TlsMaterial()), SetTopology(Topology()))
        assert process.wait(30) == 0
        assert Ready(0) not in FrameReader().feed(channel.recv(1000))
    assert "TlsError" in (tmp_path / "log").read_text()
