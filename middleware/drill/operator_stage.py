"""An operator's own cluster as a stage, through a Pointsman that runs already with the settings given.

Nothing is started or stopped here. Nodes are broken and healed by the commands in [drill]; a worker is killed by us, so
that has to be on the machine where Pointsman runs, and as its user; a switchover is Pointsman's own.
"""

import os
import signal
from typing import Final, Self

from healthcheck import commands
from healthcheck.commands import CommandFailed, Place
from middleware.config import Settings
from middleware.config.fields import plain
from middleware.drill.acts import Act
from middleware.drill.errors import DrillError
from middleware.drill.ledger import Login
from middleware.drill.pointsman import Pointsman, at_path
from middleware.drill.replication import is_synchronous
from middleware.drill.scenarios import Drill

BY_US: Final = (Act.WORKER_CRASH, Act.SWITCHOVER)
"""What needs no command of the operator's."""


def refusal(drill: Drill, settings: Settings, *, meant: bool) -> str:
    """Why a drill is not to be played on this cluster; "" if it may be."""
    if not drill.harmless and not meant:
        return "it breaks what is in use: not without --i-mean-it"
    acts = {step.act for step in drill.steps if step.act not in BY_US}
    if acts and not settings.drill.break_command:
        return f"[drill] break_command: missing: it is to {', '.join(sorted(act.value for act in acts))} a node"
    heals = any(step.heals for step in drill.steps)
    if heals and not settings.drill.heal_command:
        return "[drill] heal_command: missing: it is to undo what break_command does"
    return ""


def login_of(settings: Settings, user: str, database: str) -> Login:
    """Where clients connect. Raises DrillError without a password to do it with."""
    addresses = settings.listen_addresses()
    host = addresses[0] if addresses else settings.unix_socket_dir
    if host in ("*", "0.0.0.0", "::"):  # noqa: S104  (it listens there; we connect by loopback)
        host = "127.0.0.1"
    known = {name: plain(one.password) for name, one in settings.users.items()}
    name = user or next((name for name, password in known.items() if password), "")
    password = known.get(name) or os.environ.get("PGPASSWORD")
    if not name or not password:
        raise DrillError("whom to log in as? --user names one with a password in [users], or in PGPASSWORD")
    return Login(host, settings.listen_port, name, password, database or name, "prefer")


class OperatorStage:
    """The cluster of a settings file."""

    disposable = False

    def __init__(self, settings: Settings, login: Login) -> None:
        path = settings.control_socket_path()
        if path is None:
            raise DrillError("control_socket: there is none by these settings, and a drill needs one")
        self.title = f"the cluster of {', '.join(settings.nodes)}"
        self.synchronous = False
        self.login = login
        self.pointsman = Pointsman(at_path(path))
        self._settings: Final = settings

    async def __aenter__(self) -> Self:
        self.synchronous = await is_synchronous(self.login)
        how = "synchronous" if self.synchronous else "asynchronous"
        self.title = f"the cluster of {', '.join(self._settings.nodes)}, {how} replication"
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def act(self, act: Act, node: str) -> None:
        if act is Act.SWITCHOVER:
            await self.pointsman.switchover(node)
        elif act is Act.WORKER_CRASH:
            await self._crash_worker(int(node))
        else:
            await self._command("break_command", act, node)

    async def heal(self, act: Act, node: str) -> None:
        await self._command("heal_command", act, node)

    async def former_rows(self, node: str) -> dict[tuple[int, int], int] | None:
        return None

    def log(self) -> str:
        return ""

    async def _command(self, key: str, act: Act, node: str) -> None:
        """Run one of the operator's."""
        primary = (await self.pointsman.view()).primary
        places = {
            name: Place(name, number, one.host, one.port, one.data_directory)
            for number, (name, one) in enumerate(self._settings.nodes.items())
        }
        values = commands.placeholders(places[node], places.get(primary or ""), places[node])
        drill = self._settings.drill
        try:
            await commands.run(getattr(drill, key), {**values, "b": act.value}, drill.command_timeout)
        except CommandFailed as error:
            raise DrillError(f"[drill] {key} for {act.value} of {node} {error}") from None

    async def _crash_worker(self, worker: int) -> None:
        pid = await self.pointsman.worker_pid(worker)
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError as error:
            raise DrillError(f"worker {worker}, process {pid}, could not be killed: {error.strerror}") from None
        await self.pointsman.until_gone(worker, pid)
