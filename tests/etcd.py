"""A real etcd of one member on loopback, for tests to ask and to break."""

import shutil
import ssl
from pathlib import Path

import httpx

from middleware.sandbox.ports import free_port
from tests.certificates import Certificates
from tests.server_process import ServerProcess, needs

PROGRAM = shutil.which("etcd")
NEEDED = "etcd is not installed here: apt-get install etcd-server"


def needs_etcd() -> None:
    """Skip without one."""
    needs(PROGRAM, NEEDED)


class Etcd(ServerProcess):
    """Runs while the block does. `url` stays the same over restarts, and so does what is stored."""

    NAME = "etcd"

    def __init__(self, certificates: Certificates | None = None) -> None:
        """With certificates it speaks TLS alone, and wants a certificate of its clients."""
        needs_etcd()
        super().__init__()
        self._certificates = certificates
        self.port, self._peer_port = free_port(), free_port()

    @property
    def url(self) -> str:
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self.port}"

    def command(self, directory: Path) -> list[str]:
        peer = f"http://127.0.0.1:{self._peer_port}"
        command = [
            str(PROGRAM),
            "--data-dir",
            str(directory / "data"),
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
        return command

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

    def answers(self) -> bool:
        try:
            return "header" in self.ask("kv/range", {"key": "AA=="}) or self._wants_a_name()
        except (httpx.HTTPError, OSError):
            return False

    def _wants_a_name(self) -> bool:
        return "user name" in str(self.ask("kv/range", {"key": "AA=="}))
