"""Starting the process that takes over: what `pointsman restart` asks of the one that runs.

The running process starts the next, so that this has the same place as seen by systemd, the same environment, limits
and standard output, whoever has asked. It runs the program that is installed now, with the settings that the file has
now. In: how a Pointsman is started. Out: that another has taken over; or why not, in the words of that process, which
is gone then.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
import msgspec

from middleware import sqlstate
from middleware.errors import PointsmanError
from middleware.supervisor.succession import Succession

RESTART_S: Final = 400.0
"""For all of it: a failover that is going on is waited for."""
LOOK_S: Final = 0.05
_DETACHED: Final = ("/bin/sh", "-c", '"$@" &', "sh")
"""Starts a program, and ends at once."""
REPORT_BYTES_MAX: Final = 4096


class Restarted(msgspec.Struct, frozen=True):
    """Another process takes the clients from now on."""

    pid: int
    clients_before: int
    """Clients that the process before still has."""


class Restarting:
    """One Pointsman's."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Callable[[], Mapping[str, str]],
        detached: bool,
        succession: Succession,
        control: Callable[[], Path | None],
        clients: Callable[[], int],
        ending: Callable[[], bool],
    ) -> None:
        """`command`: `pointsman serve` with its options; nothing where it cannot be started by itself. `detached`: the
        next process is nobody's child but the first's of the system, which is told who it is, and waits for it."""
        self._command: Final = tuple(command)
        self._environment: Final = environment
        self._detached: Final = detached
        self._succession: Final = succession
        self._control: Final = control
        self._clients: Final = clients
        self._ending: Final = ending
        self.successor: subprocess.Popen[bytes] | None = None
        """The process that has taken over, where it is this one's child."""
        self._going_on = False

    async def restart(self) -> Restarted:
        """Raises PointsmanError; then all is as before. Cancelled, it takes back what it has begun, if it can."""
        self._may_restart()
        self._going_on = True
        try:
            ours, theirs = os.pipe()
            try:
                try:
                    process = self._start(theirs)
                finally:
                    os.close(theirs)
                os.set_blocking(ours, False)
                await self._until_over(process, ours)
            finally:
                os.close(ours)
        finally:
            self._going_on = False
        return Restarted(self._succession.successor_pid, self._clients() + self._succession.left())

    def _may_restart(self) -> None:
        if self._ending():
            raise PointsmanError("Pointsman is shutting down", sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE)
        if self._going_on or self._succession.after is not None or not self._succession.owns:
            raise PointsmanError("another Pointsman is taking over, or has taken over", sqlstate=sqlstate.OBJECT_IN_USE)
        if not self._command:
            raise PointsmanError(
                "this Pointsman cannot start another",
                detail="It was not started as a command of its own.",
                sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
            )

    def _start(self, report: int) -> subprocess.Popen[bytes]:
        """Raises PointsmanError."""
        command = [*self._command, "--take-over", "--from", str(self._control()), "--report", str(report)]
        if self._detached:
            command = [*_DETACHED, *command]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(report,),
                env=self._environment(),
                # Signals from a terminal are for this one, which passes them on.
                start_new_session=True,
            )
        except OSError as error:
            raise PointsmanError(
                "the next process could not be started",
                detail=f"{command[0]}: {(error.strerror or str(error)).lower()}.",
                sqlstate=sqlstate.EXTERNAL_ROUTINE_EXCEPTION,
            ) from None

    async def _until_over(self, process: subprocess.Popen[bytes], report: int) -> None:
        """Until it has taken over. Raises PointsmanError, and has ended it then."""
        said, ended = b"", False
        try:
            with anyio.move_on_after(RESTART_S):
                while not self._succession.over and not ended:
                    await anyio.sleep(LOOK_S)
                    with contextlib.suppress(BlockingIOError):
                        came = os.read(report, REPORT_BYTES_MAX)
                        said = (said + came)[:REPORT_BYTES_MAX]
                        # It has it open until it serves.
                        ended = not came
        finally:
            if not self._succession.over:
                # All of the session that it was started in.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            elif self._detached:
                process.wait()
            else:
                self.successor = process
        if not self._succession.over:
            raise PointsmanError(
                "the next process has not taken over: this one goes on as before",
                detail=said.decode(errors="replace").strip() or _ended(ended),
                hint="Its log says more.",
                sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
            )

    def pass_on(self, number: int) -> None:
        """A signal is for the process that has taken over, too."""
        if self.successor is not None:
            self.successor.send_signal(number)

    async def until_successor_ends(self) -> int:
        """Its exit status, as a shell has it; 0 where there is none."""
        process = self.successor
        if process is None:
            return 0
        descriptor = os.pidfd_open(process.pid)
        try:
            await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        status = process.wait()
        return status if status >= 0 else 128 - status


def _ended(ended: bool) -> str:
    return "It has ended." if ended else f"It has not taken over within {RESTART_S:g} s."
