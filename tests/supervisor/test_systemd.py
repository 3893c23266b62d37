"""What systemd does for `pointsman serve`, done here: a datagram socket that is told, sockets that are open already."""

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest

from middleware.supervisor.activation import activated
from middleware.supervisor.listeners import StartError
from middleware.supervisor.notify import Notifier, environment_for_successor, notifier_of
from tests.supervisor.conftest import DEADLINE_S
from tests.supervisor.line import SERVE, Line, ask_for_tls, connect, free_port

LAUNCHER: Final = """
import os, sys
names, *descriptors = sys.argv[1].split(",")
for place, descriptor in enumerate(descriptors):
    os.dup2(int(descriptor), 3 + place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(descriptors)), LISTEN_FDNAMES=names)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Starts a program as systemd does one with sockets: in the same process, with the descriptors from 3 on."""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    one = Line(tmp_path)
    try:
        yield one
    finally:
        one.end()


class Systemd:
    """Who listens at NOTIFY_SOCKET."""

    def __init__(self, path: Path, *, abstract: bool = False) -> None:
        self.address: Final = f"@{path}" if abstract else str(path)
        self._socket: Final = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + self.address[1:] if abstract else self.address)
        self._heard: Final[queue.SimpleQueue[tuple[int, dict[str, str]]]] = queue.SimpleQueue()
        self.main = 0
        """MAINPID, as told."""
        # It reads all the time: the kernel keeps only a few datagrams.
        self._thread: Final = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            said, ancillary, _, _ = self._socket.recvmsg(4096, 1000)
            pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
            told = dict(line.split("=", 1) for line in said.decode().splitlines())
            if "BYE" in told:
                return
            self._heard.put((pid, told))

    def hears(self, timeout_s: float = DEADLINE_S) -> tuple[int, dict[str, str]]:
        """The next that it is told, and by whom. Others than the main process are not listened to."""
        while True:
            pid, told = self._heard.get(timeout=timeout_s)
            if self.main in (0, pid):
                self.main = int(told.get("MAINPID", self.main or pid))
                return pid, told

    def until(self, name: str, value: str | None = None) -> dict[str, str]:
        """Until it is told that."""
        while True:
            _, told = self.hears()
            if name in told and value in (None, told[name]):
                return told

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.sendto(b"BYE=1", "\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._thread.join(DEADLINE_S)
        self._socket.close()


@contextmanager
def systemd(path: Path, *, abstract: bool = False) -> Iterator[Systemd]:
    one = Systemd(path, abstract=abstract)
    try:
        yield one
    finally:
        one.close()


# sd_notify


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told_of_the_start_of_reloads_and_of_the_end(line: Line, abstract: bool) -> None:
    with systemd(line.directory / "notify", abstract=abstract) as told:
        line.process = line.start(environment={"NOTIFY_SOCKET": told.address})
        pid, said = told.hears()
        # Not before clients can come.
        assert pid == line.process.pid
        assert said["READY"] == "1"
        assert said["STATUS"] == "primary none; 0 clients, 0 waiting"
        with connect(line) as one:
            assert ask_for_tls(one) == b"N"
        began = time.monotonic_ns() // 1000
        line.process.send_signal(signal.SIGHUP)
        assert began <= int(told.until("RELOADING", "1")["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert "READY" in told.hears()[1]
        line.process.send_signal(signal.SIGTERM)
        assert told.until("STOPPING", "1")
        assert line.process.wait(DEADLINE_S) == 0


def test_the_watchdog_hears_of_the_loop_that_runs(line: Line) -> None:
    with systemd(line.directory / "notify") as told:
        line.process = line.start(environment={"NOTIFY_SOCKET": told.address, "WATCHDOG_USEC": "900000"})
        told.until("READY")
        for _ in range(3):
            told.until("WATCHDOG", "1")
        line.process.send_signal(signal.SIGSTOP)
        silent = False
        while not silent:
            try:
                told.hears(0.9)
            except queue.Empty:
                silent = True
        line.process.send_signal(signal.SIGCONT)
        told.until("WATCHDOG", "1")


def test_the_next_process_is_the_main_one_and_speaks_from_then_on(line: Line) -> None:
    with systemd(line.directory / "notify") as told:
        line.process = line.start(
            environment={"NOTIFY_SOCKET": told.address, "WATCHDOG_USEC": "900000", "WATCHDOG_PID": ""}
        )
        told.until("READY")
        with connect(line):
            second = line.restart()
            assert told.until("MAINPID") == {"MAINPID": str(second)}
            # What the first would say after that is a stranger's word; the test's systemd would not hear of the second
            # if it had spoken too early.
            assert told.until("READY")
            assert told.main == second
            # As the first's child it would end unseen: systemd hears of the end of its own.
            assert psutil.Process(second).ppid() != line.process.pid
            third = line.restart()
            assert told.until("MAINPID") == {"MAINPID": str(third)}
            told.until("WATCHDOG", "1")
        # Nobody waits for it as for the service.
        assert line.process.wait(DEADLINE_S) == 0


def test_nobody_is_told_where_nobody_asks() -> None:
    environment = {"NOTIFY_SOCKET": "/a", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7", "HOME": "/"}
    assert notifier_of(dict(environment), 8).watchdog_s == 0
    kept = dict(environment)
    notifier = notifier_of(kept, 7)
    assert (notifier.address, notifier.watchdog_s) == ("/a", 2.0)
    # No worker and no command of an operator's speaks for us, but who follows does.
    assert kept == {"HOME": "/"}
    told = {"NOTIFY_SOCKET": "/a", "WATCHDOG_USEC": "2000000", "HOME": "/"}
    assert environment_for_successor(notifier, kept) == told
    assert environment_for_successor(Notifier(), kept) == kept
    Notifier().ready("to nobody")


def test_a_socket_that_is_gone_is_no_reason_to_fail(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "gone")).ready("well")


# LISTEN_FDS


def open_socket(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    one.bind(address)
    one.listen(10)
    return one


def test_sockets_of_systemds_are_used_instead_of_the_settings_own_and_outlive_it(line: Line) -> None:
    line.port, web = free_port(), free_port()
    path = line.directory / "theirs"
    listening = [
        open_socket(socket.AF_INET, ("127.0.0.1", line.port)),
        open_socket(socket.AF_UNIX, str(path)),
        open_socket(socket.AF_INET, ("127.0.0.1", web)),
        open_socket(socket.AF_UNIX, str(line.directory / "control")),
    ]
    names = "pointsman.socket:pointsman.socket:http:control"
    line.configure(port=free_port(), more="http_port = 1")
    launched = (sys.executable, "-c", LAUNCHER, ",".join([names, *(str(one.fileno()) for one in listening)]))
    for one in listening:
        one.set_inheritable(True)
    command = (*launched, *SERVE[1:])
    with connect(line) as early:
        line.process = line.start(command=command, close_fds=False)
        # It has connected before there was a Pointsman.
        assert ask_for_tls(early) == b"N"
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(str(path))
        unix.settimeout(DEADLINE_S)
        assert ask_for_tls(unix) == b"N"
    with socket.create_connection(("127.0.0.1", web), DEADLINE_S) as one:
        one.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200" in one.recv(1000)
    assert not (line.directory / f".s.PGSQL.{line.port}").exists()
    # Its own processes have no more of it than they need.
    assert "LISTEN_FDS" not in Path(f"/proc/{line.status()['workers'][0]['pid']}/environ").read_text()
    second = line.restart()
    assert line.serving_pid() == second
    with connect(line) as late, connect(line) as later:
        assert ask_for_tls(late) == b"N"
        line.process.terminate()
        assert line.process.wait(DEADLINE_S) == 0
        # They are systemd's: who connects now waits for the next one.
        assert path.exists()
        assert (line.directory / "control").exists()
        later.close()
        with connect(line) as waiting:
            line.process = line.start(command=command, close_fds=False)
            assert ask_for_tls(waiting) == b"N"
    for one in listening:
        one.close()


def test_what_is_no_listening_socket_is_refused() -> None:
    pid = os.getpid()
    assert activated({}, pid) == []
    # For a process before this one.
    kept = {"LISTEN_PID": str(pid + 1), "LISTEN_FDS": "1"}
    assert activated(kept, pid) == []
    assert kept == {}
    with pytest.raises(StartError, match=r'LISTEN_FDS: a number is allowed, not "x"'):
        activated({"LISTEN_PID": str(pid), "LISTEN_FDS": "x"}, pid)


# The unit files

UNITS: Final = Path(__file__).parents[2] / "deploy" / "systemd"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_units_are_good_and_give_away_little(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/pointsman/bin/pointsman", sys.executable)
        (tmp_path / unit.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    assert [Path(unit).name for unit in units] == ["pointsman-http.socket", "pointsman.service", "pointsman.socket"]
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    ours = [line for line in checked.stderr.splitlines() if "pointsman" in line]
    assert (checked.returncode, ours) == (0, [])
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", tmp_path / "pointsman.service"],
        capture_output=True,
        text=True,
    )
    assert exposed.returncode == 0, exposed.stdout
