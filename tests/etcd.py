"""A real etcd of one member on loopback, for tests to ask and to break."""

import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import httpx
import pytest

from middleware.sandbox.ports import free_port
from tests.certificates import Certificates

START_TIMEOUT_S = 30.0
PROGRAM = shutil.which("etcd")
NEEDED = "etcd is not installed here: apt-get install etcd-server"


def needs_etcd() -> None:
    """Skip without one: .ci/run installs it."""
    if PROGRAM is None:
        pytest.skip(NEEDED)


class Etcd:
    """Runs while the block does. `url` stays the same over restarts, and so does what is stored."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        """With certificates it speaks TLS alone, and wants a certificate of its clients."""
        needs_etcd()
        self._certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self._peer_port = free_port(), free_port()

    @property
    def url(self) -> str:
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="pointsman-etcd-"))
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self._peer_port}"
        command = [
            str(PROGRAM),
            "--data-dir",
            str(self._directory / "data"),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *(
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                f"default={peer}",
            ),
            *("--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap"),
        ]
        tls = self._certificates
        if tls is not None:
            command += ["--cert-file", tls.path("server.pem"), "--key-file", tls.path("server.key")]
            command += ["--client-cert-auth", "--trusted-ca-file", tls.path("ca.pem")]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._healthy():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline, (self._directory / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def ask(self, what: str, body: dict[str, object], token: str = "") -> dict[str, object]:
        """One request, beside the code under test."""
        headers = {"Authorization": token} if token else {}
        with httpx.Client(verify=self._tls(), trust_env=False, timeout=10) as client:
            answer: dict[str, object] = client.post(f"{self.url}/v3/{what}", json=body, headers=headers).json()
            return answer

    def _tls(self) -> ssl.SSLContext | bool:
        tls = self._certificates
        if tls is None:
            return True
        context = ssl.create_default_context(cafile=tls.path("ca.pem"))
        context.load_cert_chain(tls.path("app.pem"), tls.path("app.key"))
        return context

    def _healthy(self) -> bool:
        try:
            return "header" in self.ask("kv/range", {"key": "AA=="}) or self._wants_a_name()
        except (httpx.HTTPError, OSError):
            return False

    def _wants_a_name(self) -> bool:
        return "user name" in str(self.ask("kv/range", {"key": "AA=="}))
